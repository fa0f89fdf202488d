/** A proposer on a log that the test keeps: consensus says nothing of its own, and applies what the test says. */
import { silentLogger } from "../../../src/lib/logger.ts";
import { decode } from "../../../src/lib/schema.ts";
import { Leadership } from "../../../src/master/services/leadership.ts";
import { Proposer } from "../../../src/master/services/proposer.ts";
import { type EntryPayload, entryPayload } from "../../../src/rpc/commands.ts";
import { ManualClock } from "./manual-clock.ts";

export class ProposerFixture {
  readonly clock = new ManualClock();
  /** What was proposed, in order. */
  readonly log: { index: number; term: number; payload: EntryPayload }[] = [];
  /** What consensus says to the next proposals, if it does not take them. */
  refusal: Error | undefined;
  isStoreFull = false;
  isHandingOver = false;
  /** Of the log, as consensus has it. */
  lastIndex = 0;
  readonly leadership: Leadership;
  readonly proposer: Proposer;

  /** It leads, in term 2, whose first entry is applied. */
  constructor() {
    this.leadership = new Leadership({
      clock: this.clock,
      logger: silentLogger,
      lastClusterTimeMs: () => 5000,
      isBootstrapped: () => true,
      onEmpty: () => true,
      onReign: (reign) =>
        reign.signal.addEventListener("abort", () => this.proposer.leadershipLost()),
    });
    this.proposer = new Proposer({
      clock: this.clock,
      leadership: this.leadership,
      propose: (encoded) => {
        if (this.refusal !== undefined) throw this.refusal;
        const place = { index: ++this.lastIndex, term: this.leadership.status!.term };
        this.log.push({ ...place, payload: decode(entryPayload, encoded, "entry") });
        return place;
      },
      isStoreFull: () => this.isStoreFull,
      isHandingOver: () => this.isHandingOver,
      beforeTurn: (callback) => setImmediate(callback),
    });
    this.lead(2);
  }

  /** It leads, and the first entry of its term is applied. */
  lead(term: number): void {
    this.become("leader", term);
    this.leadership.applied(term);
  }

  become(role: "leader" | "follower", term: number): void {
    this.leadership.update({
      nodeId: "n",
      role,
      term,
      leaderName: role === "leader" ? "master-1" : "master-2",
      leaderRpcAddress: role === "leader" ? "10.0.0.1:19998" : "10.0.0.2:19998",
      commitIndex: 0,
      lastIndex: 0,
      appliedIndex: 0,
    } as Parameters<Leadership["update"]>[0]);
  }
}
