/**
 * What a node has once it takes part in consensus: the core with its driver, the members and their changes, snapshots both
 * ways. It begins with what the journal and the state hold, and follows the members of the log from there.
 */
import type { WeirError } from "../../lib/errors.ts";
import { membersOf } from "../configuration.ts";
import { RaftCore } from "../core.ts";
import type { RaftNodeOptions } from "../node-options.ts";
import type { StartingLog } from "../starting-log.ts";
import type { Transport } from "../transport.ts";
import { type Index, type Term, zeroIndex } from "../types.ts";
import { Driver } from "./driver.ts";
import { fittingLog } from "./fitting-log.ts";
import { HandOver } from "./hand-over.ts";
import type { Identity } from "./handshake.ts";
import { MemberChanges } from "./member-changes.ts";
import { Members, type PlacedConfiguration, startingConfiguration } from "./members.ts";
import { Moves } from "./moves.ts";
import { SnapshotReceiver } from "./snapshot-receiver.ts";
import { SnapshotSender } from "./snapshot-sender.ts";

/** Election timeouts without a leader after which a node that nobody takes for a member says so. */
export const idleTimeouts = 10;
/** Election timeouts for which a member that was removed is still told, and still answers. */
export const leavingTimeouts = 3;

export interface PartOptions extends Omit<RaftNodeOptions, "onStatus" | "onFatal"> {
  /** Of a member. */
  readonly identity: Identity;
  readonly transport: Transport;
  /** What is thrown on a node that does not lead. */
  readonly notLeader: () => WeirError;
  /** Role, term, leader or members changed. */
  readonly onStatus: () => void;
  /** This node is no member any more; `how` that is known. */
  readonly onRemoved: (how: string) => void;
  readonly onFatal: (error: unknown) => void;
}

export class Part {
  readonly driver: Driver;
  readonly members: Members;
  readonly changes: MemberChanges;
  readonly moves: Moves;
  readonly sender: SnapshotSender;
  readonly receiver: SnapshotReceiver;
  readonly handOver: HandOver;
  readonly #options: PartOptions;
  readonly #start: PlacedConfiguration;
  #cancelPruning: () => void = () => undefined;
  #cancelWatch: () => void = () => undefined;

  /** @throws WeirError `Corrupt` when journal and state do not fit together */
  static async take(options: PartOptions): Promise<Part> {
    const { journal, machine, peers, logger, identity } = options;
    const { members: bindings = [] } = identity;
    const start = startingConfiguration(machine.configuration(), bindings, peers);
    const part = new Part(options, start, await fittingLog(journal, machine, logger));
    await part.receiver.clear();
    return part;
  }

  private constructor(options: PartOptions, start: PlacedConfiguration, log: StartingLog) {
    this.#options = options;
    this.#start = start;
    const { identity, transport, machine, clock, notLeader, onRemoved, onFatal } = options;
    const { nodeId, clusterId, members: bindings = [] } = identity;
    this.handOver = new HandOver({ clock, longestMs: 2 * this.#electionMs });
    const driver = this.#makeDriver(log);
    this.driver = driver;
    this.members = new Members({
      self: nodeId!,
      start,
      bindings,
      activeIndex: () => driver.core.configurationIndex,
      onActive: () => this.#followMembers(),
      onCommitted: () => transport.dropUnfit(),
      onRemoved: () => onRemoved("by a change of the members that is in its log"),
    });
    this.receiver = new SnapshotReceiver({
      ...options,
      directory: options.snapshotDirectory,
      driver,
      onFatal,
    });
    this.sender = new SnapshotSender({
      ...options,
      take: () => machine.snapshot(),
      term: () => driver.core.term,
      matchOf: (follower) => driver.core.progressOf(follower)?.matchIndex,
      lastIndex: () => driver.core.lastIndex,
      isUrgent: (index) => driver.isHalfHeld(index),
      // If all went well the follower has said so itself by now, or will before this makes for another attempt.
      onOver: (to) => driver.step({ kind: "snapshotDone", to, ok: false, index: zeroIndex }),
    });
    this.changes = new MemberChanges({
      ...options,
      members: this.members,
      driver,
      self: nodeId!,
      clusterId: clusterId!,
      notLeader,
    });
    const { members, changes } = this;
    this.moves = new Moves({ ...options, self: nodeId!, members, changes, driver });
  }

  /** Connects to the other members; to be called when what they send can be taken. */
  begin(): void {
    const { transport, identity, journal, logger, onRemoved } = this.#options;
    const { nodeId, members: bindings = [] } = identity;
    const { members } = this;
    const { index } = this.#start;
    members.observe(this.driver.core);
    transport.setLinks(members.peers);
    this.#watchIdleness();
    if (index === 0 || members.isMember) return;
    const isFounder = bindings.some((binding) => binding.nodeId === nodeId);
    const { admittedAt } = journal.state;
    if (isFounder || (admittedAt !== undefined && index > admittedAt)) {
      onRemoved("as its own state tells");
    } else {
      // On its way to the entry that adds it, as it seems.
      logger.warn({ nodeId, index }, "no member as far as its own state tells");
    }
  }

  /** Ends all but the driver, which the journal and the state machine may still keep busy. */
  async stop(): Promise<void> {
    this.#cancelPruning();
    this.#cancelWatch();
    this.changes.stop();
    await Promise.all([this.receiver.stop(), this.sender.stop()]);
  }

  get #electionMs(): number {
    return this.#options.electionTicks * this.#options.tickMs;
  }

  /**
   * A node that was removed while it was away, and whose own log does not prove that it ever was a member, is told nothing:
   * it may as well be one that is yet to be added. It says what a person can do. One that is a member for certain says
   * nothing: if it is none any more it is told so.
   */
  #watchIdleness(): void {
    const { name, clock, transport } = this.#options;
    this.#cancelWatch = clock.after(idleTimeouts * this.#electionMs, () => {
      const isLost = this.driver.core.leader === undefined && !this.members.isMember;
      for (const peer of isLost ? transport.disowning : []) {
        transport.complain(
          peer,
          `it does not know "${name}" with this data as a member; if it is not being added now, run ` +
            `"weir cluster add ${name}", or remove its data directory if it was replaced`,
        );
      }
      this.#watchIdleness();
    });
  }

  #makeDriver(log: StartingLog): Driver {
    const { identity, transport, journal, machine, random } = this.#options;
    const { electionTicks, heartbeatTicks, onStatus, onFatal } = this.#options;
    const { hardState } = journal.state;
    const core = new RaftCore({
      id: identity.nodeId!,
      configuration: this.#start.configuration,
      configurationIndex: this.#start.index,
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
      send: (messages) => transport.send(messages),
      sendSnapshot: (to) => this.sender.send(to),
      snapshotFloor: (caughtUp) => this.sender.floor(caughtUp),
      onChange: () => {
        this.handOver.observe(core);
        onStatus();
        this.handOver.release();
      },
      onTurn: () => {
        this.members.observe(core);
        this.changes.observe();
        this.moves.observe();
      },
      onFatal,
    });
  }

  /** Connects to who is a member now; who is none any more still hears of that, for a while. */
  #followMembers(): void {
    const { transport, clock, onStatus } = this.#options;
    const targets = this.members.peers;
    if (membersOf(this.members.active).includes(this.driver.core.id)) transport.forgetDisowning();
    for (const [id, peer] of transport.targets) {
      if (!targets.has(id) && id !== this.driver.core.id) targets.set(id, peer);
    }
    transport.setLinks(targets);
    transport.dropUnfit();
    this.#cancelPruning();
    this.#cancelPruning = clock.after(leavingTimeouts * this.#electionMs, () => {
      transport.setLinks(this.members.peers);
    });
    onStatus();
  }
}
