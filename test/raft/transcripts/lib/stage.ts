/**
 * The stage of a transcript: cores with a disk, a state machine and links, where nothing moves but what the script says.
 * Everything that a core puts out becomes a line.
 *
 * - A disk writes at once, unless it is `held`; then each write waits for its turn, and so do the messages behind it.
 * - Messages lie on their link until they are delivered or dropped. A cut link loses what is sent over it.
 * - A state machine applies at once, and has on its own disk what `compact` and snapshots put there.
 * - A crash keeps what was written. Election timeouts are 10 ticks and the node's number: with 10 ticks of silence a node
 *   votes for others, but campaigns only after some more.
 */
import assert from "node:assert/strict";
import { decodeConfiguration } from "../../../../src/raft/configuration-codec.ts";
import { type Input, type Output, RaftCore } from "../../../../src/raft/core.ts";
import type { MemberChange } from "../../../../src/raft/member-change.ts";
import { startingLog } from "../../../../src/raft/starting-log.ts";
import type { CoreOptions, Persist } from "../../../../src/raft/state.ts";
import type {
  Configuration,
  Entry,
  HardState,
  Index,
  Message,
  NodeId,
  Term,
} from "../../../../src/raft/types.ts";
import { configurationWords, entryWords, messageWords } from "./words.ts";

const electionTicks = 10;
const heartbeatTicks = 2;

export interface StageOptions {
  readonly maxAppendBytes?: number;
  readonly maxInflight?: number;
}

/** What survives a crash. */
interface Disk {
  hardState: HardState;
  base: { index: Index; term: Term };
  entries: Entry[];
}

/** What a state machine holds: all up to `index`, and the configuration that it saw last, at `configurationIndex`. */
interface Machine {
  readonly index: Index;
  readonly term: Term;
  readonly configuration: Configuration;
  readonly configurationIndex: Index;
}

interface Write {
  readonly persist: Persist | undefined;
  readonly messages: readonly Message[];
}

interface Node {
  readonly id: NodeId;
  core: RaftCore | undefined;
  readonly disk: Disk;
  machine: Machine;
  /** As its own disk has it. */
  flushed: Machine;
  isHeld: boolean;
  writes: Write[];
  /** What was last told of it. */
  told: { readonly role: string; readonly commit: number; readonly configuration: string };
}

export class Stage {
  readonly #options: StageOptions;
  readonly #nodes = new Map<NodeId, Node>();
  /** On their links, in the order of sending. */
  #messages: Message[] = [];
  readonly #cut = new Set<string>();
  readonly #slow = new Set<string>();
  readonly #snapshots = new Map<string, Machine>();
  #lines: string[] = [];
  /** Messages and writes are not told. */
  isQuiet = false;

  /** The configuration that all nodes begin with. */
  readonly #first: Configuration;

  constructor(ids: readonly NodeId[], options: StageOptions) {
    this.#options = options;
    this.#first = { voters: ids, outgoing: [], learners: [] };
    for (const id of ids) this.join(id);
  }

  /** The lines since the last call. */
  takeLines(): string[] {
    const lines = this.#lines;
    this.#lines = [];
    return lines;
  }

  get ids(): readonly NodeId[] {
    return [...this.#nodes.keys()];
  }

  /** A node with an empty disk, which knows who the first members were. */
  join(id: NodeId): void {
    assert(!this.#nodes.has(id), `node ${id} is there already`);
    const machine = {
      index: 0 as Index,
      term: 0 as Term,
      configuration: this.#first,
      configurationIndex: 0 as Index,
    };
    const node: Node = {
      id,
      core: undefined,
      disk: {
        hardState: { term: 0 as Term, vote: undefined },
        base: { index: 0 as Index, term: 0 as Term },
        entries: [],
      },
      machine,
      flushed: machine,
      isHeld: false,
      writes: [],
      told: { role: "", commit: 0, configuration: "" },
    };
    this.#nodes.set(id, node);
    this.#start(node);
  }

  /** Starts a node anew with a log of commands of these terms, of which the last is its own term unless one is given. */
  setLog(id: NodeId, terms: readonly number[], term = terms.at(-1) ?? 0): void {
    const node = this.#node(id);
    node.disk.hardState = { term: term as Term, vote: undefined };
    node.disk.entries = terms.map((each, place) => ({
      index: (place + 1) as Index,
      term: each as Term,
      kind: "command",
      payload: Buffer.from(`${place + 1}@${each}`),
    }));
    this.#start(node);
  }

  // Nodes

  /** Ticks a node, or all of them in turn, so many times. */
  tick(ids: readonly NodeId[], count: number): void {
    for (let i = 0; i < count; i++) for (const id of ids) this.step(id, { kind: "tick" });
  }

  /** Lets a node alone tick until it campaigns. */
  campaign(id: NodeId): void {
    const core = this.#running(id);
    assert.equal(core.role, "follower", `${id} does not follow`);
    for (let i = 0; i < 3 * electionTicks && core.role === "follower"; i++) {
      this.step(id, { kind: "tick" });
    }
    if (core.role === "follower") this.#say(`${id} does not campaign`);
  }

  /** Makes a leader of a node whose others hear none, and delivers everything. */
  elect(id: NodeId): void {
    const before = this.#lines.length;
    this.campaign(id);
    this.settle();
    const core = this.#running(id);
    assert.equal(core.role, "leader", `${id} was not elected`);
    this.#lines.length = before;
    this.#say(`${id} is ${roleWords(core)}`);
  }

  /** Proposes all texts in one turn. */
  propose(id: NodeId, texts: readonly string[]): void {
    const core = this.#running(id);
    for (const text of texts) {
      const proposed = core.propose(Buffer.from(text));
      if (!proposed.ok) this.#say(`${id} refuses "${text}": ${proposed.code}`);
    }
    this.#carryOut(this.#node(id));
  }

  /** Asks for all these reads in one turn. */
  read(id: NodeId, reads: readonly number[]): void {
    for (const each of reads) this.#running(id).step({ kind: "read", id: each });
    this.#carryOut(this.#node(id));
  }

  changeMembers(id: NodeId, change: MemberChange): void {
    const changed = this.#running(id).changeMembers(change);
    if (!changed.ok) this.#say(`${id} refuses, ${changed.code}: ${changed.reason}`);
    this.#carryOut(this.#node(id));
  }

  transfer(id: NodeId, target: NodeId | undefined): void {
    const started = this.#running(id).transfer(target);
    if (!started.ok) this.#say(`${id} refuses, ${started.code}: ${started.reason}`);
    this.#carryOut(this.#node(id));
  }

  step(id: NodeId, input: Input): void {
    this.#running(id).step(input);
    this.#carryOut(this.#node(id));
  }

  crash(id: NodeId): void {
    const node = this.#node(id);
    this.#running(id);
    node.core = undefined;
    node.writes = [];
  }

  restart(id: NodeId): void {
    const node = this.#node(id);
    assert(node.core === undefined, `${id} runs`);
    this.#start(node);
    this.#say(`${id} restarts: ${stateWords(node.core!)}`);
    this.#carryOut(node);
  }

  // Disks

  /** From now on the writes of this node wait for `persist`. */
  holdDisk(id: NodeId): void {
    this.#node(id).isHeld = true;
  }

  /** Makes the oldest `count` waiting writes durable. */
  persist(id: NodeId, count: number): void {
    const node = this.#node(id);
    assert(node.writes.length >= count, `${id} has ${node.writes.length} writes under way`);
    for (let i = 0; i < count; i++) this.#finishWrite(node, node.writes.shift()!);
  }

  /** The disk is full: term and vote of all waiting writes are durable, their entries go on waiting. */
  persistTerm(id: NodeId): void {
    const node = this.#node(id);
    for (const { persist } of node.writes) {
      if (persist === undefined) continue;
      if (persist.hardState !== undefined) node.disk.hardState = persist.hardState;
      node.core!.step({ kind: "hardStatePersisted", sequence: persist.sequence });
    }
    this.#tell(`${id} has written term ${node.disk.hardState.term}`);
    this.#carryOut(node);
  }

  /** Finishes what waits, and writes at once from now on. */
  releaseDisk(id: NodeId): void {
    const node = this.#node(id);
    node.isHeld = false;
    while (node.writes.length > 0) this.#finishWrite(node, node.writes.shift()!);
  }

  /** Puts what is applied on the state machine's disk, and forgets the log up to `index`. */
  compact(id: NodeId, index: number): void {
    const node = this.#node(id);
    const core = this.#running(id);
    node.flushed = node.machine;
    const term = core.termAt(index)!;
    core.step({ kind: "compact", index: index as Index });
    node.disk.entries = node.disk.entries.filter((entry) => entry.index > index);
    node.disk.base = { index: index as Index, term };
    this.#carryOut(node);
  }

  // Links

  /** Delivers what lies on the links that match, or the first `count` of it. What that sets off stays on its link. */
  deliver(isChosen: (link: string) => boolean, count = Number.POSITIVE_INFINITY): number {
    const chosen = this.#messages.filter((each) => isChosen(linkOf(each))).slice(0, count);
    this.#messages = this.#messages.filter((each) => !chosen.includes(each));
    for (const message of chosen) {
      const node = this.#node(message.to);
      if (node.core === undefined) this.#tell(`${messageWords(message)} (${message.to} is down)`);
      else this.step(message.to, { kind: "receive", message });
    }
    return chosen.length;
  }

  /** Delivers everything on links that are not slow, until there is nothing more. */
  settle(): void {
    for (let rounds = 0; this.deliver((link) => !this.#slow.has(link)) > 0; rounds++) {
      assert(rounds < 1000, "it never settles");
    }
  }

  /** Loses what lies on the links that match, or the first `count` of it. */
  drop(isChosen: (link: string) => boolean, count = Number.POSITIVE_INFINITY): void {
    const chosen = this.#messages.filter((each) => isChosen(linkOf(each))).slice(0, count);
    this.#messages = this.#messages.filter((each) => !chosen.includes(each));
    for (const message of chosen) this.#tell(`lost: ${messageWords(message)}`);
  }

  /** Puts what lies on the links that match there a second time. */
  duplicate(isChosen: (link: string) => boolean): void {
    const chosen = this.#messages.filter((each) => isChosen(linkOf(each)));
    this.#messages.push(...chosen.map((each) => ({ ...each })));
  }

  /** Cuts these links; what lies on them is lost. */
  cut(links: readonly string[]): void {
    for (const link of links) this.#cut.add(link);
    this.#messages = this.#messages.filter((each) => !this.#cut.has(linkOf(each)));
  }

  /** `settle` leaves these links out. */
  slow(links: readonly string[]): void {
    for (const link of links) this.#slow.add(link);
  }

  heal(): void {
    this.#cut.clear();
    this.#slow.clear();
  }

  // Snapshots

  /** Takes the sender's state as it is now. */
  startSnapshot(from: NodeId, to: NodeId): void {
    const { machine } = this.#node(from);
    this.#snapshots.set(`${from}->${to}`, machine);
    this.#say(`${from} takes a snapshot at ${machine.index}@${machine.term}`);
  }

  /** The receiver has it all, and changes over to it when it brings it forward. */
  installSnapshot(from: NodeId, to: NodeId): void {
    const snapshot = this.#snapshots.get(`${from}->${to}`);
    assert(snapshot !== undefined, `no snapshot is on its way from ${from} to ${to}`);
    const node = this.#node(to);
    if (snapshot.index > node.machine.index) {
      node.machine = snapshot;
      node.flushed = snapshot;
    }
    this.step(to, { kind: "installed", from, ...snapshot });
  }

  /** The sender's transfer is over, well or not. */
  endSnapshot(from: NodeId, to: NodeId): void {
    this.#snapshots.delete(`${from}->${to}`);
    this.step(from, { kind: "snapshotDone", to, ok: false, index: 0 as Index });
  }

  // Words

  show(ids: readonly NodeId[]): void {
    for (const id of ids) {
      const { core } = this.#node(id);
      this.#lines.push(`  ${id}: ${core === undefined ? "down" : stateWords(core)}`);
    }
  }

  /** What a leader knows of the others. */
  showProgress(id: NodeId): void {
    const core = this.#running(id);
    for (const other of this.ids) {
      const progress = core.progressOf(other);
      if (progress === undefined) continue;
      const { state, matchIndex, isActive } = progress;
      const silent = isActive ? "" : ", silent";
      this.#lines.push(`  to ${other}: ${state}, has up to ${matchIndex}${silent}`);
    }
  }

  #tell(text: string): void {
    if (!this.isQuiet) this.#lines.push(`  ${text}`);
  }

  #say(text: string): void {
    this.#lines.push(`  ${text}`);
  }

  // Carrying out

  #node(id: NodeId): Node {
    const node = this.#nodes.get(id);
    assert(node !== undefined, `there is no node ${id}`);
    return node;
  }

  #running(id: NodeId): RaftCore {
    const { core } = this.#node(id);
    assert(core !== undefined, `${id} is down`);
    return core;
  }

  #start(node: Node): void {
    const { disk, flushed } = node;
    const journal = { entries: disk.entries, baseIndex: disk.base.index, baseTerm: disk.base.term };
    const options: CoreOptions = {
      id: node.id,
      configuration: flushed.configuration,
      configurationIndex: flushed.configurationIndex,
      hardState: disk.hardState,
      ...startingLog(journal, flushed),
      appliedIndex: flushed.index,
      electionTicks,
      heartbeatTicks,
      // Small numbers are election timeouts; large ones are where the numbers of requests begin.
      random: { below: (limit) => (limit <= electionTicks ? Number(node.id) % limit : 0) },
      ...this.#options,
    };
    node.core = new RaftCore(options);
    node.machine = flushed;
    node.told = {
      role: roleWords(node.core),
      commit: node.core.commitIndex,
      configuration: configurationWords(node.core.configuration),
    };
  }

  /** Takes and carries out outputs until there is nothing more to do but what waits for the script. */
  #carryOut(node: Node): void {
    const core = node.core!;
    for (;;) {
      const output = core.take();
      this.#tellChanges(node);
      for (const message of output.send) this.#send(message);
      const { persist, sendAfterPersist: messages } = output;
      this.#write(node, { persist, messages });
      for (const to of output.snapshots) this.#say(`${node.id} wants to send a snapshot to ${to}`);
      this.#apply(node, output);
      for (const { id, index } of output.reads) {
        this.#say(
          index === undefined
            ? `${node.id} fails read ${id}`
            : `${node.id} answers read ${id} with what is at ${index}`,
        );
      }
      if (isEmpty(output)) return;
    }
  }

  #tellChanges(node: Node): void {
    const core = node.core!;
    const role = roleWords(core);
    const commit = core.commitIndex;
    const configuration = configurationWords(core.configuration);
    if (role !== node.told.role) this.#say(`${node.id} is ${role}`);
    if (configuration !== node.told.configuration) {
      this.#say(`${node.id} has configuration ${configuration}`);
    }
    if (commit !== node.told.commit) this.#say(`${node.id} commits up to ${commit}`);
    node.told = { role, commit, configuration };
  }

  #send(message: Message): void {
    const link = linkOf(message);
    const isLost = this.#cut.has(link);
    this.#tell(messageWords(message) + (isLost ? " (lost)" : ""));
    if (!isLost) this.#messages.push(message);
  }

  #write(node: Node, write: Write): void {
    const { persist, messages } = write;
    if (persist === undefined && messages.length === 0) return;
    if (!node.isHeld) {
      if (persist !== undefined) this.#tell(`${node.id} writes ${writeWords(persist)}`);
      this.#finishWrite(node, write, false);
      return;
    }
    if (persist !== undefined) this.#tell(`${node.id} begins to write ${writeWords(persist)}`);
    if (persist === undefined && node.writes.length === 0) this.#finishWrite(node, write);
    else node.writes.push(write);
  }

  #finishWrite(node: Node, { persist, messages }: Write, isTold = true): void {
    if (persist !== undefined) {
      if (isTold) this.#tell(`${node.id} has written ${writeWords(persist)}`);
      writeTo(node.disk, persist);
      node.core!.step({ kind: "persisted", sequence: persist.sequence });
    }
    for (const message of messages) this.#send(message);
    if (isTold) this.#carryOut(node);
  }

  #apply(node: Node, { apply }: Output): void {
    const last = apply.at(-1);
    if (last === undefined) return;
    this.#tell(`${node.id} applies ${apply.map(entryWords).join(", ")}`);
    const changed = apply.findLast(({ kind }) => kind === "configuration");
    node.machine = {
      ...node.machine,
      index: last.index,
      term: last.term,
      ...(changed !== undefined && {
        configuration: decodeConfiguration(changed.payload),
        configurationIndex: changed.index,
      }),
    };
    node.core!.step({ kind: "applied", index: last.index });
  }
}

function linkOf({ from, to }: Message): string {
  return `${from}->${to}`;
}

function isEmpty(output: Output): boolean {
  const { persist, send, sendAfterPersist, apply, reads, snapshots } = output;
  return (
    persist === undefined &&
    [send, sendAfterPersist, apply, reads, snapshots].every((each) => each.length === 0)
  );
}

function writeTo(disk: Disk, { hardState, reset, entries }: Persist): void {
  if (hardState !== undefined) disk.hardState = hardState;
  if (reset !== undefined) {
    disk.entries = [];
    disk.base = reset;
  }
  const first = entries[0];
  if (first === undefined) return;
  disk.entries.length = first.index - disk.base.index - 1;
  disk.entries.push(...entries);
}

function writeWords({ hardState, reset, entries }: Persist): string {
  const parts: string[] = [];
  if (hardState !== undefined) {
    const { term, vote } = hardState;
    parts.push(`term ${term}${vote === undefined ? "" : `, vote for ${vote}`}`);
  }
  if (reset !== undefined) parts.push(`a new log behind ${reset.index}@${reset.term}`);
  parts.push(...entries.map(entryWords));
  return parts.join(", ");
}

function roleWords({ id, role, term, leader }: RaftCore): string {
  switch (role) {
    case "leader":
      return `leader of term ${term}`;
    case "candidate":
      return `candidate in term ${term}`;
    case "preCandidate":
      return `pre-candidate in term ${term}`;
    case "follower":
      return leader === undefined || leader === id
        ? `follower in term ${term}`
        : `follower of ${leader} in term ${term}`;
  }
}

/** Role, the log with a bar behind what is committed, and the members when they are not the first ones any more. */
function stateWords(core: RaftCore): string {
  const places: string[] = [];
  if (core.baseIndex > 0) places.push(`(${core.baseIndex}@${core.termAt(core.baseIndex)!})`);
  if (core.commitIndex <= core.baseIndex) places.push("|");
  for (const { index, term } of core.entries(core.baseIndex + 1, core.lastIndex + 1)) {
    places.push(`${index}@${term}`);
    if (index === core.commitIndex) places.push("|");
  }
  const vote = core.vote === undefined || core.role === "leader" ? "" : `, voted for ${core.vote}`;
  const members =
    core.configurationIndex === 0 ? "" : `, members ${configurationWords(core.configuration)}`;
  return `${roleWords(core)}${vote}${members}; log ${places.join(" ")}`;
}
