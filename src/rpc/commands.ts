/**
 * The commands that change the replicated state, and their results. Clients send the first group, the leader itself
 * proposes the second. All refer to directories by inode and name, so that applying one needs no path walk and means
 * the same whatever was renamed meanwhile.
 */
import { knownCode, WeirError } from "../lib/errors.ts";
import type {
  InodeId,
  LineageId,
  MountId,
  SessionId,
  TreeOpId,
  UfsOpId,
  WorkerId,
  WriteId,
} from "../lib/ids.ts";
import { unfit } from "../lib/msgpack.ts";
import {
  appended,
  boolean,
  bytes,
  type Infer,
  list,
  name,
  optional,
  type Schema,
  signed,
  struct,
  text,
  textMap,
  union,
  unsigned,
  word,
} from "../lib/schema.ts";
import {
  caller,
  extent,
  fileKind,
  fileStatus,
  job,
  lineageInput,
  medium,
  mountLayer,
  migration,
  timestamp,
  treeChange,
  writeType,
} from "./namespace.ts";
import { pathPolicy, policyKey } from "./path-policy.ts";

const inode = unsigned<InodeId>();
const writeId = unsigned<WriteId>();
const workerId = unsigned<WorkerId>();
const lineageId = unsigned<LineageId>();

/** What a listing of a store says of one name. */
export const ufsEntry = struct({
  name,
  kind: fileKind,
  size: unsigned(),
  mode: unsigned(),
  uid: unsigned(),
  gid: unsigned(),
  mtime: timestamp,
  fingerprint: text,
  target: optional(name),
});
export type UfsEntry = Infer<typeof ufsEntry>;

/** Most names in one `expire`. */
export const maxExpired = 250;

/** Most reads in one `touchAtimes`. */
export const maxAtimes = 500;

/** Most containers in one `keeperGone`. */
export const maxKeeperGone = 500;

/** Most names that one `stepTreeOp` is about. */
export const maxTreeStep = 200;

/** An output as an attempt wrote it: extents of the container (output inode, epoch). */
export const attemptOutput = struct({ inode, size: unsigned(), hash: text, extents: list(extent) });

const clientCommands = {
  // Names
  /** Makes a name. `lease` takes the write lease with it (files). `exclusive: false` returns an existing file instead. */
  create: {
    parent: inode,
    name,
    fileKind,
    mode: unsigned(),
    uid: unsigned(),
    gid: unsigned(),
    target: optional(name),
    lease: boolean,
    exclusive: boolean,
    writeType: optional(writeType),
    /** Of a device node: major · 2^32 + minor. */
    rdev: appended(unsigned()),
    /** Bits that are taken from `mode`, unless the directory has a default access control list. */
    umask: appended(unsigned()),
  },
  link: { inode, parent: inode, name },
  /** `held`: the client has the file open and will `release` it; its data outlives the name until then. */
  unlink: { parent: inode, name, held: boolean },
  rmdir: { parent: inode, name },
  /** Removes a name and all below it: the edge moves to the trash now, the rest is reaped in the background. */
  deleteTree: { parent: inode, name },
  /** rename(2) within one mount. `noReplace` refuses an existing target, `exchange` has the two change places. */
  rename: {
    sourceParent: inode,
    sourceName: name,
    targetParent: inode,
    targetName: name,
    noReplace: boolean,
    exchange: appended(boolean),
  },

  // Attributes
  setAttributes: {
    inode,
    mode: optional(unsigned()),
    uid: optional(unsigned()),
    gid: optional(unsigned()),
    atime: optional(timestamp),
    mtime: optional(timestamp),
    /** Both times become that of the entry, which whoever may write the inode may ask for; in the place of given ones. */
    touch: appended(boolean),
  },
  /**
   * Reads, told late and together, how long ago each was: an access time follows by the rule of relatime in mount(8), if it
   * lags behind the other two or by a day. At most `maxAtimes`; what is not there, or must not change, is passed over.
   */
  touchAtimes: { reads: list(struct({ inode, agoMs: unsigned() })) },
  /**
   * Changes an inode, and in the background everything below it; who asks must be allowed to change the inode itself, and
   * is asked about each one below when it is its turn. Result: the inode's status, and in `id` the operation.
   */
  startTreeOp: { inode, change: treeChange },
  /** What it has not done yet stays as it is; one that has ended is fine. */
  cancelTreeOp: { treeOp: unsigned<TreeOpId>() },
  /** setxattr(2): `create` refuses an attribute that is there, `replace` one that is not. */
  setXattr: { inode, name, value: bytes, how: word("set", "create", "replace") },
  removeXattr: { inode, name },

  // Policies
  /** Sets the keys that `policy` has, for a file, or a directory and what is below. */
  setPathPolicy: { inode, policy: pathPolicy },
  /** Takes the keys away; without any, all. */
  clearPathPolicy: { inode, keys: list(policyKey) },

  /**
   * Takes the present wall time and cluster time as right ones together, for times to live; refused where one of them has
   * moved much further than the other, unless the superuser says `accept`. The leader proposes it by itself too.
   */
  setTtlClock: { accept: boolean },

  // Content
  /** Changes the size alone; refused with `LeaseConflict` while another session holds the write lease. */
  truncate: { inode, size: unsigned() },
  /** Takes the write lease, or answers with the one that this session holds. */
  lease: { inode },
  /**
   * Publishes what was written under the lease as the next version: extents replace what they overlap, the file gets
   * `size`. `keepers` hold the container (inode, writeId) until the version is persisted.
   */
  commit: {
    inode,
    writeId,
    baseVersion: unsigned(),
    size: unsigned(),
    extents: list(extent),
    keepers: list(workerId),
    mtime: optional(timestamp),
    /** Ends the lease; by the write type this queues the persist. */
    release: boolean,
  },
  releaseLease: { inode, writeId },
  /**
   * Holds a version of a file that the client has open, and the file beyond its last name: for what it learns that others
   * have overwritten, cut or unlinked. Before, `retiredGraceMs` keeps what is needed.
   */
  retain: { inode, version: unsigned() },
  /** Ends the session's holds of a file; with a version that of the version alone. */
  release: { inode, version: appended(unsigned()) },
  /** Queues the write of the present version to the under storage. */
  persist: { inode },

  // Side effects on stores
  /** Has an operation tried again that was given up. For the superuser. */
  retryEffect: { op: unsigned<UfsOpId>() },
  /**
   * Forgets an operation that was given up; the store keeps what it has. What was to be deleted is shown again when its
   * directory is loaded anew, a file stays un-persisted until it is written again. For the superuser.
   */
  discardEffect: { op: unsigned<UfsOpId>() },

  // Mounts
  mount: {
    parent: inode,
    name,
    uri: text,
    readOnly: boolean,
    options: textMap,
    /** False: only its owner and the superuser may enter. Absent: whom the modes let in. */
    shared: appended(boolean),
    /** Of a mount that is not shared. Absent: the superuser. */
    owner: appended(struct({ uid: unsigned(), gid: unsigned() })),
    /** Another mount may have the same store or a part of it: who asks knows that neither sees the changes of the other. */
    overlap: appended(boolean),
    /** Several stores under one path, in order of priority; `uri` and `options` mean nothing then. */
    layers: appended(list(mountLayer)),
    /** Name of the layer that takes what is written. Absent: nothing is. */
    writeLayer: appended(text),
  },
  /**
   * Refused while something below is in no store. `force`: not then; the mount's queued changes that are given up with it, a
   * thousand at most. Result: `id` how many others wait, while which it stays mounted.
   */
  unmount: { parent: inode, name, force: appended(list(unsigned<UfsOpId>())) },
  /** Changes what is given of a mount; what is queued for its store goes on with that. `unset` takes options away. */
  updateMount: {
    mount: unsigned<MountId>(),
    set: textMap,
    unset: list(text),
    readOnly: optional(boolean),
    shared: optional(boolean),
    overlap: optional(boolean),
    /** All layers, in the order that they are to have; of a known name what is not given stays. */
    layers: appended(
      list(
        struct({
          name: text,
          uri: optional(text),
          readOnly: optional(boolean),
          set: textMap,
          unset: list(text),
        }),
      ),
    ),
  },
  /**
   * Makes a data policy for what is below a directory, or changes the one of that name; what it waits for to run again
   * begins anew. Result: `id` is the policy.
   */
  setDataPolicy: { name: text, inode, migration, everyMs: optional(unsigned()) },
  /** A run that is under way is cancelled. */
  deleteDataPolicy: { name: text },
  /** Starts a run, or a trial. Result: `id` is the operation. */
  runDataPolicy: { name: text, isTrial: boolean },

  // Lineage
  /** Makes missing outputs as empty files that the lineage owns, all or none. */
  recordLineage: {
    inputs: list(lineageInput),
    outputs: list(struct({ path: name, parent: inode, name })),
    job,
    uid: unsigned(),
    gid: unsigned(),
  },
  deleteLineage: { lineage: lineageId },
} as const;

const leaderCommands = {
  // Sessions
  /** The result's `id` is the session. */
  openSession: { clientName: text, timeoutMs: unsigned() },
  /** Extends the named sessions to now + their timeout (cluster time). Batched. */
  touchSessions: { sessions: list(unsigned<SessionId>()) },
  /** Ended by its client, or expired: bounded, repeated by the leader until `more` is false (`id` 0). */
  closeSession: { session: unsigned<SessionId>() },

  // Workers
  /** Binds a uuid to an id (the result's `id`) and makes a lost worker live again. */
  registerWorker: {
    uuid: text,
    host: text,
    address: text,
    tiers: list(struct({ medium, quotaBytes: unsigned() })),
  },
  workerLost: { worker: workerId },
  /**
   * The worker no longer has containers that it was to keep, or not all that was committed of them: it is no keeper of
   * them from now on. At most `maxKeeperGone`; those that are being written are passed over.
   */
  keeperGone: { worker: workerId, containers: list(struct({ inode, writeId })) },

  // Stores
  /** Names below a directory, as listed at `listedAtIndex`; names changed since are left alone. `last`: now complete. */
  loadPage: {
    directory: inode,
    entries: list(ufsEntry),
    listedAtIndex: unsigned(),
    last: boolean,
    /** Names, as they were known here, that the store does not have any more; what it may not know of yet stays. */
    missing: appended(list(struct({ name, inode }))),
    /** Cluster time at which the listing of the directory began: with `last`, what the directory reflects from now on. */
    startedAtMs: appended(unsigned()),
  },
  /** A side effect on a store was executed; `error`: it was given up and is forgotten. */
  ufsDone: {
    op: unsigned<UfsOpId>(),
    fingerprint: optional(text),
    error: optional(text),
    /** What was removed or replaced lies aside now. */
    aside: appended(boolean),
  },
  /** A side effect on a store is given up for now: the store refuses it for what it is. */
  ufsFailed: { op: unsigned<UfsOpId>(), error: text, attempts: unsigned() },

  // Lineage
  /** Starts an attempt if none is under way; the result's `writeId` is its epoch. */
  startAttempt: { lineage: lineageId, worker: workerId },
  commitAttempt: {
    lineage: lineageId,
    epoch: writeId,
    worker: workerId,
    outputs: list(attemptOutput),
    durationMs: unsigned(),
  },
  failAttempt: {
    lineage: lineageId,
    epoch: writeId,
    exitCode: optional(signed),
    error: text,
    durationMs: unsigned(),
    /** The worker or the leader went away, it is no fault of the job: does not count towards the cap. */
    blameless: boolean,
    /** The leader gives up: the lineage is `failed` until it is reset. Otherwise it may be tried again. */
    final: optional(boolean),
  },
  /** Lets a failed lineage try again. */
  resetLineage: { lineage: lineageId },

  // Mounts
  /**
   * In the place of a client's `mount` or `updateMount`, in its request and under its sequence: the store could not be read. The result is
   * this refusal, so that every copy of the request gets it; its code is kept as it is sent. See `sinceVersion`.
   */
  refuseMount: { code: text, detail: text },

  // Leases
  /** The holder of a recalled lease did not let it go in time: it is over. */
  fenceLease: { inode, writeId },

  // Background
  /** Forgets retired content whose grace is over; bounded by the number of keys. */
  reapGarbage: { keys: list(name) },
  /**
   * The next names of a directory that an operation on a tree has come to: those behind `after`, where it stands, in byte
   * order, at most `maxTreeStep`. `last`: no more are known; `error`: its names could not be read, it is given up.
   */
  stepTreeOp: {
    treeOp: unsigned<TreeOpId>(),
    directory: inode,
    after: optional(name),
    names: list(name),
    /** The last name that was looked at; of a migration only those that are to go, and directories, are in `names`. */
    upTo: optional(name),
    scanned: unsigned(),
    last: boolean,
    error: optional(text),
  },
  /** Takes up to a bounded number of extents away that count no more. Result: `id` 1 while more is to do. */
  clearExtents: { inode, generation: unsigned() },
  /**
   * Bytes [from, to) of a file that has very many small extents are to be put together, on a worker that is to read them
   * from now on. The result's `writeId` names the container; it is over when one of these bytes changes.
   */
  startCompaction: { inode, from: unsigned(), to: unsigned() },
  /** The container has the bytes of the range from its start on, at these keepers, and takes the place of what is there. */
  compactContent: { inode, writeId, keepers: list(workerId) },
  /**
   * The container is not to be made. Without a write id: nothing of the file is to be put together for now, as it was at
   * `version`; `Stale` when it has another one.
   */
  endCompaction: { inode, writeId: optional(writeId), version: appended(unsigned()) },
  /** Takes up to a bounded number of names out of a directory in the trash. */
  reapTrash: { directory: inode, names: list(name) },
  /** Counts inodes [from, to), at most 1,000, that were made before totals were kept; `id` 1: there are more. */
  countUsage: { from: inode, to: inode },
  /**
   * Removes those of the names, at most `maxExpired`, whose time to live is over by then and that nobody uses: files, and
   * directories that have become empty. Result: `id` is how many there were.
   */
  expire: { directory: inode, names: list(name) },

  // Cluster
  /** The first command of a cluster: its identity, its block size for ever, and the mount of "/". */
  bootstrap: {
    clusterId: text,
    clusterName: text,
    blockSizeBytes: unsigned(),
    rootUri: text,
    rootOptions: textMap,
    uid: unsigned(),
    gid: unsigned(),
  },
  /** All members know the state as of this level; it never goes back. See `levelOf`. */
  raiseLevel: { level: unsigned() },
} as const;

/**
 * Commands that came later, and the version of the protocol between masters whose nodes can decode them. Who leads writes
 * one only when `RaftNode.oldestVersion` says that all members can.
 */
export const sinceVersion = { refuseMount: 3, raiseLevel: 4 } as const satisfies Partial<
  Record<keyof typeof leaderCommands, number>
>;

/**
 * The newest level of the state. A state begins at level 1, and `raiseLevel` raises it once all members speak the version
 * of the protocol that came with the level: from there on commands may do what masters before would not have done alike.
 */
export const newestLevel = 2;

export const clientCommand = union(clientCommands);
export type ClientCommand = Infer<typeof clientCommand>;

export const command = union({ ...clientCommands, ...leaderCommands });
export type Command = Infer<typeof command>;

const sinceLevel: Partial<Record<Command["kind"], number>> = {
  startTreeOp: 2,
  cancelTreeOp: 2,
  stepTreeOp: 2,
  touchAtimes: 2,
  setXattr: 2,
  removeXattr: 2,
  updateMount: 2,
  clearExtents: 2,
  retain: 2,
  countUsage: 2,
  setPathPolicy: 2,
  setTtlClock: 2,
  expire: 2,
  clearPathPolicy: 2,
  retryEffect: 2,
  discardEffect: 2,
  ufsFailed: 2,
  fenceLease: 2,
  setDataPolicy: 2,
  deleteDataPolicy: 2,
  runDataPolicy: 2,
  startCompaction: 2,
  compactContent: 2,
  endCompaction: 2,
};

/** The level that the state must have for a command: by its kind, or by a field that it has. */
export function levelOf(of: Command): number {
  if (of.kind === "create" && (of.rdev !== undefined || of.umask !== undefined)) return 2;
  if (of.kind === "mount" && (of.shared ?? of.owner ?? of.overlap ?? of.layers) !== undefined)
    return 2;
  if (of.kind === "unmount" && of.force !== undefined) return 2;
  if (of.kind === "release" && of.version !== undefined) return 2;
  if (of.kind === "setAttributes" && of.touch !== undefined) return 2;
  if (of.kind === "ufsDone" && of.aside !== undefined) return 2;
  if (of.kind === "loadPage" && (of.missing ?? of.startedAtMs) !== undefined) return 2;
  if (of.kind === "rename" && of.exchange !== undefined) return 2;
  return sinceLevel[of.kind] ?? 1;
}

/** One client request: all its commands in order, under one sequence number. */
export const request = struct({
  /** 0: from the leader itself; such commands are idempotent by their meaning. */
  session: unsigned<SessionId>(),
  sequence: unsigned(),
  /** The client has the answers of all sequences below. */
  acknowledgedBelow: unsigned(),
  /** All commands or none: the first failure undoes those before it. */
  atomic: boolean,
  commands: list(command),
  /** Absent: the superuser. The leader leaves it away below level 2, when members may not know it. */
  caller: appended(caller),
});
export type Request = Infer<typeof request>;

/** What one log entry carries. */
export const entryPayload = struct({
  /** The cluster's own time in milliseconds, never less than in the entry before. */
  clusterTimeMs: unsigned(),
  /** The leader's wall time; apply keeps it from going back. */
  wallTime: timestamp,
  requests: list(request),
});
export type EntryPayload = Infer<typeof entryPayload>;

/** What a command did. The meaning of `id` and `writeId` is said at each command. */
export type CommandResult =
  | {
      readonly ok: true;
      readonly status?: Infer<typeof fileStatus> | undefined;
      readonly writeId?: WriteId | undefined;
      readonly id?: number | undefined;
    }
  | {
      readonly ok: false;
      /** An `ErrorCode` of some version: it stays as it was written, or states of two versions would come to differ. */
      readonly code: string;
      readonly detail: string;
    };

const optionalStatus = optional(fileStatus);
const optionalCount = optional(unsigned());
const doneFields = struct({
  status: optionalStatus,
  writeId: optional(writeId),
  id: optionalCount,
});

export const commandResult: Schema<CommandResult> = {
  toWire: (result) =>
    result.ok ? doneFields.toWire({ ...noFields, ...result }) : [result.code, result.detail],
  fromWire: (wire, at) => {
    if (Array.isArray(wire) && typeof wire[0] === "string") {
      return { ok: false, code: wire[0], detail: String(wire[1]) };
    }
    return { ok: true, ...doneFields.fromWire(wire, at) };
  },
  write: (writer, result) => {
    if (result.ok) {
      writer.list(3);
      optionalStatus.write(writer, result.status);
      optionalCount.write(writer, result.writeId);
      optionalCount.write(writer, result.id);
    } else {
      writer.list(2);
      writer.text(result.code);
      writer.text(result.detail);
    }
  },
  read: (reader) => {
    const length = reader.list();
    if (length === 2 && reader.isText) {
      const code = reader.text();
      return { ok: false, code, detail: reader.text() };
    }
    if (length !== 3) throw unfit;
    const status = optionalStatus.read(reader);
    const id = optionalCount.read(reader);
    return {
      ok: true,
      status,
      writeId: id as WriteId | undefined,
      id: optionalCount.read(reader),
    };
  },
  weigh: (result) =>
    result.ok ? 100 + optionalStatus.weigh(result.status) : 100 + result.detail.length,
};

const noFields = { status: undefined, writeId: undefined, id: undefined };

/** The result's value, or its error: `doing` opens the message, as in `Cannot rename "/a" to "/b"`. */
export function unwrap(result: CommandResult, doing: string): Extract<CommandResult, { ok: true }> {
  if (result.ok) return result;
  throw new WeirError(knownCode(result.code), `${doing}: ${result.detail}`);
}
