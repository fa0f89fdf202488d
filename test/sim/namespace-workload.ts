/**
 * Clients of the namespace: a few names in a few directories, so that their commands meet; and what is looked at when the
 * history is over.
 *
 * Invariants
 * 1. Each request of the committed log was answered as a plain tree answers it that executes every request once; and
 *    every client was told that answer, however often it asked.
 * 2. A linearizable read sees the tree as of its index.
 * 3. What is there in the end is what the plain tree has.
 */
import {
  type InodeId,
  rootInodeId,
  type SessionId,
  type UfsOpId,
  type WriteId,
} from "../../src/lib/ids.ts";
import { decode } from "../../src/lib/schema.ts";
import { listDirectory } from "../../src/master/services/listings.ts";
import { edgeOf } from "../../src/master/state/queries.ts";
import type { Entry } from "../../src/raft/types.ts";
import {
  type Command,
  type CommandResult,
  entryPayload,
  type Request,
} from "../../src/rpc/commands.ts";
import { entryOf, NamespaceMachine, registered, workerId } from "./namespace-machine.ts";
import { type Expected, PlainTree } from "./plain-tree.ts";
import { sessionCount } from "./session-rows.ts";
import type { ClientRequest, Outcome, StateMachine, Workload } from "./state-machine.ts";
import { require } from "./violation.ts";
import type { World } from "./world.ts";

const names = ["a", "b", "c"];
/** Inodes that clients take from are the root and the latest of those that they were told of. */
const knownInodes = 12;
const fewInodes = 6;

/** Write leases that clients try to use are the latest that any of them was given. */
const knownWrites = 8;
const blockSizeBytes = 100;

/** A write lease that a client was given. */
interface Write {
  readonly session: number;
  readonly inode: InodeId;
  readonly version: number;
  readonly writeId: WriteId;
}

/** What a read saw. */
interface Look {
  readonly parent: InodeId;
  readonly name: string;
  readonly child: number | undefined;
}

/** A committed request, as the first node that applied it answered. */
interface Executed {
  readonly request: Request;
  readonly served: Outcome["served"];
  readonly answer: string;
}

export class NamespaceWorkload implements Workload {
  readonly #world: World;
  /** By index; entries without a request are not there. */
  readonly #history = new Map<number, Executed>();
  readonly #looks = new Map<number, Look[]>();
  readonly #directories: InodeId[] = [];
  readonly #files: InodeId[] = [];
  readonly #writes: Write[] = [];
  #lastIndex = 0;

  constructor(world: World) {
    this.#world = world;
  }

  newMachine(): StateMachine {
    return new NamespaceMachine();
  }

  draw(session: number): (request: ClientRequest) => Uint8Array {
    const { random } = this.#world;
    const count = random.below(3) === 0 ? 2 + random.below(4) : 1;
    const commands = Array.from({ length: count }, () => this.#drawCommand(session));
    const atomic = random.below(3) === 0;
    return (request) => this.#entry(request, commands, atomic);
  }

  drawUnanswered(): Uint8Array {
    const request = { session: 0, sequence: 0, acknowledgedBelow: 0 };
    return this.#entry(request, [this.#drawLeaderCommand()], false);
  }

  onApplied({ index, payload, kind }: Entry, { served, answer }: Outcome): void {
    this.#lastIndex = Math.max(this.#lastIndex, index);
    if (kind !== "command") return;
    const known = this.#history.get(index);
    if (known !== undefined) {
      require(known.served === served && known.answer === answer, () =>
        `entry ${index} is answered ${answer}, elsewhere ${known.answer}`);
      return;
    }
    const request = decode(entryPayload, payload, "entry").requests[0]!;
    this.#history.set(index, { request, served, answer });
  }

  onAnswered(position: number, answer: string): void {
    const executed = this.#history.get(position);
    require(executed !== undefined && executed.answer === answer, () =>
      `a client is told ${answer} of the request that ran at ${position}: ${executed?.answer ?? "none"}`);
    const { session } = executed.request;
    for (const result of JSON.parse(answer) as CommandResult[]) {
      this.#world.count(result.ok ? "commands done" : "commands refused");
      if (!result.ok || result.status === undefined) continue;
      const { inode, version, kind } = result.status;
      const { writeId } = result;
      keepLast(kind === "directory" ? this.#directories : this.#files, inode, knownInodes);
      if (writeId === undefined) continue;
      keepLast(this.#writes, { session, inode, version, writeId }, knownWrites);
    }
  }

  look(machine: StateMachine): void {
    if (!(machine instanceof NamespaceMachine)) return;
    const parent = this.#drawDirectory();
    const name = this.#drawName();
    const looks = this.#looks.get(machine.index) ?? [];
    looks.push({ parent, name, child: edgeOf(machine.store, parent, name)?.child });
    this.#looks.set(machine.index, looks);
    this.#world.count("names looked up");
  }

  async check(machine: StateMachine): Promise<void> {
    if (!(machine instanceof NamespaceMachine)) return;
    let tree = new PlainTree();
    const answered = new Map<string, string>();
    for (let index = 0; index <= machine.index; index++) {
      const executed = this.#history.get(index);
      if (executed !== undefined) tree = this.#replay(tree, executed, index, answered);
      for (const { parent, name, child } of this.#looks.get(index) ?? []) {
        require(tree.child(parent, name) === child, () =>
          `a read at ${index} sees ${child ?? "nothing"} at "${name}" in ${parent}, ` +
          `there is ${tree.child(parent, name) ?? "nothing"}`);
      }
    }
    for (const [directory, children] of tree.directories()) {
      const range = { after: undefined, limit: 1000 };
      const { entries } = await listDirectory(machine.store, directory as InodeId, range);
      const found = entries.map(({ name, status }) => `${name} ${status.inode} ${status.mode}`);
      const wanted = [...children]
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([name, id]) => `${name} ${id} ${tree.mode(id) ?? 0}`);
      require(found.join() === wanted.join(), () =>
        `directory ${directory} holds ${found.join()}, it should hold ${wanted.join()}`);
    }
  }

  /** Executes a request of the log; `tree` is not used any more. */
  #replay(
    tree: PlainTree,
    { request, served, answer }: Executed,
    index: number,
    answered: Map<string, string>,
  ): PlainTree {
    const { session, sequence, commands, atomic } = request;
    const key = `${session} ${sequence}`;
    const before = session === 0 ? undefined : answered.get(key);
    if (served === "refuse") return tree;
    require((served === "replay") === (before !== undefined), () =>
      `request ${key} at ${index} is served by ${served ?? "nothing"}, it had ${before ?? "no"} answer`);
    if (before !== undefined) {
      require(before === answer, () => `request ${key} is answered ${answer}, before ${before}`);
      return tree;
    }
    answered.set(key, answer);
    if (session === 0) return tree;
    const results = JSON.parse(answer) as CommandResult[];
    // What an atomic request did before one of its commands was refused is taken back.
    const culprit = atomic
      ? results.findIndex((result) => !result.ok && result.code !== "Cancelled")
      : -1;
    const target = culprit < 0 ? tree : tree.copy();
    for (const [place, command] of commands.entries()) {
      if (culprit >= 0 && place > culprit) break;
      const result = results[place]!;
      const expected: Expected = target.execute(command, result);
      if (expected === undefined) continue;
      const isTakenBack = culprit >= 0 && place < culprit;
      const said = isTakenBack || result.ok ? "done" : result.code;
      require(said === expected, () =>
        `${JSON.stringify(command)} at ${index} is answered ${answer}, wanted ${expected}`);
    }
    return tree;
  }

  #entry(request: ClientRequest, commands: readonly Command[], atomic: boolean): Uint8Array {
    const { timeline, random } = this.#world;
    // Leaders' clocks differ, and go back.
    const clusterTimeMs = Math.max(0, Math.floor(timeline.nowMs) - random.below(500));
    const sec = 1_700_000_000 + Math.floor(timeline.nowMs / 1000) - random.below(3);
    const wallTime = { sec, nsec: random.below(1e9) };
    return entryOf(request, { commands, atomic }, { clusterTimeMs, wallTime });
  }

  #drawName(): string {
    return names[this.#world.random.below(names.length)]!;
  }

  /** Rather one in which the others look too; seldom one that is none. */
  #drawDirectory(): InodeId {
    const { random } = this.#world;
    if (random.below(2) === 0) return rootInodeId;
    return random.below(12) === 0 ? this.#drawFile() : this.#oneOf(this.#directories);
  }

  #drawFile(): InodeId {
    const { random } = this.#world;
    return random.below(12) === 0 ? this.#drawDirectory() : this.#oneOf(this.#files);
  }

  #oneOf(inodes: readonly InodeId[]): InodeId {
    return inodes[this.#world.random.below(Math.max(1, inodes.length))] ?? rootInodeId;
  }

  #drawCommand(session: number): Command {
    const { random } = this.#world;
    const parent = this.#drawDirectory();
    const name = this.#drawName();
    const isHeld = random.below(4) === 0;
    const isNew = this.#files.length + this.#directories.length < fewInodes;
    // Until there is something, something is made.
    switch (random.below(isNew ? 5 : 15)) {
      case 0:
      case 1:
      case 2:
      case 3: {
        const isFile = random.below(2) === 0;
        const exclusive = random.below(3) > 0;
        return {
          kind: "create",
          parent,
          name,
          fileKind: isFile ? "file" : "directory",
          mode: random.below(0o1000),
          uid: 1000,
          gid: 1000,
          target: undefined,
          // One that exists may be leased to somebody else.
          lease: isFile && exclusive && random.below(2) === 0,
          exclusive,
          writeType: isHeld ? "MUST_CACHE" : undefined,
        };
      }
      case 4:
        return { kind: "link", inode: this.#drawFile(), parent, name };
      case 5:
        return { kind: "unlink", parent, name, held: isHeld };
      case 6:
        return { kind: "rmdir", parent, name };
      case 7:
        return { kind: "deleteTree", parent, name };
      case 8:
      case 9:
        return {
          kind: "rename",
          sourceParent: parent,
          sourceName: name,
          targetParent: this.#drawDirectory(),
          targetName: this.#drawName(),
          noReplace: isHeld,
        };
      case 10:
        return { kind: "lease", inode: this.#drawFile() };
      case 11:
      case 12:
      case 13:
        return this.#drawContentCommand(session, isHeld);
      default: {
        const mode = isHeld ? undefined : random.below(0o1000);
        const attributes = { uid: undefined, gid: undefined, atime: undefined, mtime: undefined };
        const inode = random.below(2) === 0 ? parent : this.#drawFile();
        return { kind: "setAttributes", inode, mode, ...attributes };
      }
    }
  }

  #drawContentCommand(session: number, isLast: boolean): Command {
    const { random } = this.#world;
    const own = this.#writes.filter((each) => each.session === session);
    const writes = own.length > 0 ? own : this.#writes;
    const write = writes[random.below(Math.max(1, writes.length))];
    const inode = this.#drawFile();
    const size = random.below(3 * blockSizeBytes);
    if (write === undefined || random.below(4) === 0) {
      return isLast ? { kind: "release", inode } : { kind: "truncate", inode, size };
    }
    const { writeId } = write;
    if (random.below(6) === 0) return { kind: "releaseLease", inode: write.inode, writeId };
    const blocks = Math.ceil(size / blockSizeBytes);
    return {
      kind: "commit",
      inode: write.inode,
      writeId,
      baseVersion: write.version,
      size,
      extents: Array.from({ length: blocks }, (_, blockIndex) => {
        const fileOffset = blockIndex * blockSizeBytes;
        const length = Math.min(blockSizeBytes, size - fileOffset);
        return { fileOffset, length, writeId, blockIndex, offset: 0 };
      }),
      keepers: [workerId],
      mtime: undefined,
      release: isLast,
    };
  }

  /** Of sessions that are none of the clients'. */
  #drawLeaderCommand(): Command {
    const { random } = this.#world;
    // One that was opened by an entry of its own, or none.
    const session = (random.below(this.#lastIndex + 2) * 1024 + 1024) as SessionId;
    switch (random.below(8)) {
      case 0:
        return random.below(4) === 0 ? { kind: "workerLost", worker: workerId } : registered;
      case 1:
      case 2: {
        const op = random.below(this.#lastIndex + 2) as UfsOpId;
        return { kind: "ufsDone", op, fingerprint: "print", error: undefined };
      }
      case 3:
      case 4:
        return { kind: "openSession", clientName: "passing", timeoutMs: 1000 };
      case 5:
        return { kind: "closeSession", session };
      default:
        return { kind: "touchSessions", sessions: [session, sessionCount as SessionId] };
    }
  }
}

function keepLast<T>(list: T[], value: T, count: number): void {
  list.push(value);
  list.splice(0, list.length - count);
}
