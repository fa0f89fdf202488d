/**
 * The file system over a cluster: metadata from the cache or the masters, commands under the session, open files.
 *
 * Invariants
 * 1. What this client did is seen by its own later calls: results and invalidations of its commands enter the cache
 *    before the call returns.
 * 2. Opening a file asks the masters, whatever is cached: what was closed elsewhere before is seen, and whether the caller
 *    may have it.
 * 3. What is cached is shared by all callers, and no name of a directory is told to one who may not search it.
 */
import type { BlockClient } from "../blocks/types.ts";
import { type Clock, sleep } from "../lib/clock.ts";
import type { Config } from "../lib/config.ts";
import { hasCode, WeirError } from "../lib/errors.ts";
import type { InodeId, WorkerId, WriteId } from "../lib/ids.ts";
import type { Logger } from "../lib/logger.ts";
import { mayAccess, permission } from "../rpc/access.ts";
import { masterApi } from "../rpc/master-api.ts";
import type { MasterConnection } from "../rpc/master-connection.ts";
import type { Method } from "../rpc/method.ts";
import type { Caller, FileKind, FileStatus, WriteType } from "../rpc/namespace.ts";
import { Atimes } from "./atimes.ts";
import { callerToMasters } from "./caller.ts";
import { HeldVersions } from "./held-versions.ts";
import { chooseChain } from "./chain.ts";
import type { ChangeListener } from "./change-feed.ts";
import type {
  AttributeChanges,
  CreateOptions,
  DirectoryEntry,
  FileHandle,
  FileSystem,
  OpenOptions,
  Ownership,
  RenameOptions,
} from "./file-system.ts";
import { InodeWriter } from "./inode-writer.ts";
import { Layouts } from "./layouts.ts";
import { LocalStorage } from "./local-storage.ts";
import type { AnswerTime, MetadataCache } from "./metadata-cache.ts";
import { type FileHost, OpenFile, SharedFile } from "./open-file.ts";
import { ReadBudget } from "./read-ahead.ts";
import type { Session } from "./session.ts";
import { untilFree } from "./until-free.ts";
import { Workers } from "./workers.ts";

interface InodeClientOptions {
  readonly masters: MasterConnection;
  readonly session: Session;
  readonly cache: MetadataCache;
  readonly blocks: BlockClient;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly config: Config;
  /** In whose name it asks; absent: the superuser's. */
  readonly caller?: Caller | undefined;
}

/** What all callers of one client have in common. */
interface Shared {
  readonly workers: Workers;
  readonly layouts: Layouts;
  readonly local: LocalStorage;
  readonly files: Map<InodeId, SharedFile>;
  readonly background: Set<Promise<void>>;
  readonly spent: Set<WriteId>;
  readonly budget: ReadBudget;
  /** The change feed is connected. */
  isTold: boolean;
  readonly atimes: Atimes;
}

const listPageSize = 1000;
const persistedPollMs = { first: 20, longest: 250 };

export class InodeClient implements FileSystem {
  readonly layouts: Layouts;
  readonly workers: Workers;
  readonly #masters: MasterConnection;
  readonly #session: Session;
  readonly #cache: MetadataCache;
  readonly #clock: Clock;
  readonly #config: Config;
  readonly #options: InodeClientOptions;
  readonly #shared: Shared;
  /** As the masters see the caller, as far as that can be told here. */
  readonly #caller: Caller | undefined | "unknown";
  readonly #local: LocalStorage;
  readonly #host: FileHost;
  readonly #held: HeldVersions;
  readonly #files: Map<InodeId, SharedFile>;
  readonly #background: Set<Promise<void>>;
  readonly #spent: Set<WriteId>;

  /** `shared`: of another one, whose files and caches it has. */
  constructor(options: InodeClientOptions, shared: Shared = makeShared(options)) {
    const { masters, session, cache, blocks, clock, logger, config } = options;
    const { operationTimeoutMs, writeType, keepers } = config.client;
    this.#masters = masters;
    this.#session = session;
    this.#cache = cache;
    this.#clock = clock;
    this.#config = config;
    this.#options = options;
    this.#shared = shared;
    this.#caller = callerToMasters(options.caller, config.security);
    this.workers = shared.workers;
    this.layouts = shared.layouts.through(masters);
    this.#local = shared.local;
    this.#files = shared.files;
    this.#background = shared.background;
    this.#spent = shared.spent;
    this.#held = new HeldVersions({
      ...{ session, clock, logger, files: this.#files },
      freshStatus: (inode) => this.#freshStatus(inode),
    });
    this.#host = {
      reads: {
        layouts: this.layouts,
        local: this.#local,
        workers: this.workers,
        blocks,
        budget: shared.budget,
        clock,
        operationTimeoutMs,
        recoveryWaitMs: config.master.recoveryWaitMs,
      },
      writes: {
        session,
        blocks,
        clock,
        logger,
        operationTimeoutMs,
        defaultWriteType: writeType,
        defaultKeepers: keepers,
        chain: (wanted, attempt) => this.#chooseChain(wanted, attempt),
        examine: (chain) => this.workers.examine(chain),
        blockSizeBytes: (inode) => this.layouts.blockSizeBytes(inode),
        getStatus: (inode) => this.#freshStatus(inode),
        spent: this.#spent,
        hearsRecalls: () => shared.isTold,
        onCommitted: (status, at) => {
          cache.putResult(status, at);
          this.layouts.forget(status.inode, status.version);
          this.#files.get(status.inode)?.committed(status);
        },
        inBackground: (work) => {
          this.#background.add(work);
          void work.finally(() => this.#background.delete(work));
        },
        onFailure: (inode, error) => {
          logger.warn({ inode, error: error.message }, "what was written is lost");
          this.#files.get(inode)?.failed(error);
        },
      },
      defaultWriteType: writeType,
      freshStatus: (inode) => this.#freshStatus(inode),
      truncate: (inode, size) => this.#truncateOpened(inode, size),
      waitPersisted: (inode) => this.waitPersisted(inode),
      free: async (inode) => {
        await this.free(inode);
      },
      onClosed: (file) => this.#onClosed(file),
      onRead: (status) => this.wasRead(status),
    };
  }

  /** The same client in the name of another caller; closing one closes all. */
  as(caller: Caller | undefined): InodeClient {
    const masters = this.#masters.as(caller);
    const session = this.#session.through(masters);
    return new InodeClient({ ...this.#options, masters, session, caller }, this.#shared);
  }

  /** What files are made with that are made without a write type. The default leaves it to the policies of their paths. */
  get #ownWriteType(): WriteType | undefined {
    const { writeType } = this.#config.client;
    return writeType === "ASYNC_THROUGH" ? undefined : writeType;
  }

  /** Files that are open in this client. */
  get openFiles(): number {
    return this.#files.size;
  }

  async lookup(parent: InodeId, name: string): Promise<FileStatus> {
    const known = this.#cache.name(parent, name);
    if (known !== undefined && (this.#caller === undefined || (await this.#maySearch(parent)))) {
      if (known === "absent") throw notFound(parent, name);
      const cached = this.#cache.status(known);
      if (cached !== undefined) return this.overlaid(cached);
    }
    const mark = this.#cache.mark();
    try {
      const { status, appliedIndex } = await this.#read(masterApi.lookup, {
        parent,
        name,
        consistency: "linearizable",
      });
      const at = { index: appliedIndex, askedMs: mark.askedMs };
      this.#cache.putName(parent, name, status.inode, at);
      this.#cache.putStatus(status, at);
      return this.overlaid(status);
    } catch (error) {
      if (hasCode(error, "NotFound")) this.#cache.putAbsence(parent, name, mark);
      throw error;
    }
  }

  async getStatus(inode: InodeId): Promise<FileStatus> {
    return this.overlaid(this.#cache.status(inode) ?? (await this.#freshStatus(inode)));
  }

  async *list(directory: InodeId): AsyncGenerator<DirectoryEntry> {
    let after: string | undefined;
    const listed = this.#cache.status(directory);
    if (listed !== undefined) this.wasRead(listed);
    for (;;) {
      const { askedMs } = this.#cache.mark();
      const page = await this.#read(masterApi.list, {
        directory,
        after,
        limit: listPageSize,
        consistency: "linearizable",
      });
      const at = { index: page.appliedIndex, askedMs };
      // All before the first is given: who asks may take his time.
      for (const { name, status } of page.entries) {
        this.#cache.putName(directory, name, status.inode, at);
        this.#cache.putStatus(status, at);
      }
      for (const { name, status } of page.entries) {
        yield { name, status: this.overlaid(status) };
        after = name;
      }
      if (!page.more || page.entries.length === 0) return;
    }
  }

  async create(parent: InodeId, name: string, options: CreateOptions): Promise<FileHandle> {
    const { mode, uid, gid, umask, exclusive, keepers, append } = options;
    const { status, writeId, ...at } = await untilFree(this.#host.writes, () =>
      this.#session.execute(
        {
          kind: "create",
          parent,
          name,
          fileKind: "file",
          mode,
          uid,
          gid,
          target: undefined,
          lease: true,
          exclusive,
          writeType: options.writeType ?? this.#ownWriteType,
          umask,
        },
        `Cannot create "${name}" in directory ${String(parent)}`,
      ),
    );
    const fresh = this.#entered(parent, name, status, at);
    const file = this.#file(fresh.inode);
    const session = this.#session.current;
    const usable = writeId !== undefined && !this.#spent.has(writeId);
    if (usable && session !== undefined && file.writer === undefined) {
      file.writer = new InodeWriter(this.#host.writes, fresh, {
        keepers,
        lease: { session, writeId },
      });
    }
    return new OpenFile(this.#host, file, fresh, { read: true, write: true, append, keepers });
  }

  async makeNode(
    parent: InodeId,
    name: string,
    options: Ownership & { kind: FileKind; target?: string; rdev?: number | undefined },
  ): Promise<FileStatus> {
    const { mode, uid, gid, kind, target, rdev, umask } = options;
    const { status, ...at } = await this.#session.execute(
      {
        kind: "create",
        parent,
        name,
        fileKind: kind,
        mode,
        uid,
        gid,
        target,
        lease: false,
        exclusive: true,
        writeType: kind === "file" ? this.#ownWriteType : undefined,
        rdev,
        umask,
      },
      `Cannot create "${name}" in directory ${String(parent)}`,
    );
    return this.#entered(parent, name, status, at);
  }

  mkdir(parent: InodeId, name: string, options: Ownership): Promise<FileStatus> {
    return this.makeNode(parent, name, { ...options, kind: "directory" });
  }

  symlink(
    parent: InodeId,
    name: string,
    options: { target: string; uid: number; gid: number },
  ): Promise<FileStatus> {
    return this.makeNode(parent, name, { ...options, mode: 0o777, kind: "symlink" });
  }

  async link(inode: InodeId, parent: InodeId, name: string): Promise<FileStatus> {
    const { status, ...at } = await this.#session.execute(
      { kind: "link", inode, parent, name },
      `Cannot link inode ${String(inode)} as "${name}"`,
    );
    if (status === undefined) this.#cache.invalidateStatus(inode, at.index);
    return this.#entered(parent, name, status ?? (await this.#freshStatus(inode)), at);
  }

  async unlink(parent: InodeId, name: string): Promise<void> {
    // Only a file that is open here is held, and only then is its inode worth a question.
    const file =
      this.#files.size === 0 ? undefined : this.#files.get((await this.lookup(parent, name)).inode);
    const { index } = await this.#session.execute(
      { kind: "unlink", parent, name, held: file !== undefined },
      `Cannot remove "${name}" from directory ${String(parent)}`,
    );
    if (file !== undefined) file.unlinked = true;
    this.#left(parent, name, index);
  }

  async rmdir(parent: InodeId, name: string): Promise<void> {
    const { index } = await this.#session.execute(
      { kind: "rmdir", parent, name },
      `Cannot remove directory "${name}" from directory ${String(parent)}`,
    );
    this.#left(parent, name, index);
  }

  /** Removes a name and everything below it at once. */
  async deleteTree(parent: InodeId, name: string): Promise<void> {
    const { index } = await this.#session.execute(
      { kind: "deleteTree", parent, name },
      `Cannot remove "${name}" from directory ${String(parent)}`,
    );
    this.#left(parent, name, index);
  }

  async rename(
    source: { parent: InodeId; name: string },
    target: { parent: InodeId; name: string },
    options: RenameOptions = {},
  ): Promise<void> {
    const { index } = await this.#session.execute(
      {
        kind: "rename",
        sourceParent: source.parent,
        sourceName: source.name,
        targetParent: target.parent,
        targetName: target.name,
        noReplace: options.noReplace ?? false,
        exchange: options.exchange === true ? true : undefined,
      },
      `Cannot rename "${source.name}" to "${target.name}"`,
    );
    this.#left(source.parent, source.name, index);
    this.#left(target.parent, target.name, index);
  }

  async setAttributes(inode: InodeId, changes: AttributeChanges): Promise<FileStatus> {
    const { mode, uid, gid, atime, mtime, touch } = changes;
    const { status, ...at } = await this.#session.execute(
      { kind: "setAttributes", inode, mode, uid, gid, atime, mtime, touch },
      `Cannot change the attributes of inode ${String(inode)}`,
    );
    const modified = touch === true ? status?.mtime : mtime;
    if (modified !== undefined) this.#files.get(inode)?.writer?.setModified(modified);
    return this.#refreshed(inode, status, at);
  }

  async getXattr(inode: InodeId, name: string): Promise<Uint8Array> {
    const { hasXattrs } = await this.getStatus(inode);
    // The kernel asks before each write, for nearly all files in vain.
    if (hasXattrs !== true) throw noXattr(inode, name);
    const request = { inode, name, consistency: "linearizable" } as const;
    return Uint8Array.from((await this.#read(masterApi.getXattr, request)).value);
  }

  async listXattrs(inode: InodeId): Promise<readonly string[]> {
    const { hasXattrs } = await this.getStatus(inode);
    if (hasXattrs !== true) return [];
    const request = { inode, consistency: "linearizable" } as const;
    return (await this.#read(masterApi.listXattrs, request)).names;
  }

  async setXattr(
    inode: InodeId,
    name: string,
    value: Uint8Array,
    how: "set" | "create" | "replace" = "set",
  ): Promise<FileStatus> {
    const { status, ...at } = await this.#session.execute(
      { kind: "setXattr", inode, name, value, how },
      `Cannot set attribute "${name}" of inode ${String(inode)}`,
    );
    return this.#refreshed(inode, status, at);
  }

  async removeXattr(inode: InodeId, name: string): Promise<FileStatus> {
    const { status, ...at } = await this.#session.execute(
      { kind: "removeXattr", inode, name },
      `Cannot remove attribute "${name}" of inode ${String(inode)}`,
    );
    return this.#refreshed(inode, status, at);
  }

  async truncate(inode: InodeId, size: number): Promise<FileStatus> {
    // Who writes the file already has shown his right: that is not this caller's.
    if (this.#caller !== undefined) await this.#freshStatus(inode, permission.write);
    return this.#truncate(inode, size, { lease: false });
  }

  /** For who has opened the file to write: all but the superuser show it by the lease. */
  #truncateOpened(inode: InodeId, size: number): Promise<FileStatus> {
    return this.#truncate(inode, size, { lease: this.#caller !== undefined });
  }

  #truncate(inode: InodeId, size: number, options: { lease: boolean }): Promise<FileStatus> {
    return this.#pinned(inode, async (file) => {
      const known = this.#cache.status(inode) ?? (await this.#freshStatus(inode));
      // Even without data: the sizes and commits of one file are changed by its writer alone, one after the other.
      const writer = (file.writer ??= new InodeWriter(this.#host.writes, known));
      await writer.truncate(size, options);
      return writer.status;
    });
  }

  async open(inode: InodeId, options: OpenOptions): Promise<FileHandle> {
    const shared = this.#files.get(inode)?.writer;
    let status: FileStatus;
    const needed = options.access ?? accessOf(options);
    const asks = this.#caller === undefined ? undefined : needed;
    if (shared !== undefined && shared.busy) {
      if (asks !== undefined) await this.#freshStatus(inode, asks);
      status = shared.status;
    } else if (options.read && options.truncate !== true) status = await this.#locate(inode, asks);
    else status = await this.#freshStatus(inode, asks);
    if (status.kind === "directory") {
      throw new WeirError("IsDirectory", `Cannot open inode ${String(inode)}: it is a directory`);
    }
    if (status.kind !== "file") {
      throw new WeirError(
        "InvalidArgument",
        `Cannot open inode ${String(inode)}: it is a ${status.kind}, wanted a file`,
      );
    }
    if (options.truncate === true && status.size > 0) {
      return this.#pinned(inode, async (file) => {
        const { write, keepers } = options;
        const writer = (file.writer ??= new InodeWriter(this.#host.writes, status, { keepers }));
        await writer.truncate(0, { lease: write });
        return new OpenFile(this.#host, file, writer.status, options);
      });
    }
    return new OpenFile(this.#host, this.#file(inode), status, options);
  }

  wasRead(status: FileStatus): void {
    if (this.#config.client.atime === "relatime") this.#shared.atimes.read(status);
  }

  async statFs(): Promise<{ inodes: number; capacityBytes: number; usedBytes: number }> {
    return this.#read(masterApi.statFs, {});
  }

  /** Drops cached copies of a persisted file; answers how many containers were asked to go. */
  async free(inode: InodeId): Promise<number> {
    return (await this.#read(masterApi.free, { inode })).containers;
  }

  /** Resolves when the under storage holds the file's present version. */
  async waitPersisted(inode: InodeId): Promise<void> {
    const endMs = this.#clock.monotonicMs() + this.#config.client.operationTimeoutMs;
    let pauseMs = persistedPollMs.first;
    for (;;) {
      const status = await this.#freshStatus(inode);
      if (status.persistence !== "pending") return;
      if (this.#clock.monotonicMs() + pauseMs >= endMs) {
        throw new WeirError(
          "DeadlineExceeded",
          `Cannot persist inode ${String(inode)} within ${String(this.#config.client.operationTimeoutMs)} ms: it is still queued`,
          { outcome: "unknown" },
        );
      }
      await sleep(pauseMs);
      pauseMs = Math.min(pauseMs * 2, persistedPollMs.longest);
    }
  }

  onChange({ inodes, recalled = [] }: Parameters<ChangeListener["onChange"]>[0]): void {
    for (const inode of recalled) this.#files.get(inode)?.writer?.recall();
    if (this.#files.size === 0) return;
    for (const inode of inodes) {
      const file = this.#files.get(inode);
      if (file !== undefined) this.#held.changed(file);
    }
  }

  /** Changes were missed: any lease may have been recalled, any file changed. */
  onGap(): void {
    for (const file of this.#files.values()) {
      file.writer?.recall();
      this.#held.changed(file);
    }
  }

  onLive(live: boolean): void {
    this.#shared.isTold = live;
    this.onGap();
  }

  /** What the masters say of an inode, with what this client has written to it and not published yet. */
  overlaid(status: FileStatus): FileStatus {
    return this.#files.get(status.inode)?.overlay(status) ?? status;
  }

  /** Publishes what is written, and lets local files go. */
  async close(): Promise<void> {
    const writers = [...this.#files.values()].flatMap((file) => file.writer ?? []);
    await Promise.all(
      writers.map(async (writer) => {
        await writer.flush({ release: true, sync: false }).catch(() => undefined);
        writer.abandon();
      }),
    );
    // Not worth a session of its own.
    if (this.#session.current !== undefined) await this.#shared.atimes.tell();
    this.#shared.atimes.close();
    await Promise.all(this.#background);
    await this.#local.close();
    this.workers.close();
  }

  #read<Q, S>(method: Method<Q, S>, request: Q): Promise<S> {
    const { operationTimeoutMs: deadlineMs, reads: from } = this.#config.client;
    return this.#masters.call(method, request, { deadlineMs, idempotent: true, from });
  }

  /** `access`: a sum of permissions that the caller must have. */
  async #freshStatus(inode: InodeId, access?: number): Promise<FileStatus> {
    const { askedMs } = this.#cache.mark();
    const { status, appliedIndex } = await this.#read(masterApi.getStatus, {
      inode,
      consistency: "linearizable",
      access,
    });
    this.#cache.putStatus(status, { index: appliedIndex, askedMs });
    return status;
  }

  /** The status for a reader, and in the same call where the first bytes are. */
  async #locate(inode: InodeId, access: number | undefined): Promise<FileStatus> {
    const cached = this.#cache.status(inode);
    const isKnown =
      cached !== undefined && this.layouts.cached(inode, cached.version, 0) !== undefined;
    const reads = access === undefined || (access & permission.read) !== 0;
    if (isKnown || !reads) return this.#freshStatus(inode, access);
    // A layout is for who may read; other rights are asked for by themselves.
    const asksMore = access !== undefined && access !== permission.read;
    if (asksMore) await this.#freshStatus(inode, access);
    return (await this.layouts.fetch(inode, 0, { opening: !asksMore })).status;
  }

  /** Whether it is known here that the caller may look for names in the directory. */
  async #maySearch(directory: InodeId): Promise<boolean> {
    if (this.#caller === "unknown") return false;
    const status = this.#cache.status(directory) ?? (await this.#freshStatus(directory));
    // The list itself only the masters have.
    return status.hasAcl !== true && mayAccess(this.#caller, status, permission.execute);
  }

  async #chooseChain(keepers: number, attempt: number): Promise<WorkerId[]> {
    if (attempt > 0) await this.workers.refresh();
    const live = await this.workers.live();
    const candidates = await Promise.all(
      live.map(async (worker) => ({
        worker,
        distrusted: this.workers.distrusts(worker.id),
        shared: !this.workers.distrusts(worker.id) && (await this.#local.shares(worker.id)),
      })),
    );
    return chooseChain(candidates, keepers, attempt);
  }

  #file(inode: InodeId): SharedFile {
    let file = this.#files.get(inode);
    if (file === undefined) {
      file = new SharedFile(inode);
      this.#files.set(inode, file);
    }
    return file;
  }

  /** Keeps what the handles of a file share while `use` waits and has no handle yet. */
  async #pinned<T>(inode: InodeId, use: (file: SharedFile) => Promise<T>): Promise<T> {
    const file = this.#file(inode);
    file.pins++;
    try {
      return await use(file);
    } finally {
      file.pins--;
      this.#onClosed(file);
    }
  }

  #onClosed(file: SharedFile): void {
    if (file.handles.size > 0 || file.pins > 0 || this.#files.get(file.inode) !== file) return;
    this.#files.delete(file.inode);
    file.writer?.abandon();
    this.#held.closed(file);
  }

  /** A command made `name`: its answer enters the cache. */
  #entered(
    parent: InodeId,
    name: string,
    status: FileStatus | undefined,
    at: AnswerTime,
  ): FileStatus {
    if (status === undefined) {
      throw new WeirError("ProtocolError", `Cannot use the answer for "${name}": it has no status`);
    }
    this.#cache.invalidateStatus(parent, at.index);
    this.#cache.putResult(status, at);
    this.#cache.putNameResult(parent, name, status.inode, at);
    return status;
  }

  /** A command took `name` away, or gave it to another inode. */
  #left(parent: InodeId, name: string, index: number): void {
    const inode = this.#cache.name(parent, name);
    if (inode !== undefined && inode !== "absent") this.#cache.invalidateStatus(inode, index);
    this.#cache.invalidateStatus(parent, index);
    this.#cache.invalidateName(parent, name, index);
  }

  /** The status after a command that changed attributes, for the cache and for who writes the file. */
  async #refreshed(
    inode: InodeId,
    status: FileStatus | undefined,
    at: AnswerTime,
  ): Promise<FileStatus> {
    const fresh = await this.#changed(inode, status, at);
    this.#files.get(inode)?.writer?.refresh(fresh);
    return this.overlaid(fresh);
  }

  async #changed(
    inode: InodeId,
    status: FileStatus | undefined,
    at: AnswerTime,
  ): Promise<FileStatus> {
    if (status !== undefined) {
      this.#cache.putResult(status, at);
      return status;
    }
    this.#cache.invalidateStatus(inode, at.index);
    return this.#freshStatus(inode);
  }
}

function makeShared(options: InodeClientOptions): Shared {
  const { masters, session, cache, clock, logger, config } = options;
  const { operationTimeoutMs, shortCircuit } = config.client;
  const workers = new Workers({ masters, clock, logger, operationTimeoutMs });
  const { recoveryWaitMs } = config.master;
  return {
    workers,
    layouts: new Layouts({ masters, clock, cache, operationTimeoutMs, recoveryWaitMs }),
    local: new LocalStorage({ workers, clock, logger, enabled: shortCircuit }),
    files: new Map(),
    background: new Set(),
    spent: new Set(),
    budget: new ReadBudget(),
    isTold: false,
    atimes: new Atimes(clock, (command) => session.mutate([command])),
  };
}

/** What opening a file like that asks for. */
function accessOf({ read, write, truncate }: OpenOptions): number {
  const writes = write || truncate === true;
  return (read ? permission.read : 0) | (writes ? permission.write : 0);
}

function notFound(parent: InodeId, name: string): WeirError {
  return new WeirError(
    "NotFound",
    `Cannot find "${name}" in directory ${String(parent)}: there is no such name`,
  );
}

function noXattr(inode: InodeId, name: string): WeirError {
  return new WeirError(
    "NoData",
    `Cannot read attribute "${name}" of inode ${String(inode)}: it has no such attribute`,
  );
}
