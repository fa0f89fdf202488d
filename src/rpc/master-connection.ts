/**
 * All masters of a cluster as one callee: finds the leader, follows hints, and sends a call again as far as its outcome
 * allows. Clients and workers use it.
 */
import { sleep, type Clock } from "../lib/clock.ts";
import { toWeirError, WeirError } from "../lib/errors.ts";
import type { Logger } from "../lib/logger.ts";
import { RpcClient } from "./client.ts";
import type { Method } from "./method.ts";
import { isRemote, leaderAddressOf } from "./wire.ts";

const firstPauseMs = 5;
const longestPauseMs = 100;

export class MasterConnection {
  /** Direct connections, in the order of the configuration: for heartbeats to all and for the change feed. */
  readonly each: readonly RpcClient[];
  readonly #clock: Clock;
  /** Place in `each` of the master that answered last, or that is to be tried next. */
  #current = 0;

  constructor(options: {
    masters: readonly { host: string; port: number }[];
    logger: Logger;
    clock: Clock;
  }) {
    this.#clock = options.clock;
    this.each = options.masters.map(
      ({ host, port }) => new RpcClient({ host, port, logger: options.logger }),
    );
  }

  /** The connection to the master that is believed to lead. */
  get leader(): RpcClient {
    return this.each[this.#current]!;
  }

  /**
   * Calls the leader, and again until the deadline: after `NotLeader`, after `Busy`, and after a lost connection or a
   * lost lead when nothing was applied for sure or the call is `idempotent` (safe to send again although the first may
   * have been applied: reads, and commands under a session and sequence).
   * @throws WeirError what the leader answered; `Unavailable` when no leader was found by the deadline; `outcome` is
   *   `unknown` as soon as any attempt may have been applied
   */
  async call<Q, S>(
    method: Method<Q, S>,
    request: Q,
    options: { deadlineMs: number; signal?: AbortSignal | undefined; idempotent: boolean },
  ): Promise<S> {
    const { signal, idempotent } = options;
    const end = this.#clock.monotonicMs() + options.deadlineMs;
    let pauseMs = firstPauseMs;
    let mayBeApplied = false;
    let hintsFollowed = 0;
    /** Why it was to be tried again. */
    let lastFailure: WeirError | undefined;
    const tooLate = (failure: WeirError) =>
      new WeirError(
        failure.code === "NotLeader" ? "Unavailable" : failure.code,
        `Cannot finish "${method.name}" within ${String(Math.round(options.deadlineMs))} ms: ${failure.message}`,
        { cause: failure, outcome: mayBeApplied ? "unknown" : "notApplied" },
      );
    for (;;) {
      const tried = this.#current;
      const remainingMs = end - this.#clock.monotonicMs();
      let failure: WeirError;
      try {
        return await this.each[tried]!.call(method, request, { deadlineMs: remainingMs, signal });
      } catch (thrown) {
        failure = toWeirError(thrown, `Cannot call "${method.name}"`);
      }
      const unknown = failure.outcome === "unknown";
      const again = isRemote(failure)
        ? failure.code === "NotLeader" ||
          failure.code === "Busy" ||
          (failure.code === "Unavailable" && unknown)
        : failure.code === "Unavailable";
      if (!again || (unknown && !idempotent)) {
        if (isRemote(failure)) throw failure;
        mayBeApplied ||= unknown;
        // At the deadline, what went wrong before says more than that time is over.
        if (failure.code === "DeadlineExceeded" && lastFailure !== undefined) {
          throw tooLate(lastFailure);
        }
        throw mayBeApplied && !unknown ? withOutcomeUnknown(failure) : failure;
      }
      lastFailure = failure;
      mayBeApplied ||= unknown;

      const hinted = this.#placeOf(leaderAddressOf(failure));
      const followHint = failure.code === "NotLeader" && hinted !== undefined && hinted !== tried;
      // Another call that failed here before may have moved on already; follow it then.
      if (failure.code !== "Busy" && this.#current === tried) {
        this.#current = followHint ? hinted : (tried + 1) % this.each.length;
      }
      if (followHint && hintsFollowed++ < 2) continue;
      hintsFollowed = 0;
      if (this.#clock.monotonicMs() + pauseMs >= end) throw tooLate(failure);
      try {
        await sleep(pauseMs, signal);
      } catch (cause) {
        throw new WeirError("Cancelled", `Cannot finish "${method.name}": it was cancelled`, {
          cause,
          outcome: mayBeApplied ? "unknown" : "notApplied",
        });
      }
      pauseMs = Math.min(pauseMs * 2, longestPauseMs);
    }
  }

  /** Ends all connections; calls under way fail. */
  close(): void {
    for (const client of this.each) client.close();
  }

  #placeOf(address: string | undefined): number | undefined {
    const place = this.each.findIndex((client) => client.address === address);
    return place < 0 ? undefined : place;
  }
}

function withOutcomeUnknown(error: WeirError): WeirError {
  return new WeirError(error.code, error.message, { cause: error, outcome: "unknown" });
}
