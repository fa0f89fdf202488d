/**
 * From requests to entries and back: all requests that arrive between two turns of the consensus become one entry, and
 * each gets its results when the entry has been applied.
 *
 * Invariants
 * 1. A request is answered from an applied entry at the (index, term) that it was proposed at, or with an error that
 *    says whether it may still be applied.
 * 2. An entry that another term has overwritten was not applied.
 * 3. Cluster time of the entries proposed here never goes back.
 */
import type { Clock } from "../../lib/clock.ts";
import { toWeirError, WeirError } from "../../lib/errors.ts";
import { maxCommandsPerEntry, type Position, type SessionId } from "../../lib/ids.ts";
import { encode } from "../../lib/schema.ts";
import type { Command, CommandResult, Request } from "../../rpc/commands.ts";
import { entryPayload } from "../../rpc/commands.ts";
import type { AppliedEvent } from "./machine-host.ts";
import type { Leadership } from "./leadership.ts";
import { abortError } from "./signals.ts";

/** Largest entry, in bytes: one that is larger delays heartbeats and other entries. */
const maxEntryBytes = 1024 * 1024;
/** How long the fate of an entry is awaited after leadership was lost: the next leader decides it within moments. */
const undecidedMs = 3000;
/** How often it is tried to propose what is held while the leadership is handed over. */
const heldMs = 10;

export interface Outcome {
  /** What the answer reflects: the place of the request's first command, at its first execution. */
  readonly position: Position;
  readonly results: readonly CommandResult[];
}

/** An entry whose fate is not known yet. */
interface Undecided {
  readonly term: number;
  readonly requests: readonly Waiting[];
}

interface Waiting {
  readonly request: Request;
  /** Who waits for the answer. */
  readonly caller: { readonly aborted: boolean };
  resolve(outcome: Outcome): void;
  reject(error: WeirError): void;
}

export class Proposer {
  readonly #clock: Clock;
  readonly #leadership: Leadership;
  readonly #propose: (payload: Uint8Array) => { index: number; term: number };
  readonly #isStoreFull: () => boolean;
  readonly #isHandingOver: () => boolean;
  readonly #beforeTurn: (callback: () => void) => void;
  readonly #flushArrived = () => this.#flush();
  /** Arrived since the last turn of the consensus. */
  #arrived: Waiting[] = [];
  /** Proposed and not decided, by log index. */
  readonly #undecided = new Map<number, Undecided>();
  /** Refused since this master is about to lead no more: answered with who does, or proposed if it stays. */
  #held: Waiting[] = [];
  #lastClusterTimeMs = 0;

  constructor(options: {
    clock: Clock;
    leadership: Leadership;
    propose: (payload: Uint8Array) => { index: number; term: number };
    isStoreFull: () => boolean;
    /** The leadership is on its way to another master: nothing is taken meanwhile. */
    isHandingOver: () => boolean;
    /** Calls back once what has arrived was read, right before the consensus takes its turn. */
    beforeTurn: (callback: () => void) => void;
  }) {
    this.#clock = options.clock;
    this.#leadership = options.leadership;
    this.#propose = options.propose;
    this.#isStoreFull = options.isStoreFull;
    this.#isHandingOver = options.isHandingOver;
    this.#beforeTurn = options.beforeTurn;
  }

  /**
   * Proposes a request and resolves when it has been applied; a caller that has gone before it was proposed is passed
   * over. Otherwise nothing ends the wait but the fate of the entry: the caller's deadline is not looked at.
   * @throws WeirError `NotLeader`, `Busy`, `DiskFull`, `InvalidArgument` (too large): nothing was applied; `Unavailable`
   *   with outcome `unknown`
   */
  enqueue(request: Request, caller: { readonly aborted: boolean }): Promise<Outcome> {
    return new Promise<Outcome>((resolve, reject) => {
      if (request.commands.length > maxCommandsPerEntry) {
        throw new WeirError(
          "InvalidArgument",
          `Cannot take a request of ${String(request.commands.length)} commands: wanted at most ${String(maxCommandsPerEntry)}`,
        );
      }
      if (this.#leadership.reign === undefined) throw this.#leadership.error();
      if (this.#isStoreFull()) {
        throw new WeirError("Busy", "Cannot take a command: the disk is behind with the state");
      }
      this.#arrived.push({ request, caller, resolve, reject });
      if (this.#arrived.length === 1) this.#beforeTurn(this.#flushArrived);
    });
  }

  /**
   * As `enqueue`, but waits for the reign to begin, and no longer than until `signal` is aborted: the fate of the request
   * is unknown then.
   * @throws WeirError as `enqueue`; `DeadlineExceeded` with outcome `unknown`
   */
  async submit(request: Request, signal: AbortSignal): Promise<Outcome> {
    await this.#leadership.whenReigning(signal);
    if (signal.aborted) throw abortError(signal, "Cannot take a command");
    const outcome = this.enqueue(request, signal);
    return await new Promise<Outcome>((resolve, reject) => {
      const onAbort = () => {
        reject(
          new WeirError("DeadlineExceeded", "Cannot wait for a command to be committed", {
            cause: signal.reason,
            outcome: "unknown",
          }),
        );
      };
      signal.addEventListener("abort", onAbort, { once: true });
      void outcome
        .then(resolve, reject)
        .finally(() => signal.removeEventListener("abort", onAbort));
    });
  }

  /** Commands of the leader itself, in as few entries as they fit in; the results are in their order. */
  async propose(commands: readonly Command[], signal: AbortSignal): Promise<CommandResult[]> {
    const pages: Promise<Outcome>[] = [];
    for (let from = 0; from < commands.length; from += maxCommandsPerEntry) {
      const page = commands.slice(from, from + maxCommandsPerEntry);
      pages.push(this.submit(ownRequest(page), signal));
    }
    const outcomes = await Promise.all(pages);
    return outcomes.flatMap((outcome) => outcome.results);
  }

  /** Proposes the first command of an empty cluster; whether it was applied, the state shows. False: it was refused. */
  bootstrap(command: Command): boolean {
    let accepted = true;
    const reject = () => {
      accepted = false;
    };
    const caller = { aborted: false };
    const request = ownRequest([command]);
    this.#proposeGroup([{ request, caller, resolve: () => undefined, reject }]);
    return accepted;
  }

  /** Takes what has been applied. */
  applied({ index, term, payload, applied }: AppliedEvent): void {
    const entry = this.#undecided.get(index);
    if (entry === undefined) return;
    this.#undecided.delete(index);
    if (entry.term !== term || payload === undefined || applied === undefined) {
      for (const waiting of entry.requests) waiting.reject(this.#leadership.error());
      return;
    }
    entry.requests.forEach((waiting, i) => {
      waiting.resolve({ position: applied.positions[i]!, results: applied.results[i]! });
    });
  }

  /** The state was replaced up to `index`: what became of the entries below cannot be told. */
  installed(index: number): void {
    this.#giveUp((place) => place <= index);
  }

  /** Leadership ended; entries that nobody decides soon are given up. */
  leadershipLost(): void {
    const held = this.#held;
    this.#held = [];
    for (const waiting of held) waiting.reject(this.#leadership.error());
    // Not the indexes: by then they may be those of entries of the next reign.
    const open = new Set(this.#undecided.values());
    if (open.size > 0)
      this.#clock.after(undecidedMs, () => this.#giveUp((_index, entry) => open.has(entry)));
  }

  #giveUp(which: (index: number, entry: Undecided) => boolean): void {
    for (const [index, entry] of [...this.#undecided]) {
      if (!which(index, entry)) continue;
      this.#undecided.delete(index);
      for (const waiting of entry.requests) {
        waiting.reject(
          new WeirError("Unavailable", "Cannot tell whether the command was committed", {
            outcome: "unknown",
          }),
        );
      }
    }
  }

  /**
   * Keeps requests that were refused although the reign is on. Sent away now, their clients would ask around in vain: in
   * a moment it is known who leads next.
   */
  #hold(group: readonly Waiting[]): void {
    if (this.#held.length === 0) {
      this.#clock.after(heldMs, () => {
        if (this.#held.length === 0) return;
        this.#arrived.unshift(...this.#held);
        this.#held = [];
        this.#flush();
      });
    }
    this.#held.push(...group);
  }

  #flush(): void {
    const arrived = this.#arrived;
    this.#arrived = [];
    let group: Waiting[] = [];
    let commands = 0;
    for (const waiting of arrived) {
      if (waiting.caller.aborted) {
        waiting.reject(new WeirError("Cancelled", "Cannot take a command: its caller is gone"));
        continue;
      }
      const more = waiting.request.commands.length;
      if (group.length > 0 && commands + more > maxCommandsPerEntry) {
        this.#proposeGroup(group);
        group = [];
        commands = 0;
      }
      group.push(waiting);
      commands += more;
    }
    if (group.length > 0) this.#proposeGroup(group);
  }

  #proposeGroup(group: readonly Waiting[]): void {
    try {
      // A reign may have ended since the requests arrived; then consensus itself refuses.
      const clusterTimeMs = Math.max(this.#lastClusterTimeMs, this.#leadership.clusterTimeMs());
      const wallMs = this.#clock.wallMs();
      const payload = encode(entryPayload, {
        clusterTimeMs,
        wallTime: {
          sec: Math.floor(wallMs / 1000),
          nsec: Math.floor((wallMs - Math.floor(wallMs / 1000) * 1000) * 1_000_000),
        },
        requests: group.map(({ request }) => request),
      });
      if (payload.length > maxEntryBytes) {
        if (group.length === 1) {
          throw new WeirError(
            "InvalidArgument",
            `Cannot take a request of ${String(payload.length)} bytes: wanted at most ${String(maxEntryBytes)}`,
          );
        }
        const middle = group.length >>> 1;
        this.#proposeGroup(group.slice(0, middle));
        this.#proposeGroup(group.slice(middle));
        return;
      }
      const { index, term } = this.#propose(payload);
      this.#lastClusterTimeMs = clusterTimeMs;
      // The log was cut there since: what stood at this index was never committed.
      for (const lost of this.#undecided.get(index)?.requests ?? []) {
        lost.reject(this.#leadership.error());
      }
      this.#undecided.set(index, { term, requests: group });
    } catch (thrown) {
      const error = toWeirError(thrown, "Cannot propose");
      const isLeaving =
        error.code === "NotLeader" || (error.code === "Busy" && this.#isHandingOver());
      if (isLeaving && this.#leadership.reign !== undefined) {
        this.#hold(group);
        return;
      }
      const answer = error.code === "NotLeader" ? this.#leadership.error() : error;
      for (const waiting of group) waiting.reject(answer);
    }
  }
}

function ownRequest(commands: readonly Command[]): Request {
  return {
    session: 0 as SessionId,
    sequence: 0,
    acknowledgedBelow: 0,
    atomic: false,
    commands,
  };
}
