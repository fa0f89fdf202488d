/** A state machine as tests drive it: entries go through their wire form, and the state's invariants are checked. */
import assert from "node:assert/strict";
import type { ErrorCode } from "../../../src/lib/errors.ts";
import {
  type InodeId,
  rootInodeId,
  type SessionId,
  type UfsOpId,
  type WorkerId,
  type WriteId,
} from "../../../src/lib/ids.ts";
import { decode, encode } from "../../../src/lib/schema.ts";
import { type AppliedEntry, applyEntry, rangesOf } from "../../../src/master/state/machine.ts";
import { NewNames } from "../../../src/master/state/new-names.ts";
import { inodeAtEnd, inodeKey } from "../../../src/master/state/keys.ts";
import type { Inode, UfsOp } from "../../../src/master/state/model.ts";
import { inode, treeDirectory, ufsOp } from "../../../src/master/state/model.ts";
import { edgeOf, inodeOf, resolvePath } from "../../../src/master/state/queries.ts";
import {
  type Command,
  type CommandResult,
  type EntryPayload,
  entryPayload,
  newestLevel,
  type Request,
  type UfsEntry,
} from "../../../src/rpc/commands.ts";
import type { Caller, Extent, FileStatus } from "../../../src/rpc/namespace.ts";
import { UsageLedger } from "../../../src/master/state/usage-ledger.ts";
import { checkInvariants } from "./invariants.ts";
import { InspectableState } from "./inspectable-state.ts";

export type Done = Extract<CommandResult, { ok: true }>;
type Of<K extends Command["kind"]> = Extract<Command, { kind: K }>;

export const leader = 0 as SessionId;
export const blockSizeBytes = 100;

/** A request with what tests rarely say. */
export function requestOf(commands: readonly Command[], of: Partial<Request> = {}): Request {
  return { session: leader, sequence: 0, acknowledgedBelow: 0, atomic: false, commands, ...of };
}

export class Machine {
  readonly state = new InspectableState();
  readonly entries: EntryPayload[] = [];
  /** What it learned from the entries so far; undefined: it learns nothing. */
  newNames: NewNames | undefined = new NewNames();
  clusterTimeMs = 1000;
  /** Whether invariants are checked after each entry; they take time that grows with the state. */
  isChecked = true;
  /** Seconds of the leader's wall clock; moves on by itself. */
  wallSeconds = 1_700_000_000;
  #sequences = new Map<SessionId, number>();

  /** A cluster with the root loaded, as if its store were empty. */
  static make(level = newestLevel): Machine {
    const machine = new Machine();
    machine.done(bootstrapCommand);
    machine.done(pageOf(rootInodeId, [], { listedAtIndex: 1 }));
    machine.done({ kind: "raiseLevel", level });
    return machine;
  }

  get index(): number {
    return this.entries.length;
  }

  apply(...requests: Request[]): AppliedEntry {
    this.wallSeconds++;
    return this.applyEntry({
      clusterTimeMs: this.clusterTimeMs,
      wallTime: { sec: this.wallSeconds, nsec: 0 },
      requests,
    });
  }

  applyEntry(entry: EntryPayload): AppliedEntry {
    const received = decode(entryPayload, encode(entryPayload, entry), "entry");
    this.entries.push(received);
    const ranges = rangesOf(received, this.state);
    // In the heap all is at hand at once; what was not asked for is refused all the same.
    void this.state.load(ranges);
    const applied = applyEntry(this.state, this.index, received, this.newNames);
    this.state.release(ranges);
    this.state.applied(this.index, 1);
    if (this.isChecked) checkInvariants(this.state);
    return applied;
  }

  /** One command in an entry of its own. */
  run(command: Command, session: SessionId = leader): CommandResult {
    const sequence = this.#sequences.get(session) ?? 0;
    this.#sequences.set(session, sequence + 1);
    const request = requestOf([command], { session, sequence, acknowledgedBelow: sequence });
    return this.apply(request).results[0]![0]!;
  }

  /** As `run`, asked for by a user. */
  runAs(caller: Caller, command: Command, session: SessionId = leader): CommandResult {
    const sequence = this.#sequences.get(session) ?? 0;
    this.#sequences.set(session, sequence + 1);
    const request = requestOf([command], {
      session,
      sequence,
      acknowledgedBelow: sequence,
      caller,
    });
    return this.apply(request).results[0]![0]!;
  }

  /** Commands of one request, all done. */
  allDone(commands: readonly Command[], session: SessionId = leader): void {
    const sequence = this.#sequences.get(session) ?? 0;
    this.#sequences.set(session, sequence + 1);
    const request = requestOf(commands, { session, sequence, acknowledgedBelow: sequence });
    for (const result of this.apply(request).results[0]!) {
      assert.ok(result.ok, `refused: ${JSON.stringify(result)}`);
    }
  }

  done(command: Command, session: SessionId = leader): Done {
    const result = this.run(command, session);
    assert.ok(result.ok, `${command.kind} was refused: ${JSON.stringify(result)}`);
    return result;
  }

  refused(code: ErrorCode, command: Command, session: SessionId = leader): string {
    const before = this.state.entries("inode/");
    const result = this.run(command, session);
    assert.ok(!result.ok, `${command.kind} was done`);
    assert.equal(result.code, code, result.detail);
    const after = this.state.entries("inode/");
    // A lease that is not to be had is recalled.
    if (code !== "LeaseConflict") assert.deepEqual(after, before, "a refusal changed an inode");
    return result.detail;
  }

  openSession(timeoutMs = 30_000): SessionId {
    return this.done({ kind: "openSession", clientName: "test", timeoutMs }).id as SessionId;
  }

  worker(uuid: string): WorkerId {
    const address = "127.0.0.1:1";
    return this.done({ kind: "registerWorker", uuid, host: "host", address, tiers: [] })
      .id as WorkerId;
  }

  /** The status of a new file, directory … at an absolute path whose parent exists. */
  create(path: string, of: Partial<Of<"create">> = {}, session: SessionId = leader): FileStatus {
    return this.done(createCommand(this.at(parentOf(path)).id, nameOf(path), of), session).status!;
  }

  mkdir(path: string, of: Partial<Of<"create">> = {}): FileStatus {
    return this.create(path, { fileKind: "directory", ...of });
  }

  /** A file with `size` bytes in one write, as a client leaves it behind. */
  write(
    path: string,
    size: number,
    of: { keepers: readonly WorkerId[]; session: SessionId } & Partial<Of<"create">>,
  ): { inode: InodeId; writeId: WriteId } {
    const { keepers, session, ...rest } = of;
    const made = this.done(
      createCommand(this.at(parentOf(path)).id, nameOf(path), { lease: true, ...rest }),
      session,
    );
    const inode = made.status!.inode;
    const writeId = made.writeId!;
    const extents = extentsOver(writeId, 0, size);
    this.done(commitCommand({ inode, writeId, size, extents, keepers, release: true }), session);
    return { inode, writeId };
  }

  at(path: string): Inode {
    const found = resolvePath(this.state, path);
    assert.ok(found.found, `"${path}" does not exist`);
    return found.inode;
  }

  exists(path: string): boolean {
    return resolvePath(this.state, path).found;
  }

  inode(id: InodeId): Inode {
    return inodeOf(this.state, id)!;
  }

  child(parent: InodeId, name: string): InodeId | undefined {
    return edgeOf(this.state, parent, name)?.child;
  }

  /** Directories that operations on trees have not finished, and the name up to which each is done. */
  openTreeDirectories(): { directory: InodeId; after: string | undefined }[] {
    return this.state.entries("treedir/").map(([key, value]) => ({
      directory: inodeAtEnd(key),
      after: decode(treeDirectory, value, key).after,
    }));
  }

  /** Makes a directory one whose names in the store nobody has asked for yet. */
  unload(id: InodeId): void {
    const before = this.inode(id);
    this.state.write(inode, inodeKey(id), { ...before, loaded: false });
    const usage = new UsageLedger(this.state);
    usage.changed(before, this.inode(id));
    usage.write();
  }

  /** Side effects that wait, in order. */
  pending(): UfsOp[] {
    return this.state.entries("ufsop/").map(([key, value]) => decode(ufsOp, value, key));
  }

  /** Executes all that waits, as if a store did it. */
  settle(fingerprint = "print"): void {
    for (const op of this.pending()) this.ufsDone(op.id, { fingerprint });
  }

  ufsDone(op: UfsOpId, how: { fingerprint?: string; error?: string } = {}): CommandResult {
    return this.run({ kind: "ufsDone", op, fingerprint: how.fingerprint, error: how.error });
  }
}

export const bootstrapCommand: Of<"bootstrap"> = {
  kind: "bootstrap",
  clusterId: "cluster",
  clusterName: "weir",
  blockSizeBytes,
  rootUri: "file:///root",
  rootOptions: {},
  uid: 0,
  gid: 0,
};

export function createCommand(
  parent: InodeId,
  name: string,
  of: Partial<Of<"create">> = {},
): Of<"create"> {
  return {
    kind: "create",
    parent,
    name,
    fileKind: "file",
    mode: 0o644,
    uid: 1000,
    gid: 1000,
    target: undefined,
    lease: false,
    exclusive: true,
    writeType: undefined,
    ...of,
  };
}

export function commitCommand(
  of: Pick<Of<"commit">, "inode" | "writeId"> & Partial<Of<"commit">>,
): Of<"commit"> {
  return {
    kind: "commit",
    baseVersion: 1,
    size: 0,
    extents: [],
    keepers: [],
    mtime: undefined,
    release: false,
    ...of,
  };
}

/** Bytes [from, to) of a file, at the same place in the container. */
export function extentsOver(writeId: WriteId, from: number, to: number): Extent[] {
  const extents: Extent[] = [];
  for (let at = from; at < to; ) {
    const blockIndex = Math.floor(at / blockSizeBytes);
    const end = Math.min(to, (blockIndex + 1) * blockSizeBytes);
    const offset = at - blockIndex * blockSizeBytes;
    extents.push({ fileOffset: at, length: end - at, writeId, blockIndex, offset });
    at = end;
  }
  return extents;
}

export function entryOf(name: string, of: Partial<UfsEntry> = {}): UfsEntry {
  return {
    name,
    kind: "file",
    size: 250,
    mode: 0o644,
    uid: 7,
    gid: 8,
    mtime: { sec: 5, nsec: 6 },
    fingerprint: `print of ${name}`,
    target: undefined,
    ...of,
  };
}

export function pageOf(
  directory: InodeId,
  entries: readonly UfsEntry[],
  of: Partial<Of<"loadPage">> = {},
): Of<"loadPage"> {
  return { kind: "loadPage", directory, entries, listedAtIndex: 1_000_000, last: true, ...of };
}

export function parentOf(path: string): string {
  return path.slice(0, Math.max(1, path.lastIndexOf("/")));
}

export function nameOf(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}
