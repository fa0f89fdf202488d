/**
 * All masters of a cluster as one callee: finds the leader, follows hints, and sends a call again as far as its outcome
 * allows. Clients and workers use it.
 *
 * A master that falls silent (stopped, without power or network) closes no connection. After some 300 ms of silence the
 * others are asked; as soon as one of them knows another leader, the silent one is left and what waited for it goes there.
 * Until then it is waited for: a slow leader is not a reason to look for another one.
 */
import { sleep, type Clock } from "../lib/clock.ts";
import { toWeirError, WeirError } from "../lib/errors.ts";
import type { Logger } from "../lib/logger.ts";
import { RpcClient } from "./client.ts";
import type { Method } from "./method.ts";
import { otherLeader } from "./other-leader.ts";
import { isRemote, leaderAddressOf } from "./wire.ts";

const firstPauseMs = 5;
const longestPauseMs = 100;
/** Most masters that are kept in mind: more than a cluster has, through a change of all of them. */
const maxKnown = 32;

export interface CallOptions {
  readonly deadlineMs: number;
  readonly signal?: AbortSignal | undefined;
  /** Safe to send again although the first may have been applied: reads, and commands under a session and sequence. */
  readonly idempotent: boolean;
  /**
   * Whom to ask first: the leader, or, for reads, the master that this client was given to spread the load. Either way
   * the answer is as consistent as the request asks for.
   */
  readonly from?: "leader" | "any" | undefined;
}

export class MasterConnection {
  /** Direct connections to the masters of the configuration, in its order. */
  readonly each: readonly RpcClient[];
  /** Those, and behind them leaders that masters named and the configuration does not: members that were added since. */
  readonly #known: RpcClient[];
  readonly #logger: Logger;
  readonly #clock: Clock;
  /** Place in `#known` of the master that answered last as the leader, or that is to be tried next. */
  #current = 0;
  /** Place in `each` of the master that reads from any go to. */
  #reader: number;
  /** Masters of whom the others are being asked. */
  readonly #doubted = new Set<RpcClient>();

  /** `reader`: the master that reads `from` any go to, by its place; without it this process's share of them. */
  constructor(options: {
    masters: readonly { host: string; port: number }[];
    logger: Logger;
    clock: Clock;
    reader?: number | undefined;
  }) {
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.each = options.masters.map(({ host, port }) => this.#clientOf(host, port));
    this.#known = [...this.each];
    this.#reader = (options.reader ?? process.pid) % this.each.length;
  }

  /** The connection to the master that is believed to lead. */
  get leader(): RpcClient {
    return this.#known[this.#current]!;
  }

  /**
   * Calls the leader, and again until the deadline: after `NotLeader`, after `Busy`, and after a lost connection or a
   * lost lead when nothing was applied for sure or the call is `idempotent`.
   * @throws WeirError what the leader answered; `Unavailable` when no leader was found by the deadline; `outcome` is
   *   `unknown` as soon as any attempt may have been applied
   */
  call<Q, S>(method: Method<Q, S>, request: Q, options: CallOptions): Promise<S> {
    const startMs = this.#clock.monotonicMs();
    const tried = options.from === "any" ? this.#reader : this.#current;
    // Nearly all calls end here: what it takes to go on is made when one fails.
    const { deadlineMs, signal } = options;
    const watched = { deadlineMs, signal, watched: true };
    return this.#known[tried]!.call(method, request, watched).catch((thrown: unknown) =>
      this.#goOn({ method, request, options, endMs: startMs + options.deadlineMs }, tried, thrown),
    );
  }

  async #goOn<Q, S>(call: Call<Q, S>, firstTried: number, firstThrown: unknown): Promise<S> {
    const { method, request, options, endMs } = call;
    const { signal, idempotent } = options;
    let pauseMs = firstPauseMs;
    let mayBeApplied = false;
    let hintsFollowed = 0;
    let tried = firstTried;
    let thrown = firstThrown;
    /** Why it was to be tried again. */
    let lastFailure: WeirError | undefined;
    const tooLate = (failure: WeirError) =>
      new WeirError(
        failure.code === "NotLeader" ? "Unavailable" : failure.code,
        `Cannot finish "${method.name}" within ${String(Math.round(options.deadlineMs))} ms: ${failure.message}`,
        { cause: failure, outcome: mayBeApplied ? "unknown" : "notApplied" },
      );
    for (;;) {
      const failure = toWeirError(thrown, `Cannot call "${method.name}"`);
      const unknown = failure.outcome === "unknown";
      const again = isRemote(failure)
        ? failure.code === "NotLeader" ||
          failure.code === "Busy" ||
          (failure.code === "Unavailable" && unknown)
        : failure.code === "Unavailable";
      if (!again || (unknown && !idempotent)) {
        // At the deadline, what went wrong before says more than that time is over, whichever end saw it first.
        if (failure.code === "DeadlineExceeded" && lastFailure !== undefined) {
          mayBeApplied ||= unknown;
          throw tooLate(lastFailure);
        }
        if (isRemote(failure)) throw failure;
        mayBeApplied ||= unknown;
        throw mayBeApplied && !unknown ? withOutcomeUnknown(failure) : failure;
      }
      lastFailure = failure;
      mayBeApplied ||= unknown;

      let pauses = true;
      if (options.from === "any" && tried === firstTried && tried !== this.#current) {
        // The leader answers what its followers do not; one that is away is not asked first any more.
        if (!isRemote(failure)) this.#reader = (firstTried + 1) % this.each.length;
        pauses = false;
      } else {
        const hinted = this.#placeOf(leaderAddressOf(failure));
        const followHint = failure.code === "NotLeader" && hinted !== undefined && hinted !== tried;
        // Another call that failed here before may have moved on already; follow it then.
        const follows = followHint || this.#current !== tried;
        if (failure.code !== "Busy" && this.#current === tried) {
          this.#current = followHint ? hinted : (tried + 1) % this.#known.length;
        }
        if (follows && hintsFollowed++ < 2) pauses = false;
        else hintsFollowed = 0;
      }
      if (pauses) {
        if (this.#clock.monotonicMs() + pauseMs >= endMs) throw tooLate(failure);
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

      tried = this.#current;
      const remainingMs = endMs - this.#clock.monotonicMs();
      try {
        const watched = { deadlineMs: remainingMs, signal, watched: true };
        return await this.#known[tried]!.call(method, request, watched);
      } catch (next) {
        thrown = next;
      }
    }
  }

  /** The connection to the master at `host:port`, also of one that joined later; undefined for what is no address. */
  at(address: string): RpcClient | undefined {
    const place = this.#placeOf(address);
    return place === undefined ? undefined : this.#known[place];
  }

  /** Ends all connections; calls under way fail. */
  close(): void {
    for (const client of this.#known) client.close();
  }

  /** Place of the master at that address; one that is not known yet is from now on. */
  #placeOf(address: string | undefined): number | undefined {
    if (address === undefined) return undefined;
    const place = this.#known.findIndex((client) => client.address === address);
    if (place >= 0) return place;
    const colon = address.lastIndexOf(":");
    const port = Number(address.slice(colon + 1));
    if (colon < 1 || !Number.isInteger(port) || this.#known.length >= maxKnown) return undefined;
    const host = address.slice(0, colon);
    return this.#known.push(this.#clientOf(host, port)) - 1;
  }

  #clientOf(host: string, port: number): RpcClient {
    const onSilent = () => void this.#doubt(client);
    const client = new RpcClient({ host, port, logger: this.#logger, onSilent });
    return client;
  }

  /** Leaves a master that is silent for the leader that others know in its place, if they do. */
  async #doubt(suspect: RpcClient): Promise<void> {
    if (this.#doubted.has(suspect)) return;
    this.#doubted.add(suspect);
    const others = this.#known.filter((each) => each !== suspect);
    const address = await otherLeader(suspect, others);
    this.#doubted.delete(suspect);
    const leader = this.#placeOf(address);
    if (address === undefined || leader === undefined || !suspect.isSilent) return;
    if (this.leader === suspect) this.#current = leader;
    this.#logger.info({ silent: suspect.address, leader: address }, "a silent master is left");
    suspect.abandon(`it is silent, and others follow ${address}`);
  }
}

/** A call that is to be made again. */
interface Call<Q, S> {
  readonly method: Method<Q, S>;
  readonly request: Q;
  readonly options: CallOptions;
  readonly endMs: number;
}

function withOutcomeUnknown(error: WeirError): WeirError {
  return new WeirError(error.code, error.message, { cause: error, outcome: "unknown" });
}
