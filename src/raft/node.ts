/**
 * A master's part in consensus: the core with its journal, its connections and its state machine.
 *
 * Invariants
 * 1. Nothing is voted, acknowledged or applied here before the journal holds it.
 * 2. After `onFatal` nothing happens any more: the process is to exit.
 */
import type { Clock, Random } from "../lib/clock.ts";
import { WeirError } from "../lib/errors.ts";
import type { Logger } from "../lib/logger.ts";
import { hasQuorum } from "./configuration.ts";
import { RaftCore } from "./core.ts";
import { Driver } from "./host/driver.ts";
import { Forming } from "./host/formation.ts";
import { type Roster, spokenVersions, type Stage, type Versions } from "./host/handshake.ts";
import { MemberChanges, type NewMember } from "./host/member-changes.ts";
import {
  Members,
  type MemberStatus,
  type PlacedConfiguration,
  startingConfiguration,
} from "./host/members.ts";
import { SnapshotReceiver } from "./host/snapshot-receiver.ts";
import { SnapshotSender } from "./host/snapshot-sender.ts";
import type { Journal } from "./journal.ts";
import { type StartingLog, startingLog } from "./starting-log.ts";
import { type Peer, type Refusal, Transport } from "./transport.ts";
import {
  type Entry,
  type Index,
  type Member,
  type NodeId,
  type Role,
  type Term,
  zeroIndex,
  zeroTerm,
} from "./types.ts";

export type { NewMember } from "./host/member-changes.ts";
export type { MemberStatus } from "./host/members.ts";
export type { Peer } from "./transport.ts";

/** Election timeouts for which a member that was removed is still told, and still answers. */
const leavingTimeouts = 3;

/** Longest payload of one entry, in bytes: it has to fit a frame. */
export const maxPayloadBytes = 32 * 1024 * 1024;

/** The replicated state machine, as the host drives it. Calls of `apply` and `install` never overlap. */
export interface StateMachineHost {
  /** Where the state stands, durably when the node starts; the term is that of this entry. */
  readonly appliedIndex: number;
  readonly appliedTerm: number;
  /** Committed entries of all kinds, in order; the next call comes only after this one resolved. Rejecting is fatal. */
  apply(entries: readonly Entry[]): Promise<void>;
  /** The whole state as of one index that is durable. */
  snapshot(): Promise<{
    readonly meta: { readonly index: number; readonly term: number };
    chunks(): AsyncIterable<Uint8Array>;
    close(): Promise<void>;
  }>;
  /** Replaces the state, durably when it resolves. Rejects, the state unchanged, when `chunks` throws. */
  install(meta: { index: number; term: number }, chunks: AsyncIterable<Uint8Array>): Promise<void>;
  /** What is durable: the log may be compacted behind it. */
  flushedIndex(): { index: number; term: number };
  /** Index and payload of the last entry of kind `configuration` that the state has seen, itself or in a snapshot. */
  configuration(): { readonly index: number; readonly payload: Uint8Array } | undefined;
}

export interface RaftStatus {
  /** Empty until the cluster is formed. */
  readonly nodeId: NodeId;
  /** `joining`: empty, and to be added to a cluster that is there. */
  readonly stage: Stage | "joining";
  readonly role: Role;
  readonly term: Term;
  /** Name of the leader, as far as known. */
  readonly leaderName: string | undefined;
  /** `host:port` where the leader listens for clients; right after a transfer, where the one does that is to lead. */
  readonly leaderRpcAddress: string | undefined;
  readonly commitIndex: Index;
  readonly lastIndex: Index;
  readonly appliedIndex: Index;
}

export interface RaftNodeOptions {
  readonly name: string;
  readonly clusterName: string;
  /**
   * The masters of the configuration file, this one included: who begins a cluster, and where they are until the log says
   * otherwise.
   */
  readonly peers: readonly Peer[];
  readonly listen: { readonly host: string; readonly port: number };
  /** Open; stays the caller's to close, after `stop`. */
  readonly journal: Journal;
  readonly machine: StateMachineHost;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly tickMs: number;
  readonly heartbeatTicks: number;
  readonly electionTicks: number;
  /** Kept behind the flushed index for slow followers, whichever is less: so many entries, and bytes of payload. */
  readonly retainedEntries: number;
  readonly retainedBytes: number;
  /** For the file in which a snapshot comes in; made when it is missing. */
  readonly snapshotDirectory: string;
  /** What it speaks with others, for tests; by default all that it knows. */
  readonly versions?: Versions;
  /** Called when role, term or leader changed. */
  onStatus(status: RaftStatus): void;
  /** Called once at most: this node can take part no more. */
  onFatal(error: Error): void;
}

/** Of a node that has no members yet. */
const nobody: Roster = {
  boundTo: () => undefined,
  wasRemoved: () => false,
  knownAt: undefined,
  isChanged: false,
};

/** What there is once the node takes part. */
interface TakingPart {
  readonly driver: Driver;
  readonly members: Members;
  readonly changes: MemberChanges;
  readonly sender: SnapshotSender;
  readonly receiver: SnapshotReceiver;
}

export class RaftNode {
  /**
   * Resolves when the node takes part, or waits for others to begin a cluster with; not while it is to be added to one
   * that is there.
   */
  readonly ready: Promise<void>;
  readonly #options: RaftNodeOptions;
  readonly #forming: Forming;
  readonly #stopping = new AbortController();
  #setReady: () => void = () => undefined;
  #isJoining = false;
  #transport!: Transport;
  #part: TakingPart | undefined;
  #starting: Promise<void> = Promise.resolve();
  #isFailed = false;
  #cancelPruning: () => void = () => undefined;
  /** Set once this node has learned that it was removed. */
  #cancelRemoval: (() => void) | undefined;
  /** Whom the leadership was handed to, until somebody is known to lead or it has not worked. */
  #heir: { readonly nodeId: NodeId; readonly untilMs: number } | undefined;
  #changeCallbacks = new Set<() => void>();

  private constructor(options: RaftNodeOptions) {
    this.#options = options;
    this.ready = new Promise((resolve) => {
      this.#setReady = resolve;
    });
    this.#forming = new Forming({
      ...options,
      onProspect: (prospect) => {
        this.#isJoining = prospect === "joining";
        if (!this.#isJoining) this.#setReady();
      },
    });
  }

  /**
   * Listens, and takes part as soon as the cluster is formed (which it was, if the journal is not empty) or this node is
   * admitted to one. Until then the node is a follower of nobody.
   * @throws WeirError `ConfigInvalid` when the journal is another master's
   * @throws WeirError `Corrupt` when journal and state machine do not fit together
   * @throws WeirError `Unavailable` when the address cannot be listened on
   */
  static async start(options: RaftNodeOptions): Promise<RaftNode> {
    const node = new RaftNode(options);
    checkState(options);
    const { listen, peers, clock, logger, versions = spokenVersions } = options;
    node.#transport = await Transport.listen({
      listen,
      peers,
      clock,
      logger,
      versions,
      identity: () => node.#forming.identity,
      roster: () => node.#part?.members ?? nobody,
      onMessage: (message) => node.#part?.driver.receive(message),
      onSnapshot: (socket, from, version) => {
        if (node.#part === undefined) socket.close();
        else node.#part.receiver.receive(socket, from, version);
      },
      onFormation: (socket) => void node.#forming.serve(socket),
      onAdmission: (socket) => {
        if (node.#isOver) socket.close();
        else void node.#forming.serveAdmission(socket);
      },
      onGone: (nodeId) => node.#part?.driver.peerGone(nodeId),
      onRefused: (peer, refusal) => node.#noteRefusal(peer, refusal),
    });
    if (node.#forming.identity.stage === "member") await node.#takePart();
    else node.#starting = node.#form();
    return node;
  }

  /** Where it listens. */
  get port(): number {
    return this.#transport.port;
  }

  /** Undefined until the cluster is formed. */
  get clusterId(): string | undefined {
    return this.#forming.identity.clusterId;
  }

  get status(): RaftStatus {
    const { nodeId = "", stage } = this.#forming.identity;
    const core = this.#part?.driver.core;
    const leader = core?.leader;
    const members = this.#part?.members;
    return {
      nodeId,
      stage: stage === "empty" && this.#isJoining ? "joining" : stage,
      role: core?.role ?? "follower",
      term: core?.term ?? zeroTerm,
      leaderName: leader === undefined ? undefined : members?.nameOf(leader),
      leaderRpcAddress: members?.rpcAddressOf(leader ?? this.#expectedLeader()),
      commitIndex: core?.commitIndex ?? zeroIndex,
      lastIndex: core?.lastIndex ?? zeroIndex,
      appliedIndex: core?.appliedIndex ?? zeroIndex,
    };
  }

  /**
   * Appends to the leader's log; returns the entry's place. Whether it commits shows when `apply` gets an entry at this
   * index: with this term it is this one, with another one this one is lost.
   * @throws WeirError `NotLeader`, `Busy`, `DiskFull` or `InvalidArgument`: nothing was appended
   */
  propose(payload: Uint8Array): { index: Index; term: Term } {
    const driver = this.#part?.driver;
    if (driver === undefined || this.#isOver) throw this.#notLeader();
    if (payload.length > maxPayloadBytes) {
      throw new WeirError(
        "InvalidArgument",
        `Cannot append ${payload.length} bytes to the log: wanted at most ${maxPayloadBytes}`,
      );
    }
    if (this.#options.journal.diskFull && driver.core.role === "leader") {
      throw new WeirError("DiskFull", "Cannot append to the log: the disk of the journal is full");
    }
    const proposed = driver.propose(payload);
    if (proposed.ok) return { index: proposed.index, term: proposed.term };
    if (proposed.code === "NotLeader") throw this.#notLeader();
    throw new WeirError("Busy", "Cannot append to the log: too much waits to be applied");
  }

  /**
   * Calls back once what has arrived was read, right before consensus takes its turn: all that is proposed then leaves
   * together.
   */
  beforeTurn(callback: () => void): void {
    const driver = this.#part?.driver;
    if (driver === undefined || this.#isOver) setImmediate(callback);
    else driver.beforeTurn(callback);
  }

  /**
   * Linearizable read point: a read from a state that is applied up to the index reflects everything that was acknowledged
   * before this call. All calls of one turn share a round.
   * @throws WeirError `NotLeader`
   */
  readIndex(): Promise<Index> {
    const driver = this.#part?.driver;
    if (driver === undefined || this.#isOver) return Promise.reject(this.#notLeader());
    return driver.readIndex();
  }

  /** The members of the active configuration, voters first; empty until the cluster is formed. */
  members(): readonly MemberStatus[] {
    return this.#part?.changes.list() ?? [];
  }

  /**
   * Admits the new, empty master that listens at that address, and adds it as a learner; with `promote` it becomes a voter
   * by itself as soon as it has caught up. Resolves when that is committed; asked again, with the same member.
   * @throws WeirError `NotLeader`; `Busy` while another change is under way; `AlreadyExists` for a name that is a
   *   member's; `InvalidArgument` when the master there has data, or is another one; `Unavailable` when it cannot be
   *   reached, or (outcome `unknown`) when the leadership was lost before the change was decided
   */
  async addMember(member: NewMember): Promise<Member> {
    return this.#leading().changes.add(member);
  }

  /**
   * Takes a member out for good; resolves when the others decide without it. The leader itself may be removed.
   * @throws WeirError as `addMember`; `NotFound` for a name that is no member's; `InvalidArgument` for the last voter
   */
  async removeMember(name: string): Promise<void> {
    return this.#leading().changes.remove(name);
  }

  /**
   * Makes a learner a voter; resolves when it is one, at once if it was.
   * @throws WeirError as `removeMember`; `Busy` while it is far behind
   */
  async promoteMember(name: string): Promise<void> {
    return this.#leading().changes.promote(name);
  }

  /**
   * Puts the new, empty master that listens at that address in the place of a member whose data is gone: it takes over the
   * name under an id of its own, as a learner that is promoted by itself. Resolves when the old one is out.
   * @throws WeirError as `addMember`; `NotFound` for a name that is no member's
   */
  async replaceMember(
    name: string,
    place: Pick<Member, "host" | "raftPort" | "rpcPort">,
  ): Promise<Member> {
    return this.#leading().changes.replace(name, place);
  }

  /**
   * Hands the leadership to the member of that name, or to the follower that holds most of the log; resolves when this
   * node leads no more.
   * @throws WeirError `NotLeader`; `NotFound` for a name that is no member's; `InvalidArgument` for one that is no voter;
   *   `Busy` when nobody else answers; `Unavailable` when nobody took it within two election timeouts
   */
  async transferLeadership(toName?: string): Promise<void> {
    const { driver, members } = this.#leading();
    const target = toName === undefined ? undefined : members.byName(toName)?.nodeId;
    if (toName !== undefined && target === undefined) {
      throw new WeirError("NotFound", `Cannot hand over to "${toName}": it is no member`);
    }
    const { clock } = this.#options;
    const started = driver.transfer(target);
    if (!started.ok) throw new WeirError(started.code, started.reason);
    this.#heir = {
      nodeId: started.target,
      untilMs: clock.monotonicMs() + 2 * this.#electionMs,
    };
    await new Promise<void>((resolve, reject) => {
      const check = () => {
        if (driver.core.role === "leader") return;
        finish();
        resolve();
      };
      const finish = () => {
        cancel();
        this.#changeCallbacks.delete(check);
      };
      const cancel = clock.after(2 * this.#electionMs, () => {
        finish();
        reject(new WeirError("Unavailable", "Cannot hand over: no follower took the leadership"));
      });
      this.#changeCallbacks.add(check);
    });
  }

  /** Was told to hand the leadership over and may still have it: nothing is taken meanwhile. */
  get isHandingOver(): boolean {
    return this.#expectedLeader() !== undefined;
  }

  /** Ends it as a crash would, but for waiting until the journal and the state machine are idle. */
  async stop(): Promise<void> {
    this.#stopping.abort(new WeirError("Cancelled", "Cannot go on: this master stops"));
    this.#cancelPruning();
    this.#cancelRemoval?.();
    const part = this.#part;
    part?.changes.stop();
    await Promise.all([this.#transport.close(), part?.receiver.stop(), part?.sender.stop()]);
    await this.#starting;
    await this.#part?.driver.stop();
  }

  get #isOver(): boolean {
    return this.#isFailed || this.#stopping.signal.aborted;
  }

  get #electionMs(): number {
    return this.#options.electionTicks * this.#options.tickMs;
  }

  #leading(): TakingPart {
    if (this.#part?.driver.core.role !== "leader" || this.#isOver) throw this.#notLeader();
    return this.#part;
  }

  #expectedLeader(): NodeId | undefined {
    const heir = this.#heir;
    if (heir === undefined || this.#options.clock.monotonicMs() > heir.untilMs) return undefined;
    return heir.nodeId;
  }

  async #form(): Promise<void> {
    const { signal } = this.#stopping;
    try {
      await this.#forming.run(this.#transport, signal);
      if (!signal.aborted) await this.#takePart();
    } catch (error) {
      if (!signal.aborted) this.#fail(error);
    }
  }

  async #takePart(): Promise<void> {
    const { journal, machine, peers, logger } = this.#options;
    const { nodeId, clusterId, members: bindings = [] } = this.#forming.identity;
    const start = startingConfiguration(machine.configuration(), bindings, peers);
    const log = await fittingLog(journal, machine, logger);
    const driver = this.#makeDriver(start, log);
    const members = new Members({
      self: nodeId!,
      start,
      bindings,
      activeIndex: () => driver.core.configurationIndex,
      onActive: () => this.#followMembers(),
      onCommitted: () => this.#transport.dropUnfit(),
      onRemoved: () => this.#removed("by a change of the members that is in its log"),
    });
    const receiver = new SnapshotReceiver({
      ...this.#options,
      directory: this.#options.snapshotDirectory,
      driver,
      onFatal: (error) => this.#fail(error),
    });
    await receiver.clear();
    const sender = new SnapshotSender({
      ...this.#options,
      take: () => machine.snapshot(),
      transport: this.#transport,
      term: () => driver.core.term,
      matchOf: (follower) => driver.core.progressOf(follower)?.matchIndex,
      // If all went well the follower has said so itself by now, or will before this makes for another attempt.
      onOver: (to) => driver.step({ kind: "snapshotDone", to, ok: false, index: zeroIndex }),
    });
    const changes = new MemberChanges({
      ...this.#options,
      members,
      driver,
      transport: this.#transport,
      self: nodeId!,
      clusterId: clusterId!,
      notLeader: () => this.#notLeader(),
    });
    this.#part = { driver, members, receiver, sender, changes };
    members.observe(driver.core);
    this.#transport.setLinks(members.peers);
    if (start.index > 0 && !members.isMember) {
      const isFounder = bindings.some((binding) => binding.nodeId === nodeId);
      const { admittedAt } = journal.state;
      if (isFounder || (admittedAt !== undefined && start.index > admittedAt)) {
        this.#removed("as its own state tells");
      } else {
        // On its way to the entry that adds it, as it seems.
        logger.warn({ nodeId, index: start.index }, "no member as far as its own state tells");
      }
    }
    this.#setReady();
  }

  #makeDriver(start: PlacedConfiguration, log: StartingLog): Driver {
    const { journal, machine, random, electionTicks, heartbeatTicks } = this.#options;
    const { hardState } = journal.state;
    const core = new RaftCore({
      id: this.#forming.identity.nodeId!,
      configuration: start.configuration,
      configurationIndex: start.index,
      // Right after forming, the journal's opening state does not show the first term yet.
      hardState: hardState.term > 0 ? hardState : { term: 1 as Term, vote: undefined },
      appliedIndex: machine.appliedIndex as Index,
      ...log,
      electionTicks,
      heartbeatTicks,
      random,
    });
    return new Driver({
      ...this.#options,
      core,
      afterPoll: (callback) => setImmediate(callback),
      send: (messages) => this.#transport.send(messages),
      sendSnapshot: (to) => this.#part?.sender.send(to),
      snapshotFloor: (caughtUp) => this.#part?.sender.floor(caughtUp) ?? Number.POSITIVE_INFINITY,
      onChange: () => {
        if (core.leader !== undefined && core.leader !== core.id) this.#heir = undefined;
        this.#options.onStatus(this.status);
        for (const callback of this.#changeCallbacks) callback();
      },
      onTurn: () => {
        this.#part?.members.observe(core);
        this.#part?.changes.observe();
      },
      onFatal: (error) => this.#fail(error),
    });
  }

  /** Connects to who is a member now; who is none any more still hears of that, for a while. */
  #followMembers(): void {
    const { members } = this.#part!;
    const targets = members.peers;
    for (const [id, peer] of this.#transport.targets) {
      if (!targets.has(id) && id !== this.#part!.driver.core.id) targets.set(id, peer);
    }
    this.#transport.setLinks(targets);
    this.#transport.dropUnfit();
    this.#cancelPruning();
    this.#cancelPruning = this.#options.clock.after(leavingTimeouts * this.#electionMs, () => {
      this.#transport.setLinks(members.peers);
    });
    this.#options.onStatus(this.status);
  }

  #noteRefusal(peer: string, refusal: Refusal): void {
    if (refusal.removed) {
      this.#removed(`as "${peer}" says`);
      return;
    }
    const { refusals } = this.#transport;
    const configuration = this.#part?.members.active;
    // One or the other may be the stranger itself; when no quorum is left with this node, it is this node.
    if (configuration === undefined || refusals.size < 2) return;
    if (hasQuorum(configuration, (id) => !refusals.has(id))) return;
    const reasons = [...refusals.values()].map(({ message }) => message);
    this.#fail(new WeirError("ConfigInvalid", reasons.join("; ")));
  }

  /** Ends this node, after a while in which it still tells clients who leads. */
  #removed(how: string): void {
    const { name, clusterName, clock } = this.#options;
    const { nodeId } = this.#forming.identity;
    this.#cancelRemoval ??= clock.after(leavingTimeouts * this.#electionMs, () => {
      this.#fail(
        new WeirError(
          "ConfigInvalid",
          `Cannot go on as "${name}": node ${nodeId} was removed from cluster "${clusterName}", ${how}; ` +
            `to use this master again, remove its data directory, start it and run "weir cluster add ${name}"`,
        ),
      );
    });
  }

  #notLeader(): WeirError {
    const { leaderName } = this.status;
    return new WeirError(
      "NotLeader",
      `Cannot serve that here: "${this.#options.name}" does not lead, ` +
        (leaderName === undefined ? "and nobody is known to" : `"${leaderName}" does`),
    );
  }

  #fail(error: unknown): void {
    if (this.#isOver) return;
    this.#isFailed = true;
    const fatal = error instanceof Error ? error : new Error(String(error));
    this.#options.logger.error({ error: String(fatal) }, "consensus ended");
    this.#part?.changes.stop();
    void this.#part?.driver.stop();
    this.#options.onFatal(fatal);
  }
}

/** Refuses a journal and a state that cannot belong together. */
function checkState({ journal, machine, name }: RaftNodeOptions): void {
  const { nodeId, baseIndex } = journal.state;
  const { appliedIndex } = machine;
  if (nodeId === undefined && appliedIndex > 0) {
    throw new WeirError(
      "Corrupt",
      `Cannot start "${name}": its journal is empty, but its state stands at entry ${appliedIndex}; ` +
        "the journal was lost: restore it, or remove the state too and replace the member",
    );
  }
  if (appliedIndex < baseIndex) {
    throw new WeirError(
      "Corrupt",
      `Cannot start "${name}": its state stands at entry ${appliedIndex}, but its journal begins ` +
        `behind entry ${baseIndex}; the state was lost: restore it, or replace the member`,
    );
  }
}

/** The log to start with; the journal is made to agree. */
async function fittingLog(
  journal: Journal,
  machine: StateMachineHost,
  logger: Logger,
): Promise<StartingLog> {
  const { appliedIndex: index, appliedTerm: term } = machine;
  const log = startingLog(journal.state, { index, term });
  if (log.baseIndex !== journal.state.baseIndex) {
    logger.warn({ index, term }, "the log begins anew at the state");
    await journal.reset(log.baseIndex, log.baseTerm);
  }
  return log;
}
