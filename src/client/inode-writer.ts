/**
 * What this client writes to one file, for all handles of the file: takes the write lease at the first write, appends
 * all bytes to a container on a chain of workers, whatever their place in the file, and publishes them by commits.
 *
 * Invariants
 * 1. Bytes leave the log only when a commit published them, so a worker's death costs nothing but time: they are sent
 *    again to another chain, under a new write id.
 * 2. Lease, transfer, commit and truncation run one at a time. Writes only append to the log, which needs the lease but
 *    waits for nothing else, until the log is full.
 * 3. After a failure nothing more is taken and all handles get the error: what was not committed is gone as a whole.
 * 4. What workers hold for a commit is taken back only when that commit is certain never to be applied, and a write id
 *    that a commit in doubt may have used is never written under again.
 */
import type { ContainerWriter } from "../blocks/types.ts";
import { sleep } from "../lib/clock.ts";
import { hasCode, toWeirError, WeirError } from "../lib/errors.ts";
import type { InodeId, SessionId, WorkerId, WriteId } from "../lib/ids.ts";
import type { FileStatus, Timestamp } from "../rpc/namespace.ts";
import { type ClientCommand, unwrap } from "../rpc/commands.ts";
import { extentsOf, PendingExtents, type Piece } from "./pending-extents.ts";
import type { AnswerTime } from "./metadata-cache.ts";
import { overlaid } from "./overlaid.ts";
import { untilFree } from "./until-free.ts";
import { WriteLog } from "./write-log.ts";
import type { WriteTargets } from "./write-targets.ts";

const chunkBytes = 1024 * 1024;
/** Bytes taken and not sent yet before a write waits. */
const unsentLimitBytes = 8 * chunkBytes;
/** Bytes taken and not committed before they are committed although nobody asked. */
const uncommittedLimitBytes = 64 * 1024 * 1024;
/** Pieces of one commit: each is a row or two of the masters' state, which serve nobody else while they write them. */
const pendingPiecesLimit = 500;
/** A writer that rests for so long publishes what it has and lets others write. */
const idleMs = 5000;
/** How often that is looked at, and whether somebody who waits would be heard. */
const watchMs = 1000;
/** Chains that may be full before the write is given up. */
const noSpaceAttempts = 3;

type Commit = Extract<ClientCommand, { kind: "commit" }>;

/** A new version by a command of this client. */
type Changed = AnswerTime & { readonly status?: FileStatus | undefined };

interface Lease {
  readonly session: SessionId;
  readonly writeId: WriteId;
}

interface Container {
  readonly writer: ContainerWriter;
  readonly chain: readonly WorkerId[];
  /** Log position of its byte 0. */
  readonly base: number;
  /** A commit with extents in it was applied, or may be at any time from now on: its flushed bytes are to stay. */
  named: boolean;
}

export class InodeWriter {
  readonly #targets: WriteTargets;
  readonly #inode: InodeId;
  /** As the caller wants it; undefined: as a policy or the configuration has it. */
  readonly #wantedKeepers: number | undefined;
  readonly #log = new WriteLog();
  #pending = new PendingExtents();
  /** Pieces of the commit that is under way: older than those of `#pending`. */
  #committing: PendingExtents | undefined;
  #status: FileStatus;
  /** What the answer that gave the last lease said. */
  #policyKeepers: number | undefined;
  #size: number;
  #mtime: Timestamp | undefined;
  #lease: Lease | undefined;
  /** A commit that ends the lease is under way: writes wait for the next one. */
  #ending = false;
  #container: Container | undefined;
  /** Log positions [0, #sent) were handed to the container, [0, #committed) are published. */
  #sent = 0;
  #committed = 0;
  #queue: Promise<unknown> = Promise.resolve();
  #pumping: Promise<void> | undefined;
  #failure: WeirError | undefined;
  #lastWriteMs = 0;
  /** Wall time of the last write, for `stat` until the commit says the real one. */
  #writtenAt: Timestamp = { sec: 0, nsec: 0 };
  #stopIdling: (() => void) | undefined;

  constructor(
    targets: WriteTargets,
    status: FileStatus,
    options: { keepers?: number | undefined; lease?: Lease | undefined } = {},
  ) {
    this.#targets = targets;
    this.#inode = status.inode;
    this.#status = status;
    this.#size = status.size;
    this.#lease = options.lease;
    this.#policyKeepers = status.keepers;
    this.#wantedKeepers = options.keepers;
    if (this.#lease !== undefined) this.#watchIdleness();
  }

  /** The state of the file as its writer sees it. */
  get status(): FileStatus {
    if (!this.dirty) return this.#status;
    const mtime = this.#mtime ?? this.#writtenAt;
    return { ...this.#status, mtime, ctime: this.#writtenAt, size: this.#size };
  }

  get size(): number {
    return this.#size;
  }

  /** Whether anything is written that is not committed. */
  get dirty(): boolean {
    return this.#pending.count > 0 || (this.#committing?.count ?? 0) > 0;
  }

  /** Whether the file is still ours in some way: it has data or holds the lease. */
  get busy(): boolean {
    return this.dirty || this.#lease !== undefined;
  }

  /** Appends to the log; resolves when there is room for more. `offset` undefined: at the end of the file. */
  async write(offset: number | undefined, data: Uint8Array): Promise<void> {
    while (this.#lease === undefined || this.#ending) {
      this.#throwFailure();
      await this.#inTurn(() => this.#takeLease());
    }
    this.#throwFailure();
    const fileOffset = offset ?? this.#size;
    this.#pending.insert(fileOffset, data.length, this.#log.append(data));
    this.#size = Math.max(this.#size, fileOffset + data.length);
    this.#mtime = undefined;
    const { clock } = this.#targets;
    this.#lastWriteMs = clock.monotonicMs();
    const wallMs = Math.floor(clock.wallMs());
    this.#writtenAt = { sec: Math.floor(wallMs / 1000), nsec: (wallMs % 1000) * 1_000_000 };
    const unsent = this.#log.end - this.#sent;
    if (unsent >= chunkBytes) this.#pump();
    const full =
      this.#log.end - this.#committed > uncommittedLimitBytes ||
      this.#pending.count > pendingPiecesLimit;
    if (full) await this.flush({ release: false, sync: false });
    else if (unsent > unsentLimitBytes) await this.#pumping;
    this.#throwFailure();
  }

  /**
   * Copies what is written and not committed to where it belongs in `target`, which stands for the file from `offset`
   * on, and answers what it did not cover.
   */
  overlay(target: Uint8Array, offset: number): { offset: number; length: number }[] {
    return overlaid(target, offset, { layers: [this.#pending, this.#committing], log: this.#log });
  }

  /** The next commit sets this modification time, unless there is a later write. */
  setModified(mtime: Timestamp): void {
    this.#mtime = mtime;
  }

  /**
   * Publishes all that was written before. `release` ends the lease, so that the write type takes effect; `sync` puts
   * the bytes on disk where the tier is one.
   */
  async flush(options: { release: boolean; sync: boolean }): Promise<void> {
    this.#throwFailure();
    await this.#exclusively(() => this.#commit(options));
    this.#throwFailure();
  }

  /**
   * Changes the size, after publishing what was written before. `lease` takes the write lease in the same entry, so that
   * the size on the way to what is written next is never persisted.
   */
  async truncate(size: number, options: { lease?: boolean } = {}): Promise<void> {
    this.#throwFailure();
    if (this.dirty) await this.flush({ release: false, sync: false });
    await this.#inTurn(async () => {
      const leasing = options.lease === true && this.#lease === undefined;
      const { status, ...at } = await untilFree(this.#targets, () =>
        leasing ? this.#leaseAndTruncate(size) : this.#truncateAlone(size),
      );
      const fresh = status ?? (await this.#targets.getStatus(this.#inode));
      this.#policyKeepers = fresh.keepers;
      this.#status = fresh;
      // What was written meanwhile comes after the cut.
      this.#size = Math.max(fresh.size, this.#pending.end);
      this.#targets.onCommitted(fresh, at);
    });
  }

  /** The file's attributes changed by a command of this client. */
  refresh(status: FileStatus): void {
    if (status.version >= this.#status.version) this.#status = status;
  }

  /** Another session waits, or might without our hearing of it: publishes what is written and lets the lease go. */
  recall(): void {
    if (this.#lease === undefined || this.#failure !== undefined) return;
    void this.#exclusively(() => this.#commit({ release: true, sync: false }));
  }

  /** Lets go of timers; nothing is published. */
  abandon(): void {
    this.#stopIdling?.();
    void this.#container?.writer.abort().catch(() => undefined);
  }

  get #keepers(): number {
    if (this.#wantedKeepers !== undefined) return this.#wantedKeepers;
    switch (this.#status.writeType ?? this.#targets.defaultWriteType) {
      case "MUST_CACHE":
      case "ASYNC_THROUGH":
        return this.#policyKeepers ?? this.#targets.defaultKeepers;
      case "CACHE_THROUGH":
      case "THROUGH":
        return 1;
    }
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Runs `task` after all tasks before it. */
  #inTurn(task: () => Promise<void>): Promise<void> {
    const run = this.#queue.then(task);
    this.#queue = run.catch(() => undefined);
    return run;
  }

  /** As `#inTurn`, for what moves data: what it throws ends the writer. */
  #exclusively(task: () => Promise<void>): Promise<void> {
    return this.#inTurn(async () => {
      if (this.#failure !== undefined) return;
      try {
        await task();
      } catch (error) {
        this.#fail(toWeirError(error, `Cannot write inode ${String(this.#inode)}`));
      }
    });
  }

  #fail(error: WeirError): void {
    this.#failure = error;
    this.#pending.clear();
    this.#committing = undefined;
    this.#log.dropBefore(this.#log.end);
    this.#stopIdling?.();
    const container = this.#container;
    this.#container = undefined;
    if (container !== undefined) this.#discard(container);
    if (this.#lease !== undefined && this.#lease.session === this.#targets.session.current) {
      this.#giveUpLease(this.#lease);
    }
    this.#lease = undefined;
    this.#targets.onFailure(this.#inode, error);
  }

  /**
   * Lets others write. A commit in doubt is then applied before the release, or never: it needs the lease. Until the
   * release is known to be done the masters could answer the next `lease` with the same write id.
   */
  #giveUpLease({ writeId, session: id }: Lease): void {
    const { session, spent } = this.#targets;
    spent.add(writeId);
    session.mutate([{ kind: "releaseLease", inode: this.#inode, writeId }], { session: id }).then(
      // Refused or not: it is not ours any more.
      () => spent.delete(writeId),
      () => undefined,
    );
  }

  #truncateAlone(size: number): Promise<Changed> {
    return this.#targets.session.execute(
      { kind: "truncate", inode: this.#inode, size },
      this.#truncating(size),
    );
  }

  async #leaseAndTruncate(size: number): Promise<Changed> {
    const { session, spent } = this.#targets;
    const id = await session.ensure();
    const { results, index, askedMs } = await session.mutate(
      [
        { kind: "lease", inode: this.#inode },
        { kind: "truncate", inode: this.#inode, size },
      ],
      { atomic: true, session: id },
    );
    const { writeId, status: leased } = unwrap(results[0]!, this.#truncating(size));
    this.#policyKeepers = leased?.keepers;
    const { status } = unwrap(results[1]!, this.#truncating(size));
    if (writeId !== undefined && !spent.has(writeId)) {
      this.#lease = { session: id, writeId };
      this.#lastWriteMs = this.#targets.clock.monotonicMs();
      this.#watchIdleness();
    }
    return { status, index, askedMs };
  }

  #truncating(size: number): string {
    return `Cannot truncate inode ${String(this.#inode)} to ${String(size)} bytes`;
  }

  /** Sends full chunks in the background. */
  #pump(): void {
    this.#pumping ??= this.#exclusively(() => this.#send(this.#log.end, false)).finally(() => {
      this.#pumping = undefined;
    });
  }

  async #takeLease(): Promise<void> {
    if (this.#lease !== undefined) return;
    const { session, spent } = this.#targets;
    await untilFree(this.#targets, async () => {
      const id = await session.ensure();
      const doing = `Cannot write inode ${String(this.#inode)}`;
      let { writeId, status } = await session.execute(
        { kind: "lease", inode: this.#inode },
        doing,
        { session: id },
      );
      if (writeId !== undefined && spent.has(writeId)) {
        ({ writeId, status } = await this.#renewLease({ session: id, writeId }, doing));
      }
      if (writeId === undefined)
        throw new WeirError("ProtocolError", "Cannot write: the lease has no id");
      this.#lease = { session: id, writeId };
      // Others may have written while we had no lease.
      const fresh = status ?? (await this.#targets.getStatus(this.#inode));
      this.#status = fresh;
      this.#size = fresh.size;
    });
    this.#watchIdleness();
  }

  /** The lease under another write id. */
  async #renewLease({ session, writeId }: Lease, doing: string) {
    const { results } = await this.#targets.session.mutate(
      [
        { kind: "releaseLease", inode: this.#inode, writeId },
        { kind: "lease", inode: this.#inode },
      ],
      { atomic: true, session },
    );
    unwrap(results[0]!, doing);
    return unwrap(results[1]!, doing);
  }

  /** Sends the log up to `to` and gets over workers that fail; with `sealing` also a chunk that is not full. */
  async #send(to: number, sealing: boolean, flush?: { sync: boolean }): Promise<void> {
    const endMs = this.#targets.clock.monotonicMs() + this.#targets.operationTimeoutMs;
    for (let attempt = 0; ; attempt++) {
      try {
        while (this.#sent < to) {
          const chunk = this.#log.chunkAt(this.#sent, sealing);
          if (chunk === undefined) break;
          const { writer } = (this.#container ??= await this.#openContainer(endMs, attempt));
          await writer.write(chunk);
          this.#sent += chunk.length;
        }
        if (flush !== undefined) await this.#container?.writer.flush(flush);
        return;
      } catch (error) {
        await this.#replaceContainer(error, { attempt, endMs });
      }
    }
  }

  async #openContainer(endMs: number, attempt: number): Promise<Container> {
    const chain = await this.#targets.chain(this.#keepers, attempt);
    const writer = await this.#openOn(chain, { resumeAt: 0, endMs });
    return { writer, chain, base: this.#sent, named: false };
  }

  async #openOn(
    chain: readonly WorkerId[],
    { resumeAt, endMs }: { resumeAt: number; endMs: number },
  ): Promise<ContainerWriter> {
    const { writeId } = this.#lease!;
    const abort = new AbortController();
    const cancelTimer = this.#targets.clock.after(
      Math.max(1, endMs - this.#targets.clock.monotonicMs()),
      () => abort.abort(deadlineExceeded(this.#inode)),
    );
    try {
      return await this.#targets.blocks.openContainer(
        chain,
        { inode: this.#inode, writeId },
        { resumeAt, signal: abort.signal, degrade: true },
      );
    } catch (error) {
      await this.#targets.examine(chain);
      throw error;
    } finally {
      cancelTimer();
    }
  }

  /** Lets a container go without waiting. What no commit ever needs after all, the leader's sweep of orphans drops. */
  #discard({ writer, named }: Container): void {
    const gone = named ? writer.abort() : writer.close({ keep: false });
    gone.catch(() => undefined);
  }

  /** A worker of the chain failed: the bytes that are not committed go to another chain, under a new write id. */
  async #replaceContainer(
    error: unknown,
    { attempt, endMs }: { attempt: number; endMs: number },
  ): Promise<void> {
    const failure = toWeirError(error, `Cannot write inode ${String(this.#inode)}`);
    const heals = hasCode(
      failure,
      "Unavailable",
      "DeadlineExceeded",
      "NoSpace",
      "Busy",
      "NotFound",
      "Corrupt",
      "ProtocolError",
      "Internal",
    );
    const full = failure.code === "NoSpace" && attempt >= noSpaceAttempts;
    if (!heals || full || this.#targets.clock.monotonicMs() >= endMs) throw failure;
    this.#targets.logger.warn(
      { inode: this.#inode, error: failure.message },
      "a chain of workers failed, writing goes on with another one",
    );
    const old = this.#container;
    this.#container = undefined;
    await sleep(Math.min(20 * 2 ** attempt, 1000));
    // A container that never opened has no bytes: its name may be used again.
    if (old === undefined) return;
    this.#discard(old);
    await this.#targets.examine(old.chain);
    const doing = `Cannot go on writing inode ${String(this.#inode)}`;
    const lease = await this.#renewLease(this.#lease!, doing);
    if (lease.writeId === undefined) throw new WeirError("ProtocolError", `${doing}: no write id`);
    this.#lease = { session: this.#lease!.session, writeId: lease.writeId };
    this.#sent = this.#committed;
  }

  async #commit(options: { release: boolean; sync: boolean }): Promise<void> {
    if (this.#lease === undefined) return;
    const nothing = this.#pending.count === 0;
    if (nothing && !options.release) {
      if (options.sync) await this.#syncCommitted();
      return;
    }
    const target = this.#log.end;
    const batch = this.#pending;
    const size = this.#size;
    const mtime = this.#mtime ?? (nothing ? this.#status.mtime : undefined);
    this.#pending = new PendingExtents();
    this.#committing = batch;
    this.#ending = options.release;
    try {
      let extents: ReturnType<typeof extentsOf> = [];
      if (!nothing) {
        await this.#send(target, true, { sync: options.sync });
        extents = await this.#extents(batch.pieces);
      }
      const { status, ...at } = await this.#sendCommit({
        size,
        extents,
        mtime,
        release: options.release,
      });
      this.#committing = undefined;
      this.#committed = target;
      this.#log.dropBefore(target);
      const fresh = status ?? (await this.#targets.getStatus(this.#inode));
      this.#status = fresh;
      if (this.#pending.count === 0) this.#size = fresh.size;
      this.#targets.onCommitted(fresh, at);
      if (options.release) this.#endLease();
    } finally {
      this.#ending = false;
    }
  }

  /**
   * Puts on disk what is committed. When the first worker of the chain is gone, the others have all of it: it is enough
   * that they, or the under storage, keep it.
   */
  async #syncCommitted(): Promise<void> {
    const container = this.#container;
    if (container === undefined) return;
    try {
      await container.writer.flush({ sync: true });
    } catch (error) {
      if (await this.#syncHolders(container)) return;
      const { persistence } = await this.#targets.getStatus(this.#inode);
      if (persistence !== "persisted") throw error;
    }
  }

  /** Goes on with a container on the workers behind the first; answers whether one of them has it on disk now. */
  async #syncHolders(container: Container): Promise<boolean> {
    const chain = container.writer.workers.slice(1);
    if (chain.length === 0) return false;
    const endMs = this.#targets.clock.monotonicMs() + this.#targets.operationTimeoutMs;
    try {
      const resumeAt = this.#committed - container.base;
      const writer = await this.#openOn(chain, { resumeAt, endMs });
      void container.writer.abort().catch(() => undefined);
      this.#container = { ...container, writer, chain };
      this.#sent = this.#committed;
      await writer.flush({ sync: true });
      return true;
    } catch (error) {
      const { logger } = this.#targets;
      logger.debug({ inode: this.#inode, error: String(error) }, "no holder could sync");
      return false;
    }
  }

  async #sendCommit(
    changes: Pick<Commit, "size" | "extents" | "mtime" | "release">,
  ): Promise<Changed> {
    const { session, writeId } = this.#lease!;
    const container = changes.extents.length > 0 ? this.#container : undefined;
    const namedBefore = container?.named;
    if (container !== undefined) container.named = true;
    try {
      const command: Commit = {
        kind: "commit",
        inode: this.#inode,
        writeId,
        baseVersion: this.#status.version,
        keepers: container?.writer.workers ?? [],
        ...changes,
      };
      const doing = `Cannot commit inode ${String(this.#inode)}`;
      return await untilFree(this.#targets, () =>
        this.#targets.session.execute(command, doing, { session }),
      );
    } catch (error) {
      const refused = error instanceof WeirError && error.outcome === "notApplied";
      if (refused && container !== undefined) container.named = namedBefore === true;
      throw error;
    }
  }

  async #extents(pieces: readonly Piece[]): Promise<ReturnType<typeof extentsOf>> {
    const blockSizeBytes = await this.#targets.blockSizeBytes(this.#inode);
    const { base } = this.#container!;
    return extentsOf(pieces, { writeId: this.#lease!.writeId, base, blockSizeBytes });
  }

  /** After a commit that released the lease: the container is whole, closing it holds nobody up. */
  #endLease(): void {
    this.#lease = undefined;
    this.#stopIdling?.();
    this.#stopIdling = undefined;
    const container = this.#container;
    this.#container = undefined;
    if (container === undefined) return;
    const closed = container.writer.close({ keep: true }).catch((error: unknown) => {
      // Its bytes were flushed before the commit; the worker notices the end of the write by itself.
      const { logger } = this.#targets;
      logger.debug({ inode: this.#inode, error: String(error) }, "container not closed");
    });
    this.#targets.inBackground(closed);
  }

  #watchIdleness(): void {
    this.#stopIdling?.();
    const { clock } = this.#targets;
    this.#stopIdling = clock.after(watchMs, () => {
      const isBusy = clock.monotonicMs() - this.#lastWriteMs < idleMs;
      if (isBusy && this.#targets.hearsRecalls()) this.#watchIdleness();
      else this.recall();
    });
  }
}

function deadlineExceeded(inode: InodeId): WeirError {
  return new WeirError(
    "DeadlineExceeded",
    `Cannot write inode ${String(inode)}: no chain of workers took it in time`,
  );
}
