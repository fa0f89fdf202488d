/**
 * What a leader asks of a worker, and what comes back. Tasks ride on heartbeat replies (long polls), carry the leader's
 * term, and are idempotent: a worker may get one twice, or get one that another worker executes as well.
 */
import type { InodeId, LineageId, MountId, UfsOpId, WorkerId, WriteId } from "../lib/ids.ts";
import {
  appended,
  boolean,
  type Infer,
  list,
  name,
  optional,
  signed,
  struct,
  text,
  textMap,
  union,
  unsigned,
  word,
} from "../lib/schema.ts";
import { ufsEntry } from "./commands.ts";
import { extent, fileLayout, job, mountLayer, timestamp } from "./namespace.ts";

/** A mount with all its options: what a worker needs to open the store. Never shown, never logged. */
export const mountTarget = struct({
  id: unsigned<MountId>(),
  uri: text,
  readOnly: boolean,
  options: textMap,
  /** Of several stores as one, in order of priority. */
  layers: appended(list(mountLayer)),
  writeLayer: appended(text),
});
export type MountTarget = Infer<typeof mountTarget>;

/** The id in a task about a store that is not mounted (yet): a worker keeps nothing of it. */
export const unmountedId = 0 as MountId;

/** What is to become of the object of a file that lost its last name, while somebody may read it. */
const aside = struct({
  path: name,
  /** False: only where that costs no more than removing it. */
  must: boolean,
});

/**
 * How long a worker may go on with side effects on stores after it asked for the last heartbeat that a leader answered, as
 * a part of the silence after which masters count it as lost: what it was asked to do may then be given to another one.
 * The rest is for clocks that run apart, and for what a deposed leader takes to notice.
 */
export const effectLeasePart = 0.5;

/** A side effect on a store. Paths are below the mount's root, without a leading slash. */
export const ufsAction = union({
  /** Writes the file's bytes straight to the final key, with parents as needed. */
  persist: {
    path: name,
    layout: fileLayout,
    mode: unsigned(),
    uid: unsigned(),
    gid: unsigned(),
    mtime: timestamp,
  },
  /** The end of the persist is in the state: what its object replaced is needed no more. */
  forgetReplaced: { path: name, fingerprint: text },
  /** Removes an object, or a directory and all below it; missing is done. */
  delete: {
    path: name,
    /** Absent: whatever it is, as masters of an earlier version ask. */
    of: appended(word("file", "emptyDirectory", "tree")),
    /** Of a file: only an object that has it is removed. */
    fingerprint: appended(text),
    aside: appended(aside),
  },
  /** Moves an object or a tree; a missing source with a present target is done. `aside`: for what it replaces. */
  rename: {
    from: name,
    to: name,
    of: appended(word("file", "directory")),
    aside: appended(aside),
    /** What a file that is moved is known by, as of before. */
    fingerprint: appended(text),
  },
  mkdir: { path: name, mode: unsigned(), uid: unsigned(), gid: unsigned() },
  symlink: { path: name, target: name },
  /** Moves or copies an object between layers of a union, if it is the one with the fingerprint. */
  migrate: { path: name, from: text, to: text, keep: boolean, fingerprint: appended(text) },
  setAttributes: {
    path: name,
    mode: optional(unsigned()),
    uid: optional(unsigned()),
    gid: optional(unsigned()),
    mtime: optional(timestamp),
  },
});
export type UfsAction = Infer<typeof ufsAction>;

export const task = union({
  /** Lists a directory of a store, `after` a name (exclusive) where a page ended. */
  listDirectory: {
    taskId: unsigned(),
    mount: mountTarget,
    path: name,
    after: optional(name),
    limit: unsigned(),
    /** Asks for this one name alone, wherever it would stand in the listing. */
    only: appended(name),
  },
  ufsOp: { taskId: unsigned(), op: unsigned<UfsOpId>(), mount: mountTarget, action: ufsAction },
  runJob: {
    taskId: unsigned(),
    lineage: unsigned<LineageId>(),
    epoch: unsigned<WriteId>(),
    job,
    inputs: list(struct({ path: name, layout: fileLayout })),
    outputs: list(
      struct({
        path: name,
        inode: unsigned<InodeId>(),
        size: optional(unsigned()),
        hash: optional(text),
      }),
    ),
  },
  /** Drops containers that nothing names any more, or cached copies that `free` asked for (never kept ones). */
  dropContainers: {
    taskId: unsigned(),
    containers: list(struct({ inode: unsigned<InodeId>(), writeId: unsigned<WriteId>() })),
    /** Also when the worker keeps them: the committed state says that they are garbage. */
    kept: boolean,
  },
  /**
   * Puts bytes [from, to) of a file, which the layout has, together in the container of this write, on all workers of the
   * chain. Only for a worker that says `compacts`, the first one of the chain.
   */
  compact: {
    taskId: unsigned(),
    layout: fileLayout,
    writeId: unsigned<WriteId>(),
    from: unsigned(),
    to: unsigned(),
    chain: list(unsigned<WorkerId>()),
  },
});
export type Task = Infer<typeof task>;

export const taskResult = union({
  listed: {
    taskId: unsigned(),
    entries: list(ufsEntry),
    last: boolean,
    /** The answer is about `only`: a worker of an earlier version lists as ever. */
    only: appended(boolean),
    /** Where the next page begins, if that is not behind the last entry. */
    after: appended(name),
  },
  ufsDone: {
    taskId: unsigned(),
    op: unsigned<UfsOpId>(),
    fingerprint: optional(text),
    /** What was removed or replaced lies aside now. */
    aside: appended(boolean),
  },
  jobDone: {
    taskId: unsigned(),
    lineage: unsigned<LineageId>(),
    epoch: unsigned<WriteId>(),
    exitCode: signed,
    durationMs: unsigned(),
    /** The last part of standard error, for people. */
    stderrTail: text,
    /** Present if the exit code is 0: what the attempt wrote and this worker keeps. */
    outputs: optional(
      list(
        struct({ inode: unsigned<InodeId>(), size: unsigned(), hash: text, extents: list(extent) }),
      ),
    ),
  },
  dropped: { taskId: unsigned() },
  /** These workers have the whole container, and keep it. */
  compacted: { taskId: unsigned(), keepers: list(unsigned<WorkerId>()) },
  failed: {
    taskId: unsigned(),
    code: text,
    message: text,
    /** A side effect hangs in the store, and may yet happen: it is among the worker's `ending` until it ended. */
    goesOn: appended(boolean),
  },
});
export type TaskResult = Infer<typeof taskResult>;

/** A container as a worker holds it: a contiguous set of blocks in one of its tiers. */
export const containerReport = struct({
  inode: unsigned<InodeId>(),
  writeId: unsigned<WriteId>(),
  /** Indexes of the blocks that are whole there. */
  blocks: list(unsigned()),
  /** The worker holds it as its duty and does not evict it, until a leader releases it or has it dropped. */
  kept: optional(boolean),
  /** Of one that was written here, not loaded from a store: bytes that are there from its start on. */
  length: optional(unsigned()),
});
export type ContainerReport = Infer<typeof containerReport>;

/** A mount whose store does not answer a worker: for how long, and what its last call came to. */
export const unhealthyMount = struct({
  mount: unsigned<MountId>(),
  forMs: unsigned(),
  reason: text,
  /** It is about this layer alone: what the others have is reached. */
  layer: appended(text),
});
export type UnhealthyMount = Infer<typeof unhealthyMount>;

export const heartbeat = struct({
  worker: unsigned<WorkerId>(),
  /** Random per start of the process. */
  incarnation: text,
  /** Counts reports of this incarnation towards this master, from 0; a gap asks for a full report. */
  sequence: unsigned(),
  /** The first report of an incarnation is full, in as many pages as needed. */
  full: boolean,
  /** Containers as they are now (all their blocks), that changed since the report before. */
  changed: list(containerReport),
  /** Containers that are gone. */
  removed: list(struct({ inode: unsigned<InodeId>(), writeId: unsigned<WriteId>() })),
  usedBytes: list(unsigned()),
  /** How many tasks the worker can take now. */
  freeSlots: unsigned(),
  /** The reply may be held back so long when there is nothing to do. */
  waitMs: unsigned(),
  /** With this report the master has been told everything, up to when it was made: no page of it follows. */
  complete: optional(boolean),
  /** False: the worker takes no `runJob`. */
  jobs: optional(boolean),
  /** Mounts whose stores do not answer the worker now. */
  unhealthy: appended(list(unhealthyMount)),
  /** The latest term of a leader that the worker follows. Absent: of an earlier version. */
  term: appended(unsigned()),
  /** Side effects that have not ended here yet, and whose results nobody waits for: of earlier terms, or hanging. */
  ending: appended(list(unsigned<UfsOpId>())),
  /** The worker knows the task `compact`. */
  compacts: appended(boolean),
});

export const heartbeatReply = struct({
  term: unsigned(),
  /** Only the leader's tasks count. */
  leader: boolean,
  appliedIndex: unsigned(),
  tasks: list(task),
  /** The master does not know the reports before: start over with a full one. */
  resync: boolean,
  /** The worker is unknown or was declared lost: register (again). */
  register: boolean,
  /**
   * Of the containers reported as kept: those that are no duty of this worker by the committed state at `appliedIndex`,
   * since they are persisted or kept by others. The worker may evict them from now on. Only the leader says so; workers
   * report what they keep again and again.
   */
  released: optional(list(struct({ inode: unsigned<InodeId>(), writeId: unsigned<WriteId>() }))),
  /** RPC addresses of the masters, as far as this one knows: the worker reports to all of them. */
  masters: optional(list(text)),
  /** Which of them is this one, which the worker may know by another name of its host. */
  ownAddress: optional(text),
  /** See `effectLeasePart`. Only of a leader. */
  effectLeaseMs: appended(unsigned()),
  /** Tasks of this worker that are to be ended; said again until their results came. */
  cancelled: appended(list(unsigned())),
});
export type HeartbeatReply = Infer<typeof heartbeatReply>;
