/**
 * A master's part in consensus: the core with its journal, its connections and its state machine.
 *
 * Invariants
 * 1. Nothing is voted, acknowledged or applied here before the journal holds it.
 * 2. After `onFatal` nothing happens any more: the process is to exit.
 */
import { WeirError } from "../lib/errors.ts";
import { hasQuorum } from "./configuration.ts";
import { checkState } from "./host/fitting-log.ts";
import { Forming } from "./host/formation.ts";
import { type Roster, spokenVersions } from "./host/handshake.ts";
import type { NewMember } from "./host/member-changes.ts";
import type { MemberStatus } from "./host/members.ts";
import { leavingTimeouts, Part } from "./host/part.ts";
import type { RaftNodeOptions, RaftStatus } from "./node-options.ts";
import { type Refusal, Transport } from "./transport.ts";
import { type Index, type Member, type Term, zeroIndex, zeroTerm } from "./types.ts";

export type { NewMember } from "./host/member-changes.ts";
export type { MemberStatus } from "./host/members.ts";
export type { RaftNodeOptions, RaftStatus, StateMachineHost } from "./node-options.ts";
export type { Peer } from "./transport.ts";

/** Longest payload of one entry, in bytes: it has to fit a frame. */
export const maxPayloadBytes = 32 * 1024 * 1024;

/** Of a node that has no members yet. */
const nobody: Roster = {
  boundTo: () => undefined,
  wasRemoved: () => false,
  knownAt: undefined,
  isChanged: false,
};

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
  #part: Part | undefined;
  #starting: Promise<void> = Promise.resolve();
  #isFailed = false;
  /** Set once this node has learned that it was removed. */
  #cancelRemoval: (() => void) | undefined;

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
      wasMember: () => this.#cancelRemoval !== undefined || this.#part?.members.wasMember,
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
    try {
      if (node.#forming.identity.stage === "member") await node.#takePart();
      else node.#starting = node.#form();
    } catch (error) {
      await node.#transport.close();
      throw error;
    }
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
      leaderRpcAddress: members?.rpcAddressOf(leader ?? this.#part?.handOver.heir),
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

  /**
   * A version of the protocol that every member knows: the oldest of what was spoken with each of them last. A member that
   * is away, and was not heard of since this node began, counts as the oldest that is spoken with anybody. What is
   * written for this version can be read by all: nobody goes back to an older release, and nobody is added with one.
   */
  get oldestVersion(): number {
    const { newest } = this.#options.versions ?? spokenVersions;
    const { nodeId: self } = this.#forming.identity;
    const others = this.#part?.members.all.filter(({ nodeId }) => nodeId !== self) ?? [];
    return Math.min(newest, ...others.map((each) => this.#transport.oldestVersionOf(each.nodeId)));
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
    const { driver, members, handOver } = this.#leading();
    const target = toName === undefined ? undefined : members.byName(toName)?.nodeId;
    if (toName !== undefined && target === undefined) {
      throw new WeirError("NotFound", `Cannot hand over to "${toName}": it is no member`);
    }
    await handOver.begin(driver, target);
  }

  /** Was told to hand the leadership over and may still have it: nothing is taken meanwhile. */
  get isHandingOver(): boolean {
    return this.#part?.handOver.heir !== undefined;
  }

  /** Ends it as a crash would, but for waiting until the journal and the state machine are idle. */
  async stop(): Promise<void> {
    this.#stopping.abort(new WeirError("Cancelled", "Cannot go on: this master stops"));
    this.#cancelRemoval?.();
    await Promise.all([this.#transport.close(), this.#part?.stop()]);
    await this.#starting;
    await this.#part?.driver.stop();
  }

  get #isOver(): boolean {
    return this.#isFailed || this.#stopping.signal.aborted;
  }

  get #electionMs(): number {
    return this.#options.electionTicks * this.#options.tickMs;
  }

  #leading(): Part {
    if (this.#part?.driver.core.role !== "leader" || this.#isOver) throw this.#notLeader();
    return this.#part;
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
    this.#part = await Part.take({
      ...this.#options,
      identity: this.#forming.identity,
      transport: this.#transport,
      notLeader: () => this.#notLeader(),
      onStatus: () => this.#options.onStatus(this.status),
      onRemoved: (how) => this.#removed(how),
      onFatal: (error) => this.#fail(error),
    });
    this.#part.begin();
    this.#setReady();
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
