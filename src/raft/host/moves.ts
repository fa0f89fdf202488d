/**
 * Members that have moved: they say with each connection where their own configuration file has them, and the leader
 * writes it into the log, so that new members and clients look for them there.
 *
 * Invariants
 * 1. Only a member itself says where it is, and the leader has seen it there; where the log has it, it is not any more.
 *    So two names of one place, or a file with a place of that machine alone, change nothing.
 * 2. The first entry about the members shuts out those of the first version, also one that is away meanwhile: so no move is
 *    written before all members were seen at once with a version that knows such entries.
 * 3. One look at a time, and a pause after each.
 */
import type { Clock } from "../../lib/clock.ts";
import type { Logger } from "../../lib/logger.ts";
import { type Move, type Place, whyNotMoved } from "../member-change.ts";
import type { Transport } from "../transport.ts";
import type { Member, NodeId } from "../types.ts";
import type { Driver } from "./driver.ts";
import type { MemberChanges } from "./member-changes.ts";
import type { Members } from "./members.ts";

const pauseMs = 1000;
/** Hosts that mean another machine on each. */
const ownMachine = /^(localhost|127\..*|::1|0\.0\.0\.0|::)$/;

export interface MovesOptions {
  readonly self: NodeId;
  readonly members: Members;
  readonly changes: MemberChanges;
  readonly driver: Driver;
  readonly transport: Pick<Transport, "claims" | "place" | "connect" | "complain">;
  readonly clock: Clock;
  readonly logger: Logger;
}

export class Moves {
  readonly #options: MovesOptions;
  #isLooking = false;
  /** What the last look could not write down, in sentences. */
  #refused: ReadonlySet<string> = new Set();
  #nextLookMs = 0;

  constructor(options: MovesOptions) {
    this.#options = options;
  }

  /** Once per turn: a leader looks for members that have moved, now and then. */
  observe(): void {
    const { clock, driver } = this.#options;
    if (this.#isLooking || driver.core.role !== "leader") return;
    if (clock.monotonicMs() < this.#nextLookMs) return;
    this.#isLooking = true;
    void this.#look().finally(() => {
      this.#isLooking = false;
      this.#nextLookMs = clock.monotonicMs() + pauseMs;
    });
  }

  async #look(): Promise<void> {
    const { members, transport, self } = this.#options;
    const claims = new Map(transport.claims);
    if (transport.place !== undefined) claims.set(self, transport.place);
    const moves: Move[] = [];
    for (const [nodeId, place] of claims) {
      const member = members.byId(nodeId);
      if (member === undefined || isSame(member, place)) continue;
      if (await this.#hasMoved(member, place)) moves.push({ nodeId, place });
    }
    const possible = this.#possible(moves);
    if (possible.length > 0) await this.#move(possible);
  }

  /** Those of the moves that can be made together; who does not move for that may be in the way of another one. */
  #possible(moves: readonly Move[]): readonly Move[] {
    const { members, transport } = this.#options;
    const refused = new Set<string>();
    const before = this.#refused;
    this.#refused = refused;
    for (let all = moves; ; ) {
      const possible = all.filter((move) => {
        const reason = whyNotMoved(members.active, move, all);
        if (reason === undefined) return true;
        refused.add(reason);
        // Not at once: whoever is in the way may have moved, too, and be about to connect.
        const { nodeId } = move;
        if (before.has(reason)) transport.complain(members.nameOf(nodeId) ?? nodeId, reason);
        return false;
      });
      if (possible.length === all.length) return possible;
      all = possible;
    }
  }

  async #move(moves: readonly Move[]): Promise<void> {
    const { members, changes, logger } = this.#options;
    const names = moves.map(({ nodeId }) => members.nameOf(nodeId) ?? nodeId);
    try {
      await changes.move(moves);
      for (const [i, { place }] of moves.entries()) {
        logger.info({ member: names[i], ...place }, "a member has moved");
      }
    } catch (error) {
      // Whatever hinders it passes, or is said where an operator asks for a change.
      logger.debug({ members: names, error: String(error) }, "moves wait");
    }
  }

  async #hasMoved(member: Member, claimed: Place): Promise<boolean> {
    const { host, raftPort } = member;
    if (ownMachine.test(claimed.host) && !ownMachine.test(host)) return false;
    // Found where the log says: then so is what it says of its other port.
    if (claimed.host === host && claimed.raftPort === raftPort) return true;
    return !(await this.#isAt(member, member)) && (await this.#isAt(member, claimed));
  }

  async #isAt({ nodeId, name }: Member, { host, raftPort: port }: Place): Promise<boolean> {
    const { transport } = this.#options;
    if (host === "") return false;
    try {
      const { socket, accepted } = await transport.connect({ name, host, port }, "address");
      socket.close();
      return accepted.nodeId === nodeId;
    } catch {
      return false;
    }
  }
}

function isSame(a: Place, b: Place): boolean {
  return a.host === b.host && a.raftPort === b.raftPort && a.rpcPort === b.rpcPort;
}
