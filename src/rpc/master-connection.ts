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
import { type Introduce, RpcClient } from "./client.ts";
import type { Method } from "./method.ts";
import type { Caller } from "./namespace.ts";
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

export interface MasterConnectionOptions {
  readonly masters: readonly { host: string; port: number }[];
  readonly logger: Logger;
  readonly clock: Clock;
  /** The master that reads `from` any go to, by its place; without it this process's share of them. */
  readonly reader?: number | undefined;
  /** What is said first on each connection to a master. */
  readonly introduce?: Introduce | undefined;
}

export class MasterConnection {
  /** Direct connections to the masters of the configuration, in its order. */
  readonly each: readonly RpcClient[];
  /** Those, and behind them leaders that masters named and the configuration does not: members that were added since. */
  readonly #known: RpcClient[];
  readonly #options: MasterConnectionOptions;
  readonly #logger: Logger;
  readonly #clock: Clock;
  /** Who is tried: places in `#known`. */
  readonly #turns: {
    /** The master that answered last as the leader, or that is to be tried next. */
    current: number;
    /** The master that reads from any go to; one of `each`. */
    reader: number;
  };
  /** Masters of whom the others are being asked. */
  readonly #doubted: Set<RpcClient>;
  /** In whose name calls are made; undefined: the superuser's. */
  readonly #caller: Caller | undefined;

  /** `of`: another one, whose connections it has, for the calls of a caller. */
  constructor(
    options: MasterConnectionOptions,
    of?: { readonly shared: MasterConnection; readonly caller: Caller | undefined },
  ) {
    this.#options = options;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#caller = of?.caller;
    if (of === undefined) {
      this.each = options.masters.map(({ host, port }) => this.#clientOf(host, port));
      this.#known = [...this.each];
      this.#doubted = new Set();
      const reader = (options.reader ?? process.pid) % this.each.length;
      this.#turns = { current: 0, reader };
    } else {
      this.each = of.shared.each;
      this.#known = of.shared.#known;
      this.#doubted = of.shared.#doubted;
      this.#turns = of.shared.#turns;
    }
  }

  /** The same connections, for calls in the name of `caller`. */
  as(caller: Caller | undefined): MasterConnection {
    return new MasterConnection(this.#options, { shared: this, caller });
  }

  /** The connection to the master that is believed to lead. */
  get leader(): RpcClient {
    return this.#known[this.#turns.current]!;
  }

  /**
   * Calls the leader, and again until the deadline: after `NotLeader`, after `Busy`, and after a lost connection or a
   * lost lead when nothing was applied for sure or the call is `idempotent`.
   * @throws WeirError what the leader answered; `Unavailable` when no leader was found by the deadline; `outcome` is
   *   `unknown` as soon as any attempt may have been applied
   */
  call<Q, S>(method: Method<Q, S>, request: Q, options: CallOptions): Promise<S> {
    const startMs = this.#clock.monotonicMs();
    const asked = this.#caller === undefined ? request : { ...request, caller: this.#caller };
    const tried = options.from === "any" ? this.#turns.reader : this.#turns.current;
    // Nearly all calls end here: what it takes to go on is made when one fails.
    const { deadlineMs, signal } = options;
    const watched = { deadlineMs, signal, watched: true };
    return this.#known[tried]!.call(method, asked, watched).catch((thrown: unknown) =>
      this.#goOn(
        { method, request: asked, options, endMs: startMs + options.deadlineMs },
        tried,
        thrown,
      ),
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
      if (options.from === "any" && tried === firstTried && tried !== this.#turns.current) {
        // The leader answers what its followers do not; one that is away is not asked first any more.
        if (!isRemote(failure)) this.#turns.reader = (firstTried + 1) % this.each.length;
        pauses = false;
      } else {
        const hinted = this.#placeOf(leaderAddressOf(failure));
        const followHint = failure.code === "NotLeader" && hinted !== undefined && hinted !== tried;
        // Another call that failed here before may have moved on already; follow it then.
        const follows = followHint || this.#turns.current !== tried;
        if (failure.code !== "Busy" && this.#turns.current === tried) {
          this.#turns.current = followHint ? hinted : (tried + 1) % this.#known.length;
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

      tried = this.#turns.current;
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
    const { introduce } = this.#options;
    const client = new RpcClient({ host, port, logger: this.#logger, onSilent, introduce });
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
    if (this.leader === suspect) this.#turns.current = leader;
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
