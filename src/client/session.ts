/**
 * The client's session with the masters: what makes its commands exactly-once. It is opened at the first command, kept
 * alive, and opened anew after it expired.
 *
 * Invariants
 * 1. A command is sent again only under the session and sequence of its first sending, unless it is certain that it
 *    was not applied.
 * 2. `acknowledgedBelow` is the lowest sequence whose answer is still awaited.
 * 3. What was acquired under a session (leases) is void when `current` is another one.
 */
import type { Clock } from "../lib/clock.ts";
import { hasCode, WeirError } from "../lib/errors.ts";
import { indexOfPosition, type Position, type SessionId } from "../lib/ids.ts";
import type { Logger } from "../lib/logger.ts";
import { type ClientCommand, type CommandResult, unwrap } from "../rpc/commands.ts";
import { masterApi } from "../rpc/master-api.ts";
import type { MasterConnection } from "../rpc/master-connection.ts";
import type { AnswerTime } from "./metadata-cache.ts";

/** Sequences that may be open at once; masters keep results of a window of 4,096. */
const widestWindow = 2048;

interface OpenSession {
  readonly id: SessionId;
  readonly timeoutMs: number;
  nextSequence: number;
  /** Sequences without an answer, in ascending order. */
  readonly outstanding: Set<number>;
  lastHeardMs: number;
  stopKeeping: () => void;
}

/**
 * Results of a request, the position that its first command took, and what they reflect: `askedMs` is when it was first
 * sent, for a request that is repeated is answered with what it did then.
 */
export interface Mutated extends AnswerTime {
  readonly position: Position;
  readonly results: readonly CommandResult[];
}

interface SessionOptions {
  readonly masters: MasterConnection;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly clientName: string;
  /** Deadline of one request, retries included. */
  readonly operationTimeoutMs: number;
}

/** What all that speak under one session share. */
interface SharedSession {
  open: OpenSession | undefined;
  opening: Promise<OpenSession> | undefined;
  waiters: (() => void)[];
  closed: boolean;
}

export class Session {
  readonly #options: SessionOptions;
  readonly #masters: MasterConnection;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #clientName: string;
  readonly #timeoutMs: number;
  readonly #shared: SharedSession;

  /** `shared`: of another one, whose session it has. */
  constructor(options: SessionOptions, shared?: SharedSession) {
    this.#options = options;
    this.#masters = options.masters;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#clientName = options.clientName;
    this.#timeoutMs = options.operationTimeoutMs;
    this.#shared = shared ?? {
      open: undefined,
      opening: undefined,
      waiters: [],
      closed: false,
    };
  }

  /** The same session, for commands that are sent through `masters`: in the name of another caller. */
  through(masters: MasterConnection): Session {
    return new Session({ ...this.#options, masters }, this.#shared);
  }

  /** The id of the session that is open, if any. */
  get current(): SessionId | undefined {
    return this.#shared.open?.id;
  }

  /**
   * Executes commands, in order, exactly once; with `atomic` all or none. `session` refuses to run under another
   * session than that one.
   * @throws WeirError `SessionExpired`; `Unavailable` or `DeadlineExceeded` with its `outcome` when no leader answered
   */
  async mutate(
    commands: readonly ClientCommand[],
    options: { atomic?: boolean; session?: SessionId | undefined } = {},
  ): Promise<Mutated> {
    const endMs = this.#clock.monotonicMs() + this.#timeoutMs;
    for (;;) {
      const open = await this.#usable();
      if (options.session !== undefined && options.session !== open.id)
        throw expired(options.session);
      const sequence = open.nextSequence++;
      open.outstanding.add(sequence);
      try {
        return await this.#send(open, sequence, commands, options.atomic ?? false, endMs);
      } catch (error) {
        if (!hasCode(error, "SessionExpired")) throw error;
        this.#expire(open);
        if (error.outcome === "unknown" || options.session !== undefined) throw error;
        if (this.#clock.monotonicMs() >= endMs) throw error;
      } finally {
        open.outstanding.delete(sequence);
        const waiters = this.#shared.waiters;
        this.#shared.waiters = [];
        for (const wake of waiters) wake();
      }
    }
  }

  /** Executes one command and answers its result; `doing` opens the message of its failure. */
  async execute(
    command: ClientCommand,
    doing: string,
    options: { session?: SessionId | undefined } = {},
  ): Promise<Extract<CommandResult, { ok: true }> & AnswerTime> {
    const { results, index, askedMs } = await this.mutate([command], options);
    return { ...unwrap(results[0]!, doing), index, askedMs };
  }

  /** Opens the session if there is none, for what must know its id before. */
  async ensure(): Promise<SessionId> {
    return (await this.#usable()).id;
  }

  /** Ends the session; leases that are left with it are released by the masters. */
  async close(): Promise<void> {
    this.#shared.closed = true;
    const open = this.#shared.open;
    if (open === undefined) return;
    this.#shared.open = undefined;
    open.stopKeeping();
    await this.#masters
      .call(
        masterApi.closeSession,
        { session: open.id },
        { deadlineMs: Math.min(2000, this.#timeoutMs), idempotent: true },
      )
      .catch((error: unknown) => {
        this.#logger.debug({ error: String(error) }, "session not closed, it will expire");
      });
  }

  /**
   * Sends under one sequence until there is an answer. The first call goes without `idempotent`, so that a failure tells
   * whether anything may have been applied: `SessionExpired` after such a failure must not be followed by a new try.
   */
  async #send(
    open: OpenSession,
    sequence: number,
    commands: readonly ClientCommand[],
    atomic: boolean,
    endMs: number,
  ): Promise<Mutated> {
    const askedMs = this.#clock.monotonicMs();
    let mayBeApplied = false;
    for (;;) {
      const [lowest] = open.outstanding;
      const request = {
        session: open.id,
        sequence,
        acknowledgedBelow: lowest ?? sequence,
        atomic,
        commands,
      };
      const deadlineMs = Math.max(1, endMs - this.#clock.monotonicMs());
      try {
        const { position, results } = await this.#masters.call(masterApi.mutate, request, {
          deadlineMs,
          idempotent: mayBeApplied,
        });
        open.lastHeardMs = this.#clock.monotonicMs();
        return { index: indexOfPosition(position), askedMs, position, results };
      } catch (error) {
        if (!(error instanceof WeirError)) throw error;
        const retry =
          !mayBeApplied &&
          error.outcome === "unknown" &&
          hasCode(error, "Unavailable", "NotLeader", "Busy") &&
          this.#clock.monotonicMs() < endMs;
        if (!retry) {
          if (!mayBeApplied || error.outcome === "unknown") throw error;
          throw new WeirError(error.code, error.message, { cause: error, outcome: "unknown" });
        }
        mayBeApplied = true;
      }
    }
  }

  /** The open session, with room in its window, known to live when it was not heard of for long. */
  async #usable(): Promise<OpenSession> {
    for (;;) {
      if (this.#shared.closed) {
        throw new WeirError("Unavailable", "Cannot change anything: the client is closed");
      }
      const open = this.#shared.open ?? (await this.#start());
      const [lowest] = open.outstanding;
      if (lowest !== undefined && open.nextSequence - lowest >= widestWindow) {
        await new Promise<void>((resolve) => this.#shared.waiters.push(resolve));
      } else if (this.#clock.monotonicMs() - open.lastHeardMs > open.timeoutMs / 2) {
        // After a long pause the session may be gone; found out by a command, its outcome would be in doubt.
        await this.#keep(open);
      } else if (open === this.#shared.open) {
        return open;
      }
    }
  }

  #start(): Promise<OpenSession> {
    this.#shared.opening ??= this.#openNew().finally(() => {
      this.#shared.opening = undefined;
    });
    return this.#shared.opening;
  }

  async #openNew(): Promise<OpenSession> {
    const { session, timeoutMs } = await this.#masters.call(
      masterApi.openSession,
      { clientName: this.#clientName },
      // A session that nobody knows of expires by itself.
      { deadlineMs: this.#timeoutMs, idempotent: true },
    );
    const open: OpenSession = {
      id: session,
      timeoutMs,
      nextSequence: 1,
      outstanding: new Set(),
      lastHeardMs: this.#clock.monotonicMs(),
      stopKeeping: () => undefined,
    };
    const keepLater = () => {
      open.stopKeeping = this.#clock.after(timeoutMs / 3, () => {
        this.#keep(open)
          .catch((error: unknown) => {
            this.#logger.warn({ error: String(error) }, "session could not be kept");
          })
          .finally(() => {
            if (this.#shared.open === open) keepLater();
          });
      });
    };
    this.#shared.open = open;
    keepLater();
    return open;
  }

  async #keep(open: OpenSession): Promise<void> {
    try {
      await this.#masters.call(
        masterApi.keepSession,
        { session: open.id },
        { deadlineMs: Math.min(this.#timeoutMs, open.timeoutMs / 3), idempotent: true },
      );
      open.lastHeardMs = this.#clock.monotonicMs();
    } catch (error) {
      if (!hasCode(error, "SessionExpired")) throw error;
      this.#expire(open);
    }
  }

  #expire(open: OpenSession): void {
    open.stopKeeping();
    if (this.#shared.open !== open) return;
    this.#shared.open = undefined;
    this.#logger.warn({ session: open.id }, "the session expired");
  }
}

function expired(session: SessionId): WeirError {
  return new WeirError(
    "SessionExpired",
    `Cannot go on: session ${String(session)}, under which the file was opened, has expired`,
  );
}
