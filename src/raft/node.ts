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
import { RaftCore } from "./core.ts";
import { Driver } from "./host/driver.ts";
import { Forming } from "./host/formation.ts";
import { Snapshots } from "./host/snapshots.ts";
import type { Journal } from "./journal.ts";
import { type StartingLog, startingLog } from "./starting-log.ts";
import { type Peer, Transport } from "./transport.ts";
import {
  type Entry,
  type Index,
  type NodeId,
  type Role,
  type Term,
  zeroIndex,
  zeroTerm,
} from "./types.ts";

export type { Peer } from "./transport.ts";

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
}

export interface RaftStatus {
  /** Empty until the cluster is formed. */
  readonly nodeId: NodeId;
  readonly role: Role;
  readonly term: Term;
  /** Configured name of the leader, as far as known. */
  readonly leaderName: string | undefined;
  readonly commitIndex: Index;
  readonly lastIndex: Index;
  readonly appliedIndex: Index;
}

export interface RaftNodeOptions {
  readonly name: string;
  readonly clusterName: string;
  /** All masters, this one included. */
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
  /** Entries kept behind the flushed index for slow followers. */
  readonly retainedEntries: number;
  /** Called when role, term or leader changed. */
  onStatus(status: RaftStatus): void;
  /** Called once at most: this node can take part no more. */
  onFatal(error: Error): void;
}

export class RaftNode {
  readonly #options: RaftNodeOptions;
  readonly #forming: Forming;
  readonly #stopping = new AbortController();
  readonly #refusals = new Map<string, string>();
  #transport!: Transport;
  #snapshots!: Snapshots;
  #driver: Driver | undefined;
  #starting: Promise<void> = Promise.resolve();
  #isFailed = false;
  #changeCallbacks = new Set<() => void>();

  private constructor(options: RaftNodeOptions) {
    this.#options = options;
    this.#forming = new Forming(options);
  }

  /**
   * Listens, and takes part as soon as the cluster is formed (which it was, if the journal is not empty). Until then the
   * node is a follower of nobody.
   * @throws WeirError `ConfigInvalid` when the journal is of another cluster than the configuration
   * @throws WeirError `Corrupt` when journal and state machine do not fit together
   * @throws WeirError `Unavailable` when the address cannot be listened on
   */
  static async start(options: RaftNodeOptions): Promise<RaftNode> {
    const node = new RaftNode(options);
    checkState(options);
    const { listen, peers, clock, logger, machine } = options;
    node.#transport = await Transport.listen({
      listen,
      peers,
      clock,
      logger,
      identity: () => node.#forming.identity,
      onMessage: (message) => node.#driver?.receive(message),
      onSnapshot: (socket, from) => node.#snapshots.receive(socket, from),
      onFormation: (socket) => void node.#forming.serve(socket),
      onRefused: (peer, reason) => node.#noteRefusal(peer, reason),
    });
    node.#snapshots = new Snapshots({
      machine,
      logger,
      transport: node.#transport,
      driver: () => node.#driver!,
      onFatal: (error) => node.#fail(error),
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
    const { nodeId = "", members = [] } = this.#forming.identity;
    const core = this.#driver?.core;
    return {
      nodeId,
      role: core?.role ?? "follower",
      term: core?.term ?? zeroTerm,
      leaderName: members.find((member) => member.nodeId === core?.leader)?.name,
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
    if (this.#driver === undefined || this.#isOver) throw this.#notLeader();
    if (payload.length > maxPayloadBytes) {
      throw new WeirError(
        "InvalidArgument",
        `Cannot append ${payload.length} bytes to the log: wanted at most ${maxPayloadBytes}`,
      );
    }
    if (this.#options.journal.diskFull && this.#driver.core.role === "leader") {
      throw new WeirError("DiskFull", "Cannot append to the log: the disk of the journal is full");
    }
    const proposed = this.#driver.propose(payload);
    if (proposed.ok) return { index: proposed.index, term: proposed.term };
    if (proposed.code === "NotLeader") throw this.#notLeader();
    throw new WeirError("Busy", "Cannot append to the log: too much waits to be applied");
  }

  /**
   * Calls back once what has arrived was read, right before consensus takes its turn: all that is proposed then leaves
   * together.
   */
  beforeTurn(callback: () => void): void {
    if (this.#driver === undefined || this.#isOver) setImmediate(callback);
    else this.#driver.beforeTurn(callback);
  }

  /**
   * Linearizable read point: a read from a state that is applied up to the index reflects everything that was acknowledged
   * before this call. All calls of one turn share a round.
   * @throws WeirError `NotLeader`
   */
  readIndex(): Promise<Index> {
    if (this.#driver === undefined || this.#isOver) return Promise.reject(this.#notLeader());
    return this.#driver.readIndex();
  }

  /**
   * Hands the leadership to the follower that holds most of the log; resolves when this node leads no more.
   * @throws WeirError `NotLeader`; `Unavailable` when no follower took it within two election timeouts
   */
  async transferLeadership(): Promise<void> {
    const driver = this.#driver;
    if (driver?.core.role !== "leader") throw this.#notLeader();
    const { clock, tickMs, electionTicks } = this.#options;
    driver.step({ kind: "transfer", to: undefined });
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
      const cancel = clock.after(2 * electionTicks * tickMs, () => {
        finish();
        reject(new WeirError("Unavailable", "Cannot hand over: no follower took the leadership"));
      });
      this.#changeCallbacks.add(check);
    });
  }

  /** Ends it as a crash would, but for waiting until the journal and the state machine are idle. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#snapshots.stop();
    await this.#transport.close();
    await this.#starting;
    await this.#driver?.stop();
  }

  get #isOver(): boolean {
    return this.#isFailed || this.#stopping.signal.aborted;
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
    const { journal, machine, random, logger } = this.#options;
    const { nodeId, members } = this.#forming.identity;
    const { hardState } = journal.state;
    const core = new RaftCore({
      id: nodeId!,
      configuration: {
        voters: members!.map((member) => member.nodeId),
        outgoing: [],
        learners: [],
      },
      // Right after forming, the journal's opening state does not show the first term yet.
      hardState: hardState.term > 0 ? hardState : { term: 1 as Term, vote: undefined },
      appliedIndex: machine.appliedIndex as Index,
      ...(await fittingLog(journal, machine, logger)),
      electionTicks: this.#options.electionTicks,
      heartbeatTicks: this.#options.heartbeatTicks,
      random,
    });
    this.#driver = new Driver({
      ...this.#options,
      core,
      afterPoll: (callback) => setImmediate(callback),
      send: (messages) => this.#transport.send(messages),
      sendSnapshot: (to) => this.#snapshots.send(to),
      snapshotFloor: () => this.#snapshots.floor,
      onChange: () => {
        this.#options.onStatus(this.status);
        for (const callback of this.#changeCallbacks) callback();
      },
      onFatal: (error) => this.#fail(error),
    });
    this.#transport.openLinks(members!);
  }

  #noteRefusal(peer: string, reason: string): void {
    this.#refusals.set(peer, reason);
    const majority = Math.floor(this.#options.peers.length / 2) + 1;
    // One may be the stranger itself; when most do not want this node, it is this node.
    if (this.#refusals.size >= Math.max(2, majority - 1)) {
      this.#fail(new WeirError("ConfigInvalid", [...this.#refusals.values()].join("; ")));
    }
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
    void this.#driver?.stop();
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
