/**
 * A client of a cluster: connections, session, change feed, the file system in terms of inodes (`inodes`), and in terms
 * of paths, for the CLI, the SDK and tests. Paths are absolute latin1 strings, one character per byte.
 */
import { connectBlocks } from "../blocks/connection.ts";
import { createBlockClient } from "../blocks/client.ts";
import type { BlockClient } from "../blocks/types.ts";
import { systemClock } from "../lib/clock.ts";
import type { Config } from "../lib/config.ts";
import { hasCode, WeirError } from "../lib/errors.ts";
import type { InodeId, LineageId, MountId, TreeOpId, UfsOpId } from "../lib/ids.ts";
import { rootInodeId } from "../lib/ids.ts";
import type { Logger } from "../lib/logger.ts";
import {
  accessAclName,
  type Acl,
  aclOfMode,
  decodeAcl,
  defaultAclName,
  encodeAcl,
} from "../rpc/acl.ts";
import { permission } from "../rpc/access.ts";
import { type Effect, masterApi } from "../rpc/master-api.ts";
import { MasterConnection } from "../rpc/master-connection.ts";
import type { Method } from "../rpc/method.ts";
import type {
  FileKind,
  Caller,
  DataPolicyInfo,
  FileStatus,
  Job,
  LineageInfo,
  Migration,
  MountInfo,
  Segment,
  TreeChange,
  TreeOpInfo,
  UfsObject,
  WorkerInfo,
  WriteType,
} from "../rpc/namespace.ts";
import { processCaller } from "./caller.ts";
import { ChangeFeed, type ChangeListener } from "./change-feed.ts";
import type { DirectoryEntry, FileHandle, RenameOptions } from "./file-system.ts";
import { InodeClient } from "./inode-client.ts";
import { inPages } from "./layouts.ts";
import { MetadataCache } from "./metadata-cache.ts";
import { PathPolicies } from "./path-policies.ts";
import { type PathPlace, splitPath } from "./path-names.ts";
import {
  changeFields,
  type MountChanges,
  mountFields,
  type MountOptions,
  unionFields,
  type UnionOptions,
} from "./mounts.ts";
import { Session } from "./session.ts";
import { TreeSync, type TreeSyncOptions, type TreeSyncProgress } from "./tree-sync.ts";

const streamBytes = 1024 * 1024;
/** Names that are removed side by side where a tree goes name by name. */
const removedAtOnce = 64;
/** Longest wait for the jobs of a recovery or a lineage that a caller asked for. */
const jobsTimeoutMs = 24 * 3_600_000;

export interface WriteFileOptions {
  readonly writeType?: WriteType | undefined;
  readonly keepers?: number | undefined;
  readonly mode?: number | undefined;
  /** Refuse with `AlreadyExists` to replace an existing file. */
  readonly exclusive?: boolean | undefined;
  readonly append?: boolean | undefined;
}

/** How old what is known of a directory may get, in milliseconds (-1: as old as it likes), and how old it is. */
export interface SyncIntervalInfo {
  readonly intervalMs: number;
  /** The path that it is set on, or whose mount has it; undefined: the configuration says so. */
  readonly setOn: string | undefined;
  readonly ageMs: number | undefined;
}

/** Where a file's bytes are. */
export interface FileLocations {
  readonly status: FileStatus;
  readonly blockSizeBytes: number;
  readonly segments: readonly Segment[];
  /** The store's object that holds the same bytes. */
  readonly ufs: UfsObject | undefined;
  readonly workers: readonly WorkerInfo[];
}

/** The access control lists of one inode. */
export interface AccessLists {
  readonly access: Acl;
  readonly defaults: Acl | undefined;
}

interface ClientParts {
  readonly masters: MasterConnection;
  readonly inodes: InodeClient;
  readonly config: Config;
  readonly session: Session;
  readonly feed: ChangeFeed;
  readonly blocks: BlockClient;
  readonly disconnectBlocks: () => Promise<void>;
  /** In whose name all is asked for; undefined: the superuser's. */
  readonly caller: Caller | undefined;
}

const effectsPerCall = 1000;

export class WeirClient {
  readonly masters: MasterConnection;
  readonly inodes: InodeClient;
  readonly policies: PathPolicies;
  readonly #parts: ClientParts;
  readonly #config: Config;
  readonly #session: Session;

  private constructor(parts: ClientParts) {
    this.#parts = parts;
    this.masters = parts.masters;
    this.inodes = parts.inodes;
    this.#config = parts.config;
    this.#session = parts.session;
    this.policies = new PathPolicies({
      masters: parts.masters,
      session: parts.session,
      deadlineMs: parts.config.client.operationTimeoutMs,
      stat: (path) => this.stat(path),
    });
  }

  /**
   * A client of the cluster of `config`. It connects as it is used: that a cluster is not there shows at the first call.
   * `name` is shown beside its session; `caller` is who asks, by default the user of this process.
   */
  static async connect(options: {
    config: Config;
    logger: Logger;
    name: string;
    caller?: Caller | undefined;
  }): Promise<WeirClient> {
    const { config, logger, name, caller = processCaller() } = options;
    const clock = systemClock;
    const masters = new MasterConnection({
      masters: config.masters.map(({ host, rpcPort }) => ({ host, port: rpcPort })),
      logger,
      clock,
    }).as(caller);
    const { operationTimeoutMs } = config.client;
    const session = new Session({ masters, clock, logger, clientName: name, operationTimeoutMs });
    const cache = new MetadataCache(clock);
    const { urls, user, password } = config.nats;
    const connection = await connectBlocks({ urls, user, password, name, logger });
    const blocks = createBlockClient(connection, { clusterName: config.clusterName, logger });
    const inodes = new InodeClient({
      masters,
      session,
      cache,
      blocks,
      clock,
      logger,
      config,
      caller,
    });
    const listener: ChangeListener = {
      onChange: (change) => {
        cache.onChange(change);
        inodes.onChange(change);
      },
      onGap: (index) => {
        cache.onGap(index);
        inodes.onGap();
      },
      onLive: (live, index) => {
        cache.onLive(live, index);
        inodes.onLive(live);
      },
      onConfirmed: (atMs) => {
        cache.onConfirmed(atMs);
      },
    };
    const feed = new ChangeFeed({ masters: masters.each, listener, clock, logger });
    return new WeirClient({
      masters,
      inodes,
      config,
      session,
      feed,
      blocks,
      disconnectBlocks: () => connection.close(),
      caller,
    });
  }

  /** The same client in the name of another caller (undefined: the superuser); closing one closes all. */
  as(caller: Caller | undefined): WeirClient {
    const masters = this.masters.as(caller);
    const session = this.#session.through(masters);
    return new WeirClient({
      ...this.#parts,
      masters,
      session,
      inodes: this.inodes.as(caller),
      caller,
    });
  }

  /** Publishes what open files have written, ends the session and all connections. */
  async close(): Promise<void> {
    const { feed, blocks, disconnectBlocks } = this.#parts;
    await this.inodes.close();
    await this.#session.close();
    await feed.close();
    await blocks.close();
    await disconnectBlocks();
    this.masters.close();
  }

  /** @throws WeirError `NotFound`, `NotDirectory` */
  async stat(path: string): Promise<FileStatus> {
    const request = { path, consistency: "linearizable" } as const;
    const { status } = await this.masters.call(masterApi.resolve, request, {
      deadlineMs: this.#config.client.operationTimeoutMs,
      idempotent: true,
      from: this.#config.client.reads,
    });
    return this.inodes.overlaid(status);
  }

  /** Whether anything has this path. */
  async exists(path: string): Promise<boolean> {
    try {
      await this.stat(path);
      return true;
    } catch (error) {
      if (hasCode(error, "NotFound", "NotDirectory")) return false;
      throw error;
    }
  }

  /** The names in a directory, in byte order, page by page. @throws WeirError `NotFound`, `NotDirectory` */
  async *list(path: string): AsyncGenerator<DirectoryEntry> {
    const status = await this.stat(path);
    if (status.kind !== "directory") {
      throw new WeirError("NotDirectory", `Cannot list "${path}": it is a ${status.kind}`);
    }
    yield* this.inodes.list(status.inode);
  }

  /** Makes a directory; with `parents` also those above it, and an existing one is fine. */
  async mkdir(
    path: string,
    options: { parents?: boolean; mode?: number } = {},
  ): Promise<FileStatus> {
    const mode = options.mode ?? 0o755;
    if (options.parents !== true) {
      const { parent, name } = await this.#place(path);
      return this.inodes.mkdir(parent, name, { mode, ...this.#owner() });
    }
    let status = await this.stat("/");
    for (const name of splitPath(path)) {
      status = await this.#directory(status, name, mode);
    }
    return status;
  }

  /** Removes a file, link or empty directory; with `recursive` a directory with all below it. */
  async remove(path: string, options: { recursive?: boolean } = {}): Promise<void> {
    const { parent, name } = await this.#place(path);
    const status = await this.inodes.lookup(parent, name);
    needDirectoryAt(path, status);
    if (status.kind !== "directory") await this.inodes.unlink(parent, name);
    else if (options.recursive === true) await this.#removeTree(status.inode, { parent, name });
    else await this.inodes.rmdir(parent, name);
  }

  /** At once by the superuser; by all others name by name, up to the first that they may not remove. */
  async #removeTree(directory: InodeId, { parent, name }: PathPlace): Promise<void> {
    try {
      await this.inodes.deleteTree(parent, name);
    } catch (error) {
      if (!hasCode(error, "NotEmpty")) throw error;
      await this.#empty(directory);
      await this.inodes.rmdir(parent, name);
    }
  }

  /** Removes all names in a directory. */
  async #empty(directory: InodeId): Promise<void> {
    let running: Promise<void>[] = [];
    for await (const { name, status } of this.inodes.list(directory)) {
      const place = { parent: directory, name };
      if (status.kind === "directory") await this.#removeTree(status.inode, place);
      else running.push(this.inodes.unlink(directory, name));
      // Its failure is for who awaits them all, however long that takes.
      running.at(-1)?.catch(() => undefined);
      if (running.length < removedAtOnce) continue;
      await Promise.all(running);
      running = [];
    }
    await Promise.all(running);
  }

  /** rename(2): an existing target is replaced, unless `noReplace`; with `exchange` the two change places. */
  async rename(from: string, to: string, options: RenameOptions = {}): Promise<void> {
    const [source, target] = await Promise.all([this.#place(from), this.#place(to)]);
    if (from.endsWith("/") || to.endsWith("/")) {
      const moved = await this.inodes.lookup(source.parent, source.name);
      for (const path of [from, to]) needDirectoryAt(path, moved);
    }
    await this.inodes.rename(source, target, options);
  }

  /** Makes a fifo, a socket or a device (`rdev`: major · 2^32 + minor); devices are the superuser's to make. */
  async makeNode(
    path: string,
    options: { kind: FileKind; mode?: number | undefined; rdev?: number | undefined },
  ): Promise<FileStatus> {
    const { parent, name } = await this.#place(path);
    const { kind, mode = 0o644, rdev } = options;
    return this.inodes.makeNode(parent, name, { kind, mode, rdev, ...this.#owner() });
  }

  /** The value of an extended attribute. @throws WeirError `NoData` where there is none */
  async getXattr(path: string, name: string): Promise<Uint8Array> {
    return this.inodes.getXattr((await this.stat(path)).inode, name);
  }

  async listXattrs(path: string): Promise<readonly string[]> {
    return this.inodes.listXattrs((await this.stat(path)).inode);
  }

  async setXattr(
    path: string,
    name: string,
    value: Uint8Array,
    how?: "set" | "create" | "replace",
  ): Promise<FileStatus> {
    return this.inodes.setXattr((await this.stat(path)).inode, name, value, how);
  }

  async removeXattr(path: string, name: string): Promise<FileStatus> {
    return this.inodes.removeXattr((await this.stat(path)).inode, name);
  }

  /** The access control lists of a path: a plain one is what the mode says, most directories have no default one. */
  async getAcls(path: string): Promise<AccessLists & { readonly status: FileStatus }> {
    const status = await this.stat(path);
    const access = await this.#acl(status, accessAclName);
    const defaults = await this.#acl(status, defaultAclName);
    return { status, access: access ?? aclOfMode(status.mode), defaults };
  }

  /** Sets the lists that are given; an empty one takes it away. */
  async setAcls(path: string, lists: Partial<AccessLists>): Promise<FileStatus> {
    let status = await this.stat(path);
    const { inode } = status;
    const { access, defaults } = lists;
    if (access !== undefined) {
      status = await this.inodes.setXattr(inode, accessAclName, encodeAcl(access));
    }
    if (defaults !== undefined) {
      status = await this.inodes.setXattr(inode, defaultAclName, encodeAcl(defaults));
    }
    return status;
  }

  async #acl({ inode, hasXattrs }: FileStatus, name: string): Promise<Acl | undefined> {
    if (hasXattrs !== true) return undefined;
    try {
      const decoded = decodeAcl(await this.inodes.getXattr(inode, name));
      if ("acl" in decoded) return decoded.acl;
      throw new WeirError("ProtocolError", `Cannot read "${name}": ${decoded.fault}`);
    } catch (error) {
      if (hasCode(error, "NoData")) return undefined;
      throw error;
    }
  }

  async symlink(target: string, path: string): Promise<FileStatus> {
    const { parent, name } = await this.#place(path);
    return this.inodes.symlink(parent, name, { target, ...this.#owner() });
  }

  async link(existing: string, path: string): Promise<FileStatus> {
    const [{ inode }, { parent, name }] = await Promise.all([
      this.stat(existing),
      this.#place(path),
    ]);
    return this.inodes.link(inode, parent, name);
  }

  /** Opens an existing file: to read, to read and write, to write at its end. */
  async open(path: string, mode: "r" | "r+" | "a" = "r"): Promise<FileHandle> {
    const { inode } = await this.stat(path);
    const isAppending = mode === "a";
    return this.inodes.open(inode, {
      read: true,
      write: mode !== "r",
      append: isAppending,
      // What is there already need not be readable; who tries is refused then.
      access: isAppending ? permission.write : undefined,
    });
  }

  /** The bytes of a file, or of [offset, offset + length) of it, in chunks of up to 1 MiB. */
  async *readFile(
    path: string,
    range: { offset?: number; length?: number } = {},
  ): AsyncGenerator<Uint8Array> {
    const handle = await this.open(path);
    try {
      let offset = range.offset ?? 0;
      const end = offset + (range.length ?? Number.MAX_SAFE_INTEGER - offset);
      while (offset < end) {
        const chunk = await handle.read(offset, Math.min(streamBytes, end - offset));
        if (chunk.length === 0) return;
        offset += chunk.length;
        yield chunk;
      }
    } finally {
      await handle.close();
    }
  }

  /** Writes a file whole, replacing what is there. Answers its status when it is as durable as the write type says. */
  async writeFile(
    path: string,
    source: AsyncIterable<Uint8Array> | Iterable<Uint8Array> | Uint8Array,
    options: WriteFileOptions = {},
  ): Promise<FileStatus> {
    const { writeType, keepers, append } = options;
    if (path.endsWith("/")) {
      throw new WeirError("IsDirectory", `Cannot write "${path}": the path is that of a directory`);
    }
    const { parent, name } = await this.#place(path);
    const handle = await this.inodes.create(parent, name, {
      mode: options.mode ?? 0o644,
      ...this.#owner(),
      exclusive: options.exclusive ?? false,
      writeType,
      keepers,
      append,
    });
    try {
      if (append !== true && handle.status.size > 0) await handle.truncate(0);
      let offset = 0;
      for await (const chunk of source instanceof Uint8Array ? [source] : source) {
        await handle.write(offset, chunk);
        offset += chunk.length;
      }
    } catch (error) {
      await handle.close().catch(() => undefined);
      throw error;
    }
    await handle.close();
    return handle.status;
  }

  /** Sets permission bits, owner and times. */
  async setAttributes(
    path: string,
    changes: Parameters<InodeClient["setAttributes"]>[1],
  ): Promise<FileStatus> {
    return this.inodes.setAttributes((await this.stat(path)).inode, changes);
  }

  /**
   * Changes a path, and in the background all below it; goes on whatever becomes of this client. Answers the operation as
   * it has begun.
   */
  async startTreeOp(path: string, change: TreeChange): Promise<TreeOpInfo> {
    const { inode } = await this.stat(path);
    const { id } = await this.#session.execute(
      { kind: "startTreeOp", inode, change },
      `Cannot change "${path}" and what is below`,
    );
    return await this.treeOp(id as TreeOpId);
  }

  /** Operations on trees that are under way or ended lately, in the order of their start. */
  async treeOps(): Promise<readonly TreeOpInfo[]> {
    return (await this.#read(masterApi.treeOps, {})).treeOps;
  }

  /** @throws WeirError `NotFound` */
  async treeOp(id: TreeOpId): Promise<TreeOpInfo> {
    const found = (await this.treeOps()).find((each) => each.id === id);
    if (found !== undefined) return found;
    throw new WeirError(
      "NotFound",
      `Cannot find operation ${String(id)}: it is not known any more`,
    );
  }

  /** What it has not done yet stays as it is. */
  async cancelTreeOp(id: TreeOpId): Promise<void> {
    await this.#session.execute(
      { kind: "cancelTreeOp", treeOp: id },
      `Cannot cancel operation ${String(id)}`,
    );
  }

  /** Makes a data policy for what is below a directory, or changes the one of that name. */
  async setDataPolicy(
    name: string,
    path: string,
    of: { readonly migration: Migration; readonly everyMs: number | undefined },
  ): Promise<void> {
    const { inode } = await this.stat(path);
    await this.#session.execute(
      { kind: "setDataPolicy", name, inode, ...of },
      `Cannot set the data policy "${name}"`,
    );
  }

  async deleteDataPolicy(name: string): Promise<void> {
    const doing = `Cannot delete the data policy "${name}"`;
    await this.#session.execute({ kind: "deleteDataPolicy", name }, doing);
  }

  /** Starts a run, or a trial, that only says what would be done. Answers the operation as it has begun. */
  async runDataPolicy(name: string, isTrial: boolean): Promise<TreeOpInfo> {
    const { id } = await this.#session.execute(
      { kind: "runDataPolicy", name, isTrial },
      `Cannot run the data policy "${name}"`,
    );
    return await this.treeOp(id as TreeOpId);
  }

  /** In the order of their making, each with its last runs. */
  async dataPolicies(): Promise<readonly DataPolicyInfo[]> {
    return (await this.#read(masterApi.dataPolicies, {})).policies;
  }

  /** Mounts a store at a path whose parent exists. Credentials in `options` are never shown again. */
  async mount(
    path: string,
    uri: string,
    options: MountOptions = {},
  ): Promise<{ id: MountId | undefined; status: FileStatus }> {
    const { parent, name } = await this.#place(path);
    const { id, status } = await this.#session.execute(
      { kind: "mount", parent, name, ...mountFields(uri, { owner: this.#owner(), ...options }) },
      `Cannot mount "${uri}" at "${path}"`,
    );
    return { id: id as MountId | undefined, status: status ?? (await this.stat(path)) };
  }

  /** Mounts several stores under one path. */
  async mountUnion(path: string, options: UnionOptions): Promise<void> {
    const { parent, name } = await this.#place(path);
    const fields = unionFields({ owner: this.#owner(), ...options });
    await this.#session.execute(
      { kind: "mount", parent, name, ...fields },
      `Cannot mount ${String(options.layers.length)} layers at "${path}"`,
    );
  }

  /** Changes a mount while it is in use; what `changes` does not name stays. */
  async updateMount(path: string, changes: MountChanges): Promise<void> {
    const doing = `Cannot update the mount at "${path}"`;
    const mount = (await this.mounts()).find((each) => each.path === path);
    if (mount === undefined) {
      throw new WeirError("NotFound", `${doing}: it is no mount point`);
    }
    await this.#session.execute(
      { kind: "updateMount", mount: mount.id, ...changeFields(changes) },
      doing,
    );
  }

  /**
   * Takes a mount away; its store keeps its files. `force`: also when changes have not reached it, or content is in no store:
   * those are lost. Resolves with the number of changes that were given up.
   */
  async unmount(path: string, options: { readonly force?: boolean } = {}): Promise<number> {
    const doing = `Cannot unmount "${path}"`;
    const place = await this.#place(path);
    if (options.force !== true) {
      await this.#session.execute({ kind: "unmount", ...place }, doing);
      return 0;
    }
    const mount = (await this.mounts()).find((each) => each.path === path);
    if (mount === undefined) throw new WeirError("NotFound", `${doing}: it is no mount point`);
    let givenUp = 0;
    for (let isMounted = true; isMounted; ) {
      const after = { mountId: mount.id, op: 0 as UfsOpId };
      const request = { after, onlyFailed: false, limit: effectsPerCall };
      const { effects } = await this.#read(masterApi.effects, request);
      const force = effects.filter(({ mountId }) => mountId === mount.id).map(({ op }) => op);
      const { id } = await this.#session.execute({ kind: "unmount", ...place, force }, doing);
      givenUp += force.length;
      isMounted = id !== undefined && id > 0;
    }
    return givenUp;
  }

  async mounts(): Promise<readonly MountInfo[]> {
    return (await this.#read(masterApi.mounts, {})).mounts;
  }

  /**
   * Queues the write of a file, or of all files below a directory, to the under storage; with `wait` answers when it is
   * there. Answers the number of files.
   */
  async persist(path: string, options: { wait?: boolean } = {}): Promise<number> {
    let files = 0;
    for await (const { path: each, status } of this.walk(path)) {
      if (status.kind !== "file") continue;
      files++;
      if (status.persistence === "persisted") continue;
      await this.#session.execute(
        { kind: "persist", inode: status.inode },
        `Cannot persist "${each}"`,
      );
    }
    if (options.wait === true) {
      for await (const { status } of this.walk(path)) {
        if (status.kind === "file") await this.inodes.waitPersisted(status.inode);
      }
    }
    return files;
  }

  /** Drops the cached copies of a persisted file, or of all such below a directory; answers how many containers go. */
  async free(path: string): Promise<number> {
    let containers = 0;
    for await (const { status } of this.walk(path)) {
      if (status.kind === "file" && status.persistence === "persisted") {
        containers += await this.inodes.free(status.inode);
      }
    }
    return containers;
  }

  /** A path and everything below it, directories before what is in them. */
  async *walk(path: string): AsyncGenerator<{ path: string; status: FileStatus }> {
    const status = await this.stat(path);
    yield { path, status };
    if (status.kind === "directory") yield* this.#walkBelow(path, status.inode);
  }

  /**
   * Brings a path in line with its store, and with `recursive` all below a directory. With `known` "enough", directories
   * whose names are known stay as they are: the tree is loaded.
   * @throws WeirError `NotFound`, `Cancelled`; what goes wrong in single directories is counted
   */
  sync(path: string, options: TreeSyncOptions = {}): Promise<TreeSyncProgress> {
    const { masters } = this;
    const deadlineMs = this.#config.client.operationTimeoutMs;
    return new TreeSync({ masters, deadlineMs }, options).run(splitPath(path));
  }

  /** Says how old what is known of a directory and all below may get; undefined leaves it to those above. */
  async setSyncInterval(path: string, intervalMs: number | undefined): Promise<void> {
    if (intervalMs === undefined) await this.policies.clear(path, ["syncIntervalMs"]);
    else await this.policies.set(path, { syncIntervalMs: intervalMs });
  }

  async syncInterval(path: string): Promise<SyncIntervalInfo> {
    const { inode } = await this.stat(path);
    const { intervalMs, from, ageMs } = await this.#read(masterApi.syncInterval, {
      directory: inode,
    });
    const setOn =
      from === undefined ? undefined : (await this.#read(masterApi.pathOf, { inode: from })).path;
    return { intervalMs, setOn, ageMs };
  }

  async locations(path: string): Promise<FileLocations> {
    const { inode, size } = await this.stat(path);
    const layout = await inPages({ offset: 0, length: size }, async (page) => {
      const answer = await this.masters.call(
        masterApi.layout,
        { inode, consistency: "linearizable", ...page },
        { deadlineMs: this.#config.master.recoveryWaitMs, idempotent: true },
      );
      return answer.layout;
    });
    const { status, blockSizeBytes, segments, ufs } = layout;
    return { status, blockSizeBytes, segments, ufs, workers: await this.workers() };
  }

  async workers(): Promise<readonly WorkerInfo[]> {
    return (await this.#read(masterApi.workers, { consistency: "linearizable" })).workers;
  }

  /** Side effects on stores that are queued or under way. */
  async pendingUfsOps(path?: string): Promise<number> {
    const inode = path === undefined ? undefined : (await this.stat(path)).inode;
    return (await this.#read(masterApi.pendingUfsOps, { inode })).count;
  }

  /** The same, one by one; with `onlyFailed` those that were given up. */
  async *effects(of: { readonly onlyFailed: boolean }): AsyncGenerator<Effect, void> {
    let after: { mountId: MountId; op: UfsOpId } | undefined;
    do {
      const request = { after, onlyFailed: of.onlyFailed, limit: effectsPerCall };
      const page = await this.#read(masterApi.effects, request);
      yield* page.effects;
      after = page.next;
    } while (after !== undefined);
  }

  /** Has side effects tried again that were given up. */
  async retryEffects(ops: readonly UfsOpId[]): Promise<void> {
    await this.#decide("retryEffect", ops);
  }

  /** Forgets side effects that were given up: the store keeps what it has. */
  async discardEffects(ops: readonly UfsOpId[]): Promise<void> {
    await this.#decide("discardEffect", ops);
  }

  async #decide(kind: "retryEffect" | "discardEffect", ops: readonly UfsOpId[]): Promise<void> {
    const verb = kind === "retryEffect" ? "retry" : "discard";
    for (const op of ops) {
      await this.#session.execute({ kind, op }, `Cannot ${verb} operation ${String(op)}`);
    }
  }

  /** Records how outputs are made of inputs, as these are now; makes the outputs as empty files. */
  async recordLineage(lineage: {
    inputs: readonly string[];
    outputs: readonly string[];
    job: Job;
  }): Promise<LineageId> {
    const inputs = await Promise.all(
      lineage.inputs.map(async (path) => {
        const { inode, version } = await this.stat(path);
        return { path, inode, version };
      }),
    );
    const outputs = await Promise.all(
      lineage.outputs.map(async (path) => ({ path, ...(await this.#place(path)) })),
    );
    const doing = "Cannot record the lineage";
    const { id } = await this.#session.execute(
      { kind: "recordLineage", inputs, outputs, job: lineage.job, ...this.#owner() },
      doing,
    );
    if (id === undefined) throw new WeirError("ProtocolError", `${doing}: the answer has no id`);
    return id as LineageId;
  }

  /** Runs the job, and what it needs first; answers when the outputs are there. @throws WeirError `JobFailed` */
  async runLineage(lineage: LineageId): Promise<LineageInfo> {
    const options = { deadlineMs: jobsTimeoutMs, idempotent: true };
    return (await this.masters.call(masterApi.runLineage, { lineage }, options)).lineage;
  }

  async lineage(lineage: LineageId): Promise<LineageInfo> {
    return (await this.#read(masterApi.lineageOf, { lineage })).lineage;
  }

  /** All recorded lineages by id, page by page. */
  async *lineages(): AsyncGenerator<LineageInfo> {
    let after: LineageId | undefined;
    for (;;) {
      const page = await this.#read(masterApi.lineages, { after, limit: 100 });
      for (const lineage of page.lineages) {
        yield lineage;
        after = lineage.id;
      }
      if (!page.more || page.lineages.length === 0) return;
    }
  }

  async deleteLineage(lineage: LineageId): Promise<void> {
    await this.#session.execute(
      { kind: "deleteLineage", lineage },
      `Cannot delete lineage ${String(lineage)}`,
    );
  }

  /** Rebuilds a lost file; answers the number of jobs that were run: 0 when it was whole. */
  async recover(path: string): Promise<number> {
    const { inode } = await this.stat(path);
    const options = { deadlineMs: jobsTimeoutMs, idempotent: true };
    return (await this.masters.call(masterApi.recover, { inode }, options)).jobs;
  }

  #read<Q, S>(method: Method<Q, S>, request: Q): Promise<S> {
    const deadlineMs = this.#config.client.operationTimeoutMs;
    return this.masters.call(method, request, { deadlineMs, idempotent: true });
  }

  /** Who new inodes belong to: who asks, and for the superuser the user of this process. */
  #owner(): { uid: number; gid: number } {
    const { uid, gid } = this.#parts.caller ?? processCaller();
    return { uid, gid };
  }

  /** The directory and name of a path. @throws WeirError `InvalidArgument` for "/" */
  async #place(path: string): Promise<PathPlace> {
    const names = splitPath(path);
    const name = names.pop();
    if (name === undefined) {
      throw new WeirError("InvalidArgument", `Cannot use "${path}" here: it is the root`);
    }
    if (names.length === 0) return { parent: rootInodeId, name };
    const above = `/${names.join("/")}`;
    const { inode, kind } = await this.stat(above);
    if (kind !== "directory") {
      throw new WeirError("NotDirectory", `Cannot use "${path}": "${above}" is no directory`);
    }
    return { parent: inode, name };
  }

  async #directory(above: FileStatus, name: string, mode: number): Promise<FileStatus> {
    try {
      return await this.inodes.lookup(above.inode, name);
    } catch (error) {
      if (!hasCode(error, "NotFound")) throw error;
    }
    try {
      return await this.inodes.mkdir(above.inode, name, { mode, ...this.#owner() });
    } catch (error) {
      if (!hasCode(error, "AlreadyExists")) throw error;
      return this.inodes.lookup(above.inode, name);
    }
  }

  async *#walkBelow(
    path: string,
    directory: InodeId,
  ): AsyncGenerator<{ path: string; status: FileStatus }> {
    for await (const { name, status } of this.inodes.list(directory)) {
      const below = path === "/" ? `/${name}` : `${path}/${name}`;
      yield { path: below, status };
      if (status.kind === "directory") yield* this.#walkBelow(below, status.inode);
    }
  }
}

/** Refuses what is no directory at a path that ends in a slash, as POSIX has it. */
function needDirectoryAt(path: string, { kind }: FileStatus): void {
  if (kind === "directory" || !path.endsWith("/")) return;
  const wanted = 'wanted a directory, since the path ends in "/"';
  throw new WeirError("NotDirectory", `Cannot use "${path}": it is a ${kind}, ${wanted}`);
}
