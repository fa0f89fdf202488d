/**
 * Whether this master leads, and since when it may act as the leader: it does so only once it has applied the no-op of
 * its own term (only then it has seen all that earlier leaders did) and the cluster has its first command. Also the cluster's own time, which the leader
 * makes from the last applied value and its monotonic clock.
 *
 * Invariants
 * 1. A reign's signal is aborted as soon as the term or the role changes.
 * 2. Cluster time never goes back, and stands still while nobody leads.
 */
import { setMaxListeners } from "node:events";
import type { Clock } from "../../lib/clock.ts";
import type { WeirError } from "../../lib/errors.ts";
import type { Logger } from "../../lib/logger.ts";
import type { RaftStatus } from "../../raft/node.ts";
import { notLeader } from "../../rpc/wire.ts";
import { abortError } from "./signals.ts";

const bootstrapPauseMs = 100;
/**
 * How long a call waits here while nobody is known to lead. Most elections are over by then, and the call goes on at once
 * to who won, without its client asking one master after the other in vain.
 */
const electionHoldMs = 500;

/** One term of leadership, from the applied no-op to its end. */
export interface Reign {
  readonly term: number;
  /** Aborted when leadership ends, with what is to be answered to whoever waits. */
  readonly signal: AbortSignal;
  /** Monotonic time of its start. */
  readonly sinceMs: number;
}

export class Leadership {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #lastClusterTimeMs: () => number;
  readonly #isBootstrapped: () => boolean;
  readonly #onEmpty: () => boolean;
  readonly #onReign: (reign: Reign) => void;
  /** The term in which the first command was proposed. */
  #bootstrapTerm = 0;
  #status: RaftStatus | undefined;
  #appliedTerm = 0;
  #reign: { reign: Reign; controller: AbortController; clusterTimeMs: number } | undefined;
  /** Who waits for the reign to begin, or for the role to be lost. */
  readonly #waiting = new Set<() => void>();

  constructor(options: {
    clock: Clock;
    logger: Logger;
    /** Cluster time of the last applied entry. */
    lastClusterTimeMs: () => number;
    /** Whether the first command was applied. */
    isBootstrapped: () => boolean;
    /** This master leads a cluster without state: the first command is to be proposed. False: it could not be. */
    onEmpty: () => boolean;
    /** A reign began: services of the leader start. */
    onReign: (reign: Reign) => void;
  }) {
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#lastClusterTimeMs = options.lastClusterTimeMs;
    this.#isBootstrapped = options.isBootstrapped;
    this.#onEmpty = options.onEmpty;
    this.#onReign = options.onReign;
  }

  /** Takes what consensus says of this node. */
  update(status: RaftStatus): void {
    this.#status = status;
    const running = this.#reign;
    if (running !== undefined && (status.role !== "leader" || status.term !== running.reign.term)) {
      this.#reign = undefined;
      this.#logger.info({ term: running.reign.term }, "leadership ended");
      running.controller.abort(this.error());
    }
    this.#begin();
    // Who waits looks again: at a reign that has begun, or at another leader.
    this.#release();
  }

  /** Takes the term of an entry that was just applied. */
  applied(term: number): void {
    if (term === this.#appliedTerm && this.#reign !== undefined) return;
    this.#appliedTerm = term;
    this.#begin();
  }

  get status(): RaftStatus | undefined {
    return this.#status;
  }

  /** RPC address of the leader, as far as this master knows. */
  get leaderAddress(): string | undefined {
    return this.#status?.leaderRpcAddress;
  }

  /** The reign that is on, if this master leads and is ready to. */
  get reign(): Reign | undefined {
    return this.#reign?.reign;
  }

  /** What to answer to a call that only the leader serves. */
  error(): WeirError {
    return notLeader(this.#status?.role === "leader" ? undefined : this.leaderAddress);
  }

  /**
   * Resolves with the reign as soon as this master may act as the leader. While nobody is known to lead it waits a little
   * for the election.
   * @throws WeirError `NotLeader`, or the signal's reason
   */
  async whenReigning(signal: AbortSignal): Promise<Reign> {
    let untilMs: number | undefined;
    for (;;) {
      if (this.#reign !== undefined) return this.#reign.reign;
      if (this.#status?.role !== "leader") {
        untilMs ??= this.#clock.monotonicMs() + electionHoldMs;
        const leftMs = untilMs - this.#clock.monotonicMs();
        if (!this.#mayComeToLead || leftMs <= 0) throw this.error();
        await this.#change(signal, leftMs);
      } else {
        await this.#change(signal, undefined);
      }
    }
  }

  /**
   * RPC address of the leader, as soon as one is known that is not at `address`; after `longestMs` what is known then.
   * @throws WeirError the signal's reason
   */
  async otherLeader(
    address: string,
    longestMs: number,
    signal: AbortSignal,
  ): Promise<string | undefined> {
    const untilMs = this.#clock.monotonicMs() + longestMs;
    for (;;) {
      const known = this.leaderAddress;
      const leftMs = untilMs - this.#clock.monotonicMs();
      if ((known !== undefined && known !== address) || leftMs <= 0) return known;
      await this.#change(signal, leftMs);
    }
  }

  /** A member of a cluster in which nobody leads: the next leader may be this one. */
  get #mayComeToLead(): boolean {
    const status = this.#status;
    return (
      status?.stage === "member" &&
      status.leaderName === undefined &&
      status.leaderRpcAddress === undefined
    );
  }

  /** Resolves when who waits is to look again, or after `longestMs`. */
  #change(signal: AbortSignal, longestMs: number | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = () => {
        cancel();
        signal.removeEventListener("abort", onAbort);
        resolve();
      };
      const forget = () => {
        this.#waiting.delete(look);
      };
      const cancel =
        longestMs === undefined
          ? () => undefined
          : this.#clock.after(longestMs, () => {
              forget();
              look();
            });
      const onAbort = () => {
        cancel();
        forget();
        reject(abortError(signal, "Cannot wait for the leader"));
      };
      if (signal.aborted) {
        onAbort();
        return;
      }
      signal.addEventListener("abort", onAbort, { once: true });
      this.#waiting.add(look);
    });
  }

  /** Cluster time in milliseconds; while this master does not reign, that of the last applied entry. */
  clusterTimeMs(): number {
    const applied = this.#lastClusterTimeMs();
    const running = this.#reign;
    if (running === undefined) return applied;
    const elapsedMs = Math.floor(this.#clock.monotonicMs() - running.reign.sinceMs);
    return Math.max(applied, running.clusterTimeMs + elapsedMs);
  }

  /** Ends the reign because the process stops. */
  stop(): void {
    const running = this.#reign;
    this.#reign = undefined;
    this.#status = undefined;
    running?.controller.abort(this.error());
    this.#release();
  }

  #begin(): void {
    const status = this.#status;
    if (
      status?.role !== "leader" ||
      this.#appliedTerm !== status.term ||
      this.#reign !== undefined
    ) {
      return;
    }
    if (!this.#isBootstrapped()) {
      if (this.#bootstrapTerm === status.term) return;
      if (this.#onEmpty()) this.#bootstrapTerm = status.term;
      else this.#clock.after(bootstrapPauseMs, () => this.#begin());
      return;
    }
    const controller = new AbortController();
    // Everything that the leader has under way listens to it.
    setMaxListeners(0, controller.signal);
    const reign: Reign = {
      term: status.term,
      signal: controller.signal,
      sinceMs: this.#clock.monotonicMs(),
    };
    this.#reign = { reign, controller, clusterTimeMs: this.#lastClusterTimeMs() };
    this.#logger.info({ term: reign.term }, "leadership began");
    this.#onReign(reign);
    this.#release();
  }

  #release(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const look of waiting) look();
  }
}
