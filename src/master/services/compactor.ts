/**
 * Has workers put the many small extents of a file together, a range at a time. Lives as long as one reign.
 *
 * Invariants
 * 1. One range is under way at a time. What is under way in the state and not here is of an earlier attempt: it is ended.
 * 2. What was put together takes the place of what was there only when as many workers keep it as kept that.
 * 3. What did not come to its end is tried again, later each time; where a range was written meanwhile, those behind it
 *    come first.
 */
import type { Clock } from "../../lib/clock.ts";
import { toWeirError, WeirError } from "../../lib/errors.ts";
import type { InodeId, WorkerId, WriteId } from "../../lib/ids.ts";
import type { Logger } from "../../lib/logger.ts";
import { type Command, type CommandResult, unwrap } from "../../rpc/commands.ts";
import type { FileLayout } from "../../rpc/namespace.ts";
import type { TaskResult } from "../../rpc/tasks.ts";
import { replaceLimit } from "../state/extent-rows.ts";
import type { Inode } from "../state/model.ts";
import { clusterOf, containerOf, inodeOf, isOpen } from "../state/queries.ts";
import type { StateReader } from "../store/types.ts";
import { nextRange, type Range } from "./compaction-range.ts";
import type { Reign } from "./leadership.ts";
import { inodesToCompact } from "./listings.ts";
import type { NewTask, Placement } from "./task-dispatcher.ts";

const everyMs = 1000;
/** Files that are looked at in one step, and ranges that are put together in a row. */
const filesPerStep = 100;
const rangesPerTurn = 20;
/** The least that `limit` comes down to. */
const fewestExtents = 50;
/** How long the end of a write is waited for, when the file is persisted after it. */
const writeEndMs = 30_000;
const taskTimeoutMs = 120_000;
const firstPauseMs = 1000;
const longestPauseMs = 60_000;

export interface CompactorOptions {
  readonly reader: StateReader;
  readonly propose: (commands: readonly Command[], signal: AbortSignal) => Promise<CommandResult[]>;
  readonly layoutOf: (inode: InodeId, offset: number, length: number) => Promise<FileLayout>;
  readonly run: (task: NewTask, placement: Placement, signal: AbortSignal) => Promise<TaskResult>;
  /** Workers that answer, and whether they can put containers together. */
  readonly workers: () => readonly { readonly id: WorkerId; readonly compacts: boolean }[];
  readonly reign: Reign;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** What is known of a file that is to be compacted. */
interface Progress {
  readonly sinceMs: number;
  /** Up to here its ranges are done, or not worth it. */
  doneTo: number;
  /** Ranges before that were written while they were put together. */
  isRestLeft: boolean;
  /** Most extents of a range: fewer each time that some were written, so that what is not is found beside them. */
  limit: number;
  failures: number;
  notBeforeMs: number;
}

export class Compactor {
  readonly #options: CompactorOptions;
  readonly #progress = new Map<InodeId, Progress>();
  #after: InodeId | undefined;
  #cancel: () => void = () => undefined;

  constructor(options: CompactorOptions) {
    this.#options = options;
    options.reign.signal.addEventListener("abort", () => this.#cancel());
    this.#plan();
  }

  #plan(): void {
    const { reign, clock, logger } = this.#options;
    if (reign.signal.aborted) return;
    this.#cancel = clock.after(everyMs, () => {
      void this.#step()
        .catch((thrown: unknown) => {
          if (reign.signal.aborted) return;
          const { message } = toWeirError(thrown, "Cannot look for files to compact");
          logger.warn({ error: message }, "compaction waits");
        })
        .finally(() => this.#plan());
    });
  }

  /** The next files of those that are to be compacted, each a bounded number of ranges. */
  async #step(): Promise<void> {
    const { reader, clock, reign, logger } = this.#options;
    const page = { after: this.#after, limit: filesPerStep };
    const inodes = await inodesToCompact(reader, page);
    this.#after = inodes.length < filesPerStep ? undefined : inodes[inodes.length - 1];
    for (const inode of inodes) {
      const progress = this.#progressOf(inode);
      if (clock.monotonicMs() < progress.notBeforeMs) continue;
      try {
        for (let ranges = 0; ranges < rangesPerTurn; ranges++) {
          if (!(await this.#turn(inode, progress))) break;
        }
      } catch (thrown) {
        if (reign.signal.aborted) throw thrown;
        const { message } = toWeirError(thrown, "Cannot compact a file");
        logger.info({ inode, error: message }, "the compaction of a file is put off");
        this.#putOff(progress);
      }
    }
  }

  #progressOf(inode: InodeId): Progress {
    const known = this.#progress.get(inode);
    if (known !== undefined) return known;
    const sinceMs = this.#options.clock.monotonicMs();
    const begun: Progress = {
      sinceMs,
      doneTo: 0,
      isRestLeft: false,
      limit: replaceLimit,
      failures: 0,
      notBeforeMs: 0,
    };
    this.#progress.set(inode, begun);
    return begun;
  }

  #putOff(progress: Progress): void {
    const pauseMs = Math.min(firstPauseMs * 2 ** progress.failures, longestPauseMs);
    progress.failures++;
    progress.notBeforeMs = this.#options.clock.monotonicMs() + pauseMs;
  }

  /** One range of a file; answers whether it is worth going on at once. */
  async #turn(inode: InodeId, progress: Progress): Promise<boolean> {
    const { reader } = this.#options;
    const of = inodeOf(reader, inode);
    const running = of?.compaction?.running;
    if (running !== undefined) await this.#end(inode, running.writeId);
    if (of === undefined || isOver(of)) {
      await this.#end(inode, undefined);
      return false;
    }
    if (this.#isToWait(of, progress)) {
      this.#putOff(progress);
      return false;
    }
    const { blockSizeBytes } = clusterOf(reader)!;
    const { doneTo: from, limit } = progress;
    const range = await nextRange(reader, of, { from, limit, blockSizeBytes });
    if (range === undefined && progress.isRestLeft) {
      progress.doneTo = 0;
      progress.isRestLeft = false;
      progress.limit = Math.max(Math.floor(progress.limit / 2), fewestExtents);
      this.#putOff(progress);
      return false;
    }
    if (range === undefined) {
      // What was written while it was looked at may be worth it: it is looked at again, later each time.
      if (!(await this.#end(inode, undefined, of.version))) {
        progress.doneTo = 0;
        this.#putOff(progress);
      }
      return false;
    }
    const isDone = await this.#compact(inode, range);
    progress.doneTo = range.to;
    if (isDone) progress.failures = 0;
    else progress.isRestLeft = true;
    return true;
  }

  /** Whether it will be persisted soon: then its extents go by themselves. */
  #isToWait(of: Inode, { sinceMs }: Progress): boolean {
    const { reader, clock } = this.#options;
    if (of.persistOp !== undefined) return true;
    const isWritten = of.lease !== undefined && isOpen(reader, of.lease.session);
    const isPersistedThen = of.writeType !== "MUST_CACHE";
    return isWritten && isPersistedThen && clock.monotonicMs() - sinceMs < writeEndMs;
  }

  /** False when somebody has written the range meanwhile. */
  async #compact(inode: InodeId, range: Range): Promise<boolean> {
    const { reader, layoutOf, run, reign, logger } = this.#options;
    const doing = `Cannot compact inode ${inode}`;
    const { from, to } = range;
    const started = await this.#propose({ kind: "startCompaction", inode, from, to }, doing);
    const writeId = started.writeId!;
    try {
      const layout = await layoutOf(inode, from, to - from);
      const chain = this.#chainOf(layout);
      const task = { kind: "compact", writeId, from, to, layout, chain } as const;
      const patience = AbortSignal.timeout(taskTimeoutMs);
      const signal = AbortSignal.any([reign.signal, patience]);
      const result = await run(task, { only: chain[0], urgent: false }, signal);
      if (result.kind !== "compacted") {
        throw new WeirError("Unavailable", `${doing}: ${failureOf(result)}`);
      }
      const { keepers } = result;
      if (keepers.length < chain.length || inodeOf(reader, inode)?.persistOp !== undefined) {
        throw new WeirError("Unavailable", `${doing}: it is persisted, or a worker has failed`);
      }
      await this.#propose({ kind: "compactContent", inode, writeId, keepers }, doing);
      logger.debug({ inode, from, to, extents: range.extentCount }, "extents were put together");
      return true;
    } catch (error) {
      if (inodeOf(reader, inode)?.compaction?.running?.writeId !== writeId) return false;
      if (!reign.signal.aborted) await this.#end(inode, writeId);
      throw error;
    }
  }

  /** As many workers as keep what is there, those first that keep most of it. */
  #chainOf({ status, segments }: FileLayout): WorkerId[] {
    const { reader, workers } = this.#options;
    const bytes = new Map<WorkerId, number>();
    let wanted = 1;
    for (const { block, length } of segments) {
      if (block === undefined) continue;
      const keepers = containerOf(reader, status.inode, block.writeId)?.keepers ?? [];
      wanted = Math.max(wanted, keepers.length);
      for (const keeper of keepers) bytes.set(keeper, (bytes.get(keeper) ?? 0) + length);
    }
    const kept = (id: WorkerId) => bytes.get(id) ?? 0;
    const able = [...workers()].sort((a, b) => kept(b.id) - kept(a.id) || a.id - b.id);
    const first = able.find(({ compacts }) => compacts)?.id;
    if (first === undefined || able.length < wanted) {
      const is = `${able.length} workers answer`;
      throw new WeirError("Unavailable", `Cannot compact inode ${status.inode}: ${is}`);
    }
    const others = able.map(({ id }) => id).filter((id) => id !== first);
    return [first, ...others.slice(0, wanted - 1)];
  }

  /** `writeId` undefined: nothing of the file is to be done for now, as it was at `version`. Answers whether that is so. */
  async #end(inode: InodeId, writeId: WriteId | undefined, version?: number): Promise<boolean> {
    const command = { kind: "endCompaction", inode, writeId, version } as const;
    const [result] = await this.#options.propose([command], this.#options.reign.signal);
    const isEnded = result?.ok === true;
    if (writeId === undefined && isEnded) this.#progress.delete(inode);
    return isEnded;
  }

  async #propose(command: Command, doing: string) {
    const [result] = await this.#options.propose([command], this.#options.reign.signal);
    return unwrap(result!, doing);
  }
}

function isOver({ form, nlink }: Inode): boolean {
  return form !== "extents" || nlink === 0;
}

function failureOf(result: TaskResult): string {
  return result.kind === "failed" ? result.message : `the worker answered "${result.kind}"`;
}
