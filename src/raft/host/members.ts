/**
 * Who the members are, as this node's log tells: names, places, and who has gone. Configurations of the log say where
 * each is; of a cluster that has not changed its members yet, the configuration file does.
 *
 * Invariants
 * 1. `active` is that of the core after its last turn; `committed` is never rolled back.
 * 2. A node is called removed only because of a committed configuration that came after one with it: a node that was just
 *    added, and that is not known here yet, is nobody who was removed. What a node knows of itself may be in its log alone,
 *    when it crashed before its state had it: a configuration that another one follows there was committed.
 */
import { membersOf } from "../configuration.ts";
import { decodeConfiguration } from "../configuration-codec.ts";
import type { RaftCore } from "../core.ts";
import { type Configuration, type Member, type NodeId, zeroIndex, type Index } from "../types.ts";
import type { Binding, Roster } from "./handshake.ts";
import type { Peer } from "./link.ts";

/** A member as it stands now. */
export interface MemberStatus extends Member {
  /** `outgoing`: it decides until the change under way is done, and then no more. */
  readonly role: "voter" | "learner" | "outgoing";
  readonly isLeader: boolean;
  /** On the leader: how much of the log the member is known to hold. */
  readonly matchIndex?: number;
  /** On the leader: whether the member was heard from within an election timeout. */
  readonly isActive?: boolean;
}

/** A configuration, and the index of the entry that brought it (0: the one that the cluster began with). */
export interface PlacedConfiguration {
  readonly index: Index;
  readonly configuration: Configuration;
}

/** What the core starts with: what the state machine last saw committed, or the members of the beginning. */
export function startingConfiguration(
  stored: { readonly index: number; readonly payload: Uint8Array } | undefined,
  bindings: readonly Binding[],
  peers: readonly Peer[],
): PlacedConfiguration {
  if (stored !== undefined) {
    return {
      index: stored.index as Index,
      configuration: decodeConfiguration(stored.payload),
    };
  }
  const members = bindings.flatMap(({ name, nodeId }): Member[] => {
    const peer = peers.find((each) => each.name === name);
    if (peer === undefined) return [];
    const { host, port: raftPort, rpcPort = 0 } = peer;
    return [{ nodeId, name, host, raftPort, rpcPort, promote: false }];
  });
  const voters = bindings.map(({ nodeId }) => nodeId);
  return { index: zeroIndex, configuration: { voters, outgoing: [], learners: [], members } };
}

export interface MembersOptions {
  readonly self: NodeId;
  readonly start: PlacedConfiguration;
  /** Of the journal: who began the cluster, or who was there when this node was admitted. */
  readonly bindings: readonly Binding[];
  /** Index of the entry that brought the active configuration, at this very moment; 0 for the first one. */
  readonly activeIndex: () => number;
  /** The active configuration is another one. */
  readonly onActive: () => void;
  /** The committed configuration is another one. */
  readonly onCommitted: () => void;
  /** This node is no member any more, for good. */
  readonly onRemoved: () => void;
}

export class Members implements Roster {
  readonly #options: MembersOptions;
  #active: Configuration;
  #committed: PlacedConfiguration;
  /** Index of the newest committed configuration that has this node. */
  #memberAt: number | undefined;
  #wasMember: boolean;

  constructor(options: MembersOptions) {
    this.#options = options;
    const { start, self, bindings } = options;
    this.#active = start.configuration;
    this.#committed = start;
    this.#memberAt = has(start.configuration, self) ? start.index : undefined;
    this.#wasMember = this.isMember || bindings.some(({ nodeId }) => nodeId === self);
  }

  get active(): Configuration {
    return this.#active;
  }
  get committed(): PlacedConfiguration {
    return this.#committed;
  }
  /** Whether the committed configuration has this node. */
  get isMember(): boolean {
    return this.#memberAt !== undefined;
  }
  /** Whether this node is or was a member by a configuration that is committed: its id is of no use for another time. */
  get wasMember(): boolean {
    const { voters, outgoing } = this.#active;
    const { self } = this.#options;
    // Who votes was a learner before, and that was committed.
    return this.#wasMember || voters.includes(self) || outgoing.includes(self);
  }
  get knownAt(): number | undefined {
    return this.#memberAt;
  }
  get isChanged(): boolean {
    return this.#options.activeIndex() > 0;
  }

  /** Once per turn of the core. */
  observe(core: RaftCore): void {
    const { configuration, configurationIndex: index } = core;
    if (configuration !== this.#active) {
      this.#active = configuration;
      this.#options.onActive();
      this.#noteSettled(core);
    }
    if (index > core.commitIndex || index === this.#committed.index) return;
    this.#committed = { index, configuration };
    const isIn = has(configuration, this.#options.self);
    const wasIn = this.isMember;
    if (isIn) this.#wasMember = true;
    this.#memberAt = isIn ? index : undefined;
    this.#options.onCommitted();
    if (wasIn && !isIn) this.#options.onRemoved();
  }

  #noteSettled(core: RaftCore): void {
    const settledAt = core.settledWith(this.#options.self);
    if (settledAt === undefined || settledAt <= (this.#memberAt ?? -1)) return;
    if (settledAt < this.#committed.index) return;
    this.#memberAt = settledAt;
    this.#wasMember = true;
  }

  /** The active members, each once, voters first. */
  get all(): readonly Member[] {
    return membersOf(this.#active).map((id) => this.byId(id) ?? this.#nameless(id));
  }

  /** A member of the active configuration, when it is known where it is. */
  byId(id: NodeId): Member | undefined {
    return this.#active.members?.find((member) => member.nodeId === id);
  }

  /** Name of a node, as far as known. */
  nameOf(id: NodeId): string | undefined {
    return this.byId(id)?.name ?? this.#options.bindings.find(({ nodeId }) => nodeId === id)?.name;
  }

  /** The member with that name; of two (one takes the place of the other) the one that stays. */
  byName(name: string): Member | undefined {
    const named = this.all.filter((member) => member.name === name);
    return named.find(({ nodeId }) => this.roleOf(nodeId) !== "outgoing") ?? named[0];
  }

  /** How a member takes part; of nodes that do not, "outgoing". */
  roleOf(id: NodeId): MemberStatus["role"] {
    if (this.#active.voters.includes(id)) return "voter";
    return this.#active.learners.includes(id) ? "learner" : "outgoing";
  }

  /** `host:port` where a member listens for clients, as far as known. */
  rpcAddressOf(id: NodeId | undefined): string | undefined {
    const member = id === undefined ? undefined : this.byId(id);
    if (member === undefined || member.rpcPort === 0) return undefined;
    return `${member.host}:${member.rpcPort}`;
  }

  /** Where the other members are that can be connected to. */
  get peers(): Map<NodeId, Peer> {
    const peers = new Map<NodeId, Peer>();
    for (const { nodeId, name, host, raftPort, rpcPort } of this.all) {
      if (nodeId === this.#options.self || host === "") continue;
      peers.set(nodeId, { name, host, port: raftPort, rpcPort });
    }
    return peers;
  }

  boundTo(name: string): NodeId | undefined {
    return this.byName(name)?.nodeId;
  }

  wasRemoved(nodeId: NodeId, knownAt: number | undefined): boolean {
    const { index, configuration } = this.#committed;
    return knownAt !== undefined && index > knownAt && !has(configuration, nodeId);
  }

  /** A member whose place nobody has written down: it is in the log by its id only, and not in the configuration file. */
  #nameless(nodeId: NodeId): Member {
    const name = this.nameOf(nodeId) ?? nodeId;
    return { nodeId, name, host: "", raftPort: 0, rpcPort: 0, promote: false };
  }
}

function has(configuration: Configuration, id: NodeId): boolean {
  const { voters, outgoing, learners } = configuration;
  return voters.includes(id) || outgoing.includes(id) || learners.includes(id);
}
