/**
 * What an operator asks a leader to do with the members: each change goes through the log, and is answered when it is
 * done. The rules are the core's; here are names, addresses, the first words with a new master, and the waiting.
 *
 * Invariant: a change that was begun is not given up because its caller is answered "unknown": whoever leads finishes it.
 */
import type { Clock } from "../../lib/clock.ts";
import { WeirError } from "../../lib/errors.ts";
import { membersOf } from "../configuration.ts";
import type { MemberChange, Move, Place } from "../member-change.ts";
import type { Transport } from "../transport.ts";
import type { Configuration, Member, NodeId } from "../types.ts";
import { admit } from "./admission.ts";
import type { Driver } from "./driver.ts";
import { oldestOfChanges } from "./handshake.ts";
import type { Members, MemberStatus } from "./members.ts";

/** Longest wait for a change that was begun: it needs a majority, and joint consensus two. */
const changeTimeoutMs = 30_000;

/** A master that is to be added. */
export type NewMember = Pick<Member, "name" | "host" | "raftPort" | "rpcPort" | "promote">;

export interface MemberChangesOptions {
  readonly members: Members;
  readonly driver: Driver;
  readonly transport: Transport;
  readonly clock: Clock;
  readonly self: NodeId;
  readonly clusterId: string;
  /** What is thrown on a node that does not lead. */
  readonly notLeader: () => WeirError;
}

interface Waiting {
  readonly index: number;
  readonly term: number;
  readonly isDone: (configuration: Configuration) => boolean;
  resolve(): void;
  reject(error: WeirError): void;
}

export class MemberChanges {
  readonly #options: MemberChangesOptions;
  readonly #waiting = new Set<Waiting>();
  /** A name that is being admitted now: the log does not show it yet. */
  #admitting: string | undefined;

  constructor(options: MemberChangesOptions) {
    this.#options = options;
  }

  /** Everybody of the active configuration; how far each is, only the leader knows. */
  list(): readonly MemberStatus[] {
    const { members, driver, self } = this.#options;
    const { core } = driver;
    return members.all.map((member) => {
      const { nodeId } = member;
      const common = { ...member, role: members.roleOf(nodeId), isLeader: nodeId === core.leader };
      if (core.role !== "leader") return common;
      if (nodeId === self) return { ...common, matchIndex: core.lastIndex, isActive: true };
      const progress = core.progressOf(nodeId);
      if (progress === undefined) return common;
      return { ...common, matchIndex: progress.matchIndex, isActive: progress.isActive };
    });
  }

  /** See RaftNode.addMember. */
  async add(asked: NewMember): Promise<Member> {
    const { members } = this.#options;
    this.#requireLead();
    const known = members.byName(asked.name);
    if (known !== undefined) {
      const { host, raftPort, rpcPort } = known;
      const isSame =
        host === asked.host && raftPort === asked.raftPort && rpcPort === asked.rpcPort;
      // Asked again, because the first answer was lost.
      if (isSame && membersOf(members.committed.configuration).includes(known.nodeId)) return known;
      if (isSame) {
        throw new WeirError("Busy", `Cannot add "${asked.name}": it is being added`);
      }
      throw new WeirError(
        "AlreadyExists",
        `Cannot add "${asked.name}": a member of that name is at "${host}:${raftPort}" already; ` +
          "replace or remove it first",
      );
    }
    const member = await this.#admit(asked);
    await this.#change({ kind: "addLearner", member }, (configuration) =>
      membersOf(configuration).includes(member.nodeId),
    );
    return member;
  }

  /** See RaftNode.removeMember. */
  async remove(name: string): Promise<void> {
    this.#requireLead();
    const { members } = this.#options;
    const known = members.byName(name);
    const leaving = members.committed.configuration.members?.find((each) => each.name === name);
    const { nodeId } = known ?? leaving ?? this.#find(name, "remove");
    const isGone = (configuration: Configuration) => !membersOf(configuration).includes(nodeId);
    // Asked again, while the log has it and no majority does.
    if (known === undefined) await this.#decided(this.#present, isGone);
    else await this.#change({ kind: "remove", nodeId }, isGone);
  }

  /** See RaftNode.promoteMember. */
  async promote(name: string): Promise<void> {
    const { members } = this.#options;
    this.#requireLead();
    const { nodeId } = this.#find(name, "promote");
    const isVoter = ({ voters }: Configuration) => voters.includes(nodeId);
    if (isVoter(members.committed.configuration)) return;
    if (isVoter(members.active)) await this.#decided(this.#present, isVoter);
    else await this.#change({ kind: "promote", nodeId }, isVoter);
  }

  /** See RaftNode.replaceMember. */
  async replace(name: string, place: Place): Promise<Member> {
    this.#requireLead();
    const { nodeId: old } = this.#find(name, "replace");
    if (old === this.#options.self) {
      throw new WeirError(
        "InvalidArgument",
        `Cannot replace "${name}": it leads now; its data is there`,
      );
    }
    const member = await this.#admit({ name, ...place, promote: true });
    // It has the data of the member that is there: the first answer was lost, or nothing is to be replaced.
    const isOnly = (configuration: Configuration) =>
      membersOf(configuration).includes(member.nodeId) &&
      (configuration.members ?? []).every(
        (each) => each.name !== name || each.nodeId === member.nodeId,
      );
    if (member.nodeId === old) await this.#decided(this.#present, isOnly);
    else await this.#change({ kind: "replace", nodeId: old, member }, isOnly);
    return member;
  }

  /**
   * Writes down that members listen elsewhere; resolves when that is committed. Nobody asks for it, so it waits for
   * members that may not know how members change, where the others only need those that are there.
   * @throws WeirError as the other changes; `InvalidArgument` when another member has that address
   */
  async move(moves: readonly Move[]): Promise<void> {
    this.#requireLead();
    this.#requireVersions(this.#options.transport.versions.oldest);
    await this.#change({ kind: "move", moves }, () => true);
  }

  /** Once per turn: answers what is decided. */
  observe(): void {
    if (this.#waiting.size === 0) return;
    const { members, driver } = this.#options;
    const { core } = driver;
    const { index, configuration } = members.committed;
    for (const waiting of [...this.#waiting]) {
      if (index >= waiting.index && waiting.isDone(configuration)) {
        waiting.resolve();
      } else if (core.role !== "leader" || core.term !== waiting.term) {
        waiting.reject(undecided("the leadership was lost"));
      }
    }
  }

  /** Answers all who wait. */
  stop(): void {
    for (const waiting of [...this.#waiting]) waiting.reject(undecided("this master stops"));
  }

  async #admit(asked: NewMember): Promise<Member> {
    const { transport, members, clusterId, driver } = this.#options;
    const { name, host, raftPort: port } = asked;
    if (this.#admitting !== undefined) {
      throw new WeirError("Busy", `Cannot admit "${name}": "${this.#admitting}" is being admitted`);
    }
    this.#requireVersions();
    this.#admitting = name;
    try {
      const bindings = members.all.map((each) => ({ name: each.name, nodeId: each.nodeId }));
      const { lastIndex } = driver.core;
      const welcome = { clusterId, members: bindings, lastIndex };
      const now = membersOf(members.active);
      const nodeId = await admit(transport, { name, host, port }, welcome, now);
      return { nodeId, ...asked };
    } finally {
      this.#admitting = undefined;
    }
  }

  async #change(
    change: MemberChange,
    isDone: (configuration: Configuration) => boolean,
  ): Promise<void> {
    const { driver, notLeader } = this.#options;
    this.#requireVersions();
    const changed = driver.changeMembers(change);
    if (!changed.ok) {
      throw changed.code === "NotLeader"
        ? notLeader()
        : new WeirError(changed.code, changed.reason);
    }
    await this.#decided(changed, isDone);
  }

  /** The change that is in the log last. */
  get #present(): { readonly index: number; readonly term: number } {
    const { core } = this.#options.driver;
    return { index: core.configurationIndex, term: core.term };
  }

  /** Resolves when what this leader has in its log at that place is committed and done. */
  async #decided(
    { index, term }: { readonly index: number; readonly term: number },
    isDone: (configuration: Configuration) => boolean,
  ): Promise<void> {
    const { clock, members } = this.#options;
    const { committed } = members;
    if (committed.index >= index && isDone(committed.configuration)) return;
    await new Promise<void>((resolve, reject) => {
      const over = () => {
        cancel();
        this.#waiting.delete(waiting);
      };
      const waiting: Waiting = {
        index,
        term,
        isDone,
        resolve: () => {
          over();
          resolve();
        },
        reject: (error) => {
          over();
          reject(error);
        },
      };
      const cancel = clock.after(changeTimeoutMs, () => {
        waiting.reject(undecided(`no majority took it within ${changeTimeoutMs} ms`));
      });
      this.#waiting.add(waiting);
    });
  }

  #requireLead(): void {
    if (this.#options.driver.core.role !== "leader") throw this.#options.notLeader();
  }

  /**
   * A member of the first version would let an entry about the members pass, and go on deciding by the old ones. Those that
   * are away are taken for ones of version `away`.
   */
  #requireVersions(away = oldestOfChanges): void {
    const { members, transport, self } = this.#options;
    const old = members.all.find(
      ({ nodeId }) => nodeId !== self && (transport.versionOf(nodeId) ?? away) < oldestOfChanges,
    );
    if (old === undefined) return;
    const what = transport.versionOf(old.nodeId) === undefined ? "is away, and may run" : "runs";
    throw new WeirError(
      "NotSupported",
      `Cannot change the members: "${old.name}" ${what} a version that does not know how; upgrade it first`,
    );
  }

  #find(name: string, verb: string): Member {
    const member = this.#options.members.byName(name);
    if (member !== undefined) return member;
    const names = this.#options.members.all.map((each) => `"${each.name}"`).join(", ");
    throw new WeirError("NotFound", `Cannot ${verb} "${name}": the members are ${names}`);
  }
}

function undecided(why: string): WeirError {
  return new WeirError("Unavailable", `Cannot tell whether the members were changed: ${why}`, {
    outcome: "unknown",
  });
}
