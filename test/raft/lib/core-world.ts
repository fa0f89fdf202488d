/**
 * Cores with disks that lag, messages that wait to be delivered, lost or doubled, and nodes that crash: each step is the
 * test's, so that a property test can shrink what broke an invariant. After each step the invariants are checked:
 *
 * 1. No term has two leaders, and each leader has everything in its log that was ever committed.
 * 2. What was committed or applied at an index is the same everywhere and for ever.
 * 3. A read is answered with an index at or behind everything that was committed when it arrived.
 */
import assert from "node:assert/strict";
import { seededRandom } from "../../../src/lib/clock.ts";
import { decodeConfiguration } from "../../../src/raft/configuration-codec.ts";
import { RaftCore } from "../../../src/raft/core.ts";
import type { MemberChange } from "../../../src/raft/member-change.ts";
import { startingLog } from "../../../src/raft/starting-log.ts";
import type { Persist } from "../../../src/raft/state.ts";
import {
  type Configuration,
  type Entry,
  type HardState,
  type Index,
  type Member,
  type Message,
  type NodeId,
  type Term,
  zeroIndex,
  zeroTerm,
} from "../../../src/raft/types.ts";

/** A state machine up to `index`; all of it that matters here is the configuration. */
interface Machine {
  readonly index: Index;
  readonly term: Term;
  readonly configuration: Configuration;
  readonly configurationIndex: Index;
}

interface Write {
  readonly persist: Persist | undefined;
  readonly after: readonly Message[];
}

interface Node {
  readonly id: NodeId;
  core: RaftCore | undefined;
  starts: number;
  // On disk.
  hardState: HardState;
  entries: Entry[];
  base: { index: Index; term: Term };
  saved: Machine;
  // Lost in a crash.
  machine: Machine;
  writes: Write[];
  readonly readFloors: Map<number, number>;
}

type Parcel =
  | { readonly from: NodeId; readonly to: NodeId; readonly message: Message }
  | { readonly from: NodeId; readonly to: NodeId; readonly snapshot: Machine };

export class CoreWorld {
  readonly ids: readonly NodeId[];
  readonly #nodes = new Map<NodeId, Node>();
  readonly #seed: number;
  #parcels: Parcel[] = [];
  /** Nodes of one side of a partition; empty when there is none. */
  #cutOff = new Set<NodeId>();
  readonly #leaders = new Map<Term, NodeId>();
  /** What is committed at each index, from 1. */
  readonly #committed: string[] = [""];
  #readId = 0;
  #payload = 0;

  constructor(options: { nodes: number; voters: number; seed: number }) {
    this.#seed = options.seed;
    this.ids = Array.from({ length: options.nodes }, (_, i) => `n${i + 1}`);
    const voters = this.ids.slice(0, options.voters);
    const members = voters.map((id) => memberOf(id));
    const configuration: Configuration = { voters, outgoing: [], learners: [], members };
    const saved: Machine = {
      index: zeroIndex,
      term: zeroTerm,
      configuration,
      configurationIndex: zeroIndex,
    };
    for (const id of this.ids) {
      this.#nodes.set(id, {
        id,
        core: undefined,
        starts: 0,
        hardState: { term: zeroTerm, vote: undefined },
        entries: [],
        base: { index: zeroIndex, term: zeroTerm },
        saved,
        machine: saved,
        writes: [],
        readFloors: new Map(),
      });
      this.restart(id);
    }
  }

  get committedCount(): number {
    return this.#committed.length - 1;
  }
  /** The leader of the highest term, if it is up. */
  get leader(): RaftCore | undefined {
    let best: RaftCore | undefined;
    for (const { core } of this.#nodes.values()) {
      if (core?.role === "leader" && (best === undefined || core.term > best.term)) best = core;
    }
    return best;
  }
  core(id: NodeId): RaftCore | undefined {
    return this.#nodes.get(id)!.core;
  }

  tick(id: NodeId, count = 1): void {
    for (let i = 0; i < count; i++) {
      this.core(id)?.step({ kind: "tick" });
      this.#take();
    }
  }

  propose(id: NodeId | undefined = this.leader?.id): void {
    if (id !== undefined) this.core(id)?.propose(Buffer.from(String(++this.#payload)));
    this.#take();
  }

  /** Asks `at` for a change; nothing comes of it where that does not lead. */
  change(
    at: NodeId,
    kind: Exclude<MemberChange["kind"], "move">,
    nodeId: NodeId,
    other: NodeId,
  ): void {
    const core = this.core(at);
    switch (kind) {
      case "addLearner":
        core?.changeMembers({ kind, member: memberOf(nodeId, other > nodeId) });
        break;
      case "replace":
        core?.changeMembers({ kind, nodeId, member: memberOf(other) });
        break;
      case "promote":
      case "remove":
        core?.changeMembers({ kind, nodeId });
    }
    this.#take();
  }

  read(id: NodeId): void {
    const node = this.#nodes.get(id)!;
    if (node.core === undefined) return;
    node.readFloors.set(++this.#readId, this.committedCount);
    node.core.step({ kind: "read", id: this.#readId });
    this.#take();
  }

  /** The host tells `at` that the process of `id` has ended, truly or not. */
  tellGone(at: NodeId, id: NodeId): void {
    this.core(at)?.step({ kind: "gone", node: id });
    this.#take();
  }

  transfer(to: NodeId): void {
    this.leader?.transfer(to);
    this.#take();
  }

  /** The first of the writes under way is durable. */
  sync(id: NodeId): void {
    const node = this.#nodes.get(id)!;
    const write = node.writes.shift();
    if (write === undefined) return;
    if (write.persist !== undefined) {
      writeTo(node, write.persist);
      node.core!.step({ kind: "persisted", sequence: write.persist.sequence });
    }
    this.#send(write.after);
    this.#take();
  }

  /** Delivers what waits at this place, or loses it; what a partition holds back is lost. */
  deliver(place: number, isLost = false): void {
    if (this.#parcels.length === 0) return;
    const [parcel] = this.#parcels.splice(place % this.#parcels.length, 1);
    const { from, to } = parcel!;
    const core = this.core(to);
    const arrives =
      !isLost && core !== undefined && this.#cutOff.has(from) === this.#cutOff.has(to);
    if ("snapshot" in parcel!) this.#snapshotOver(parcel, arrives);
    else if (arrives) core.step({ kind: "receive", message: parcel!.message });
    this.#take();
  }

  duplicate(place: number): void {
    const parcel = this.#parcels[place % Math.max(1, this.#parcels.length)];
    if (parcel !== undefined && "message" in parcel) this.#parcels.push(parcel);
  }

  /** Loses writes that were not synced, but for the first `kept` ones. */
  crash(id: NodeId, kept: number): void {
    const node = this.#nodes.get(id)!;
    if (node.core === undefined) return;
    for (const { persist } of node.writes.slice(0, kept)) {
      if (persist !== undefined) writeTo(node, persist);
    }
    node.core = undefined;
    node.writes = [];
    node.readFloors.clear();
  }

  restart(id: NodeId): void {
    const node = this.#nodes.get(id)!;
    if (node.core !== undefined) return;
    const { index, term, configuration, configurationIndex } = node.saved;
    const found = { entries: node.entries, baseIndex: node.base.index, baseTerm: node.base.term };
    const log = startingLog(found, { index, term });
    node.entries = [...log.entries];
    node.base = { index: log.baseIndex, term: log.baseTerm };
    node.machine = node.saved;
    node.core = new RaftCore({
      id,
      configuration,
      configurationIndex,
      hardState: node.hardState,
      ...log,
      appliedIndex: index,
      electionTicks: 6,
      heartbeatTicks: 2,
      random: seededRandom((this.#seed + this.ids.indexOf(id) * 977 + ++node.starts) * 0x9e3779b1),
      maxAppendBytes: 8,
    });
    this.#take();
  }

  /** The state machine is saved, and the log behind it forgotten. */
  compact(id: NodeId): void {
    const node = this.#nodes.get(id)!;
    if (node.core === undefined) return;
    node.saved = node.machine;
    const { index, term } = node.saved;
    if (index <= node.base.index) return;
    node.entries = node.entries.filter((entry) => entry.index > index);
    node.base = { index, term };
    node.core.step({ kind: "compact", index });
    this.#take();
  }

  partition(cutOff: readonly NodeId[]): void {
    this.#cutOff = new Set(cutOff);
  }

  /** Syncs and delivers everything, as far as the partition lets it; stops where `isEnough`. */
  settle(isEnough = () => false): void {
    for (let i = 0; i < 2000 && !isEnough(); i++) {
      const busy = [...this.#nodes.values()].find(({ writes }) => writes.length > 0);
      if (busy !== undefined) this.sync(busy.id);
      else if (this.#parcels.length > 0) this.deliver(0);
      else return;
    }
  }

  #take(): void {
    for (const node of this.#nodes.values()) {
      if (node.core === undefined) continue;
      this.#check(node.core);
      const output = node.core.take();
      this.#check(node.core);
      this.#send(output.send);
      const { persist, sendAfterPersist } = output;
      if (persist !== undefined || (sendAfterPersist.length > 0 && node.writes.length > 0)) {
        node.writes.push({ persist, after: sendAfterPersist });
      } else this.#send(sendAfterPersist);
      for (const entry of output.apply) this.#apply(node, entry);
      for (const { id, index } of output.reads) {
        const floor = node.readFloors.get(id)!;
        node.readFloors.delete(id);
        assert(index === undefined || index >= floor, `read ${index}, ${floor} was committed`);
      }
      for (const to of output.snapshots) {
        node.saved = node.machine;
        this.#parcels.push({ from: node.id, to, snapshot: node.saved });
      }
    }
  }

  #send(messages: readonly Message[]): void {
    for (const message of messages) {
      this.#parcels.push({ from: message.from, to: message.to, message });
    }
  }

  #snapshotOver(parcel: Extract<Parcel, { snapshot: Machine }>, arrives: boolean): void {
    const { from, to, snapshot } = parcel;
    const target = this.#nodes.get(to)!;
    if (arrives && snapshot.index > target.machine.index) {
      target.machine = snapshot;
      target.saved = snapshot;
      target.core!.step({ kind: "installed", ...snapshot, from });
    }
    this.core(from)?.step({ kind: "snapshotDone", to, ok: arrives, index: snapshot.index });
  }

  #apply(node: Node, entry: Entry): void {
    const { index, term, kind } = entry;
    assert.equal(index, node.machine.index + 1, "an entry is applied out of order");
    this.#commit(entry);
    const isConfiguration = kind === "configuration";
    node.machine = {
      index,
      term,
      configuration: isConfiguration
        ? decodeConfiguration(entry.payload)
        : node.machine.configuration,
      configurationIndex: isConfiguration ? index : node.machine.configurationIndex,
    };
    node.core!.step({ kind: "applied", index });
  }

  #commit(entry: Entry): void {
    const shown = `${entry.term} ${entry.kind} ${Buffer.from(entry.payload).toString("latin1")}`;
    assert.equal(this.#committed[entry.index] ?? shown, shown, `another entry at ${entry.index}`);
    this.#committed[entry.index] = shown;
  }

  #check(core: RaftCore): void {
    if (core.role !== "leader") return;
    const known = this.#leaders.get(core.term);
    assert.equal(known ?? core.id, core.id, `two leaders in term ${core.term}`);
    const from = core.baseIndex + 1;
    if (known === undefined) {
      this.#leaders.set(core.term, core.id);
      assert(core.lastIndex >= this.committedCount, "a leader lacks what is committed");
      for (const entry of core.entries(from, this.committedCount + 1)) this.#commit(entry);
    }
    // What a leader commits it may acknowledge at once.
    for (const entry of core.entries(
      Math.max(from, this.#committed.length),
      core.commitIndex + 1,
    )) {
      this.#commit(entry);
    }
  }
}

function writeTo(node: Node, { hardState, reset, entries }: Persist): void {
  if (hardState !== undefined) node.hardState = hardState;
  if (reset !== undefined) {
    node.entries = [];
    node.base = reset;
  }
  const [first] = entries;
  if (first === undefined) return;
  // A compaction may have passed entries whose write was still under way.
  const kept = node.entries.filter(({ index }) => index < first.index);
  node.entries = [...kept, ...entries.filter(({ index }) => index > node.base.index)];
}

function memberOf(nodeId: NodeId, promote = false): Member {
  return { nodeId, name: nodeId, host: "127.0.0.1", raftPort: 1, rpcPort: 2, promote };
}
