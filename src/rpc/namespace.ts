/**
 * The values of the namespace as clients, workers and masters exchange them: attributes, extents, mounts, workers,
 * jobs. Names and paths are latin1 strings, one character per byte.
 */
import type {
  DataPolicyId,
  InodeId,
  LineageId,
  MountId,
  TreeOpId,
  WorkerId,
  WriteId,
} from "../lib/ids.ts";
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
import { modeChange } from "./mode-change.ts";

/** A point in time: seconds since 1970 (may be negative) and nanoseconds [0, 1e9). */
export const timestamp = struct({ sec: signed, nsec: unsigned() });
export type Timestamp = Infer<typeof timestamp>;

export const fileKind = word(
  "file",
  "directory",
  "symlink",
  "fifo",
  "socket",
  "charDevice",
  "blockDevice",
);
export type FileKind = Infer<typeof fileKind>;

/** How a write becomes durable; the table of write types in docs/ARCHITECTURE.md says what each survives. */
export const writeType = word("MUST_CACHE", "ASYNC_THROUGH", "CACHE_THROUGH", "THROUGH");
export type WriteType = Infer<typeof writeType>;

/**
 * Whether the under storage holds the file: `none` (never asked), `pending` (a persist is queued for a version that is
 * not there yet), `persisted` (it holds exactly `version`).
 */
export const persistence = word("none", "pending", "persisted");
export type Persistence = Infer<typeof persistence>;

/**
 * Who asks: what the kernel or the client says of the process behind a call. Absent where a value of it is optional: the
 * superuser.
 */
export const caller = struct({
  uid: unsigned(),
  gid: unsigned(),
  /** Further groups, at most `maxGroups`. */
  groups: list(unsigned()),
});
export type Caller = Infer<typeof caller>;

/** Most further groups of a caller: what Linux takes. */
export const maxGroups = 65_536;

/** What is done to every inode of a tree; what is absent stays as it is. */
export const treeChange = struct({
  mode: optional(modeChange),
  uid: optional(unsigned()),
  gid: optional(unsigned()),
});
export type TreeChange = Infer<typeof treeChange>;

/** Which files of a union mount go from one of its layers to another. What is absent excludes nothing. */
export const migration = struct({
  /** Names of layers. */
  from: text,
  to: text,
  /** It is copied: the layer that it comes from keeps it. */
  keep: boolean,
  /** Its content was last modified longer ago than that. */
  olderThanMs: optional(unsigned()),
  /** Its path below the directory of the policy fits this pattern (lib/glob.ts). */
  pattern: optional(name),
  atLeastBytes: optional(unsigned()),
});
export type Migration = Infer<typeof migration>;

/** What is done below a directory in the background. */
export const treeWork = union({
  change: { change: treeChange },
  /** A run of a data policy; of a trial nothing comes but its figures. */
  migrate: {
    policy: unsigned<DataPolicyId>(),
    migration,
    isTrial: boolean,
    /** Last modified within (after, before], as far as they are there: decided when the run began. */
    after: optional(timestamp),
    before: optional(timestamp),
  },
});
export type TreeWork = Infer<typeof treeWork>;

/** `running`: some of its directories are still to be done; `cancelled`: what was done by then stays done. */
export const treeOpState = word("running", "done", "cancelled");

/** Something below a tree that an operation on it could not do. */
export const treeFailure = struct({ path: name, code: text, detail: text });

const treeProgress = {
  state: treeOpState,
  /** Inodes that were changed or moved, and those that could not be. */
  done: unsigned(),
  failed: unsigned(),
  /** The first few failures. */
  failures: list(treeFailure),
  /** Of a migration: names that were looked at, files that are to go, and their bytes. */
  scanned: unsigned(),
  matched: unsigned(),
  matchedBytes: unsigned(),
  /** Of a trial: the first few paths that would go. */
  samples: list(name),
} as const;

/** An operation on a whole tree. */
export const treeOpInfo = struct({
  id: unsigned<TreeOpId>(),
  /** As of now; absent when the tree has left the namespace. */
  path: optional(name),
  work: treeWork,
  caller: optional(caller),
  startedAt: timestamp,
  /** Directories that are known and not finished yet. */
  openDirectories: unsigned(),
  /** Files that are on their way between stores. */
  pendingFiles: unsigned(),
  ...treeProgress,
});
export type TreeOpInfo = Infer<typeof treeOpInfo>;

/** The option of a mount that says how old what is known of its store may get, in milliseconds; -1: as old as it likes. */
export const syncIntervalOption = "syncIntervalMs";

/** A run of a data policy that has ended. */
export const dataPolicyRun = struct({
  treeOp: unsigned<TreeOpId>(),
  isTrial: boolean,
  startedAt: timestamp,
  endedAt: timestamp,
  ...treeProgress,
});
export type DataPolicyRun = Infer<typeof dataPolicyRun>;

/** A rule by which files of a union mount go from one of its layers to another. */
export const dataPolicyInfo = struct({
  id: unsigned<DataPolicyId>(),
  name: text,
  /** Of the directory that it is about; absent when that has left the namespace. */
  path: optional(name),
  migration,
  /** It runs by itself, so often; absent: when it is asked for. */
  everyMs: optional(unsigned()),
  nextRunAt: optional(timestamp),
  /** The run under way. */
  running: optional(unsigned<TreeOpId>()),
  /** Ended runs, the oldest first, at most 20. */
  runs: list(dataPolicyRun),
});
export type DataPolicyInfo = Infer<typeof dataPolicyInfo>;

/** What `stat` returns of one inode. */
export const fileStatus = struct({
  inode: unsigned<InodeId>(),
  kind: fileKind,
  /** Permission bits with setuid, setgid and sticky: 0 … 0o7777; the type is `kind`. */
  mode: unsigned(),
  uid: unsigned(),
  gid: unsigned(),
  /** Bytes of content; of a directory the number of its entries, of a link the length of its target. */
  size: unsigned(),
  nlink: unsigned(),
  atime: timestamp,
  mtime: timestamp,
  ctime: timestamp,
  /** Raised by each commit of content: equal versions of one inode have equal bytes. */
  version: unsigned(),
  mountId: unsigned<MountId>(),
  persistence,
  /** Of a directory: whether its names below have been loaded. */
  loaded: boolean,
  /** Target of a symbolic link. */
  target: optional(name),
  /** The lineage that makes this file. */
  lineageId: optional(unsigned<LineageId>()),
  writeType: optional(writeType),
  /** The directory is the root of a mount. */
  mountPoint: boolean,
  /** Of a device node: major · 2^32 + minor. */
  rdev: appended(unsigned()),
  /** It has an access control list beyond its mode: who looks at the mode alone cannot decide who may do what. */
  hasAcl: appended(boolean),
  /** In the answer that gives a write lease: how many workers are to keep what is written, where a policy says so. */
  keepers: appended(unsigned()),
  /** It has extended attributes: of all others nobody needs to ask for one. */
  hasXattrs: appended(boolean),
});
export type FileStatus = Infer<typeof fileStatus>;

/** What a total of bytes has beyond this is counted apart, in so many of it: a number is exact below twice as much alone. */
export const usageCarryBytes = 2 ** 52;

/**
 * What lies below a directory, at any depth: each inode once, in the directory of its first name. The directory itself
 * is not among it; what is mounted below is.
 */
export const usage = struct({
  /** Bytes of the files' content, holes included; `bytesAbove` counts the rest. */
  bytes: unsigned(),
  /** Of those, the bytes of files whose present version their store does not have. */
  unpersistedBytes: unsigned(),
  /** Inodes that are no directories. */
  files: unsigned(),
  directories: unsigned(),
  /** Of those, directories whose names in their store are not known yet: what lies below them is missing here. */
  unloadedDirectories: unsigned(),
  /** Times `usageCarryBytes`, of `bytes` and of `unpersistedBytes`. */
  bytesAbove: appended(unsigned()),
  unpersistedBytesAbove: appended(unsigned()),
});
export type Usage = Infer<typeof usage>;

/** A total in one piece, rounded from 2^53 bytes on. */
export function wholeUsage(of: Usage): Usage {
  const { bytes, unpersistedBytes, files, directories, unloadedDirectories } = of;
  return {
    bytes: (of.bytesAbove ?? 0) * usageCarryBytes + bytes,
    unpersistedBytes: (of.unpersistedBytesAbove ?? 0) * usageCarryBytes + unpersistedBytes,
    files,
    directories,
    unloadedDirectories,
  };
}

/** Of a directory what lies below it; of anything else what it is by itself. */
export const inodeUsage = struct({
  inode: unsigned<InodeId>(),
  usage,
  /** False: something below is not known yet, or was not counted yet. */
  complete: boolean,
});
export type InodeUsage = Infer<typeof inodeUsage>;

/** What may lie below a directory; a part that is absent is not limited. */
export const quota = struct({
  bytes: optional(unsigned()),
  /** Files and directories together. */
  inodes: optional(unsigned()),
});
export type Quota = Infer<typeof quota>;

/**
 * A range of a file that lies in one block: `length` bytes at `fileOffset` are at `offset` in block `blockIndex` of the
 * container (inode, writeId). No extent crosses a block boundary: offset + length ≤ the block size.
 */
export const extent = struct({
  fileOffset: unsigned(),
  length: unsigned(),
  writeId: unsigned<WriteId>(),
  blockIndex: unsigned(),
  offset: unsigned(),
});
export type Extent = Infer<typeof extent>;

/** A block: bytes [blockIndex × blockSize, …) of the container `<inode>.<writeId>`. */
export const blockId = struct({
  inode: unsigned<InodeId>(),
  writeId: unsigned<WriteId>(),
  blockIndex: unsigned(),
});
export type BlockId = Infer<typeof blockId>;

/** An object of a store, in the state in which it was listed or written. */
export const ufsObject = struct({
  mountId: unsigned<MountId>(),
  /** Path below the root of the mount, without a leading slash. */
  path: name,
  /** What tells one content from another: etag and version of an object; size, mtime and inode of a local file. */
  fingerprint: text,
  /**
   * Byte o of block i of the container of this write lies at i · block size + o of the object. Only blocks of this write
   * may be read there: others of the same file were written later and are not in the store yet.
   */
  writeId: unsigned<WriteId>(),
});
export type UfsObject = Infer<typeof ufsObject>;

/** A stretch of a file as a reader sees it, and the workers that have it: all, in the order to prefer. */
export const segment = struct({
  fileOffset: unsigned(),
  length: unsigned(),
  /** Absent: a hole, which reads as zeros. */
  block: optional(
    struct({
      writeId: unsigned<WriteId>(),
      blockIndex: unsigned(),
      /** Where the segment's first byte lies in the block. */
      offset: unsigned(),
      /** Length of the whole block in bytes. */
      length: unsigned(),
    }),
  ),
  /** Keepers and known cached copies. */
  locations: list(unsigned<WorkerId>()),
});
export type Segment = Infer<typeof segment>;

/** Where a file's bytes are, at one version. */
export const fileLayout = struct({
  status: fileStatus,
  blockSizeBytes: unsigned(),
  segments: list(segment),
  /** The store's object in which any worker can read missing blocks of the write that it names, at equal offsets. */
  ufs: optional(ufsObject),
  /** False: workers are not to keep what is read from the store for this reader. */
  cache: appended(boolean),
  /** Of bytes from here on nothing is said, though they were asked for. Absent: it has all that were. */
  end: appended(unsigned()),
});
export type FileLayout = Infer<typeof fileLayout>;

/**
 * The fingerprint of the object at `path`, if the file is to be written there from parts of that same object. Once it is
 * replaced, and as long as the state does not know, the write can be repeated only from what was replaced.
 */
export function replacedSource(layout: FileLayout, path: string): string | undefined {
  const { ufs, segments } = layout;
  if (ufs === undefined || ufs.path !== path) return undefined;
  const isRead = segments.some(({ block }) => block?.writeId === ufs.writeId);
  return isRead ? ufs.fingerprint : undefined;
}

export const medium = word("MEM", "SSD", "HDD");
export type Medium = Infer<typeof medium>;

export const tierUsage = struct({ medium, quotaBytes: unsigned(), usedBytes: unsigned() });
export type TierUsage = Infer<typeof tierUsage>;

/** `lost`: silent for longer than the grace; its copies count no more until it comes back. */
export const workerState = word("live", "lost");

export const workerInfo = struct({
  id: unsigned<WorkerId>(),
  /** Random, made at the worker's first start, kept in its first tier. */
  uuid: text,
  /** For people only: nothing is decided by it. */
  host: text,
  /** Address of the worker's control RPC, `host:port`. */
  address: text,
  state: workerState,
  tiers: list(tierUsage),
  /** Milliseconds since the answering master heard of it; large when it never did. */
  silentMs: unsigned(),
});
export type WorkerInfo = Infer<typeof workerInfo>;

/** One of several stores under one path. */
export const mountLayer = struct({
  name: text,
  uri: text,
  readOnly: boolean,
  options: textMap,
});
export type MountLayer = Infer<typeof mountLayer>;

/** A mount as clients see it: credentials never leave the masters and workers. */
export const mountInfo = struct({
  id: unsigned<MountId>(),
  path: name,
  /** `file:///dir` or `s3://bucket/prefix`. */
  uri: text,
  readOnly: boolean,
  /** Options without credentials. */
  options: textMap,
  /** False: only who mounted it and the superuser may enter. A master of an earlier version does not say it. */
  shared: appended(boolean),
  /** Changes that are not in the store yet. */
  pendingOps: appended(unsigned()),
  /** Workers that get no answer from the store now, since how long, and what their last call came to. */
  unhealthy: appended(
    list(
      struct({
        worker: unsigned<WorkerId>(),
        forMs: unsigned(),
        reason: text,
        /** It is about this one alone. */
        layer: appended(text),
      }),
    ),
  ),
  /** Of several stores under one path, in order of priority; options without credentials. */
  layers: appended(list(mountLayer)),
  /** Name of the layer that takes what is written. */
  writeLayer: appended(text),
});
export type MountInfo = Infer<typeof mountInfo>;

/** A program that makes files. */
export const job = struct({
  /**
   * Program and arguments, run without a shell. `{in}`, `{out}` and `{in:N}`, `{out:N}` (N from 0) stand for the paths at
   * which the job finds its inputs and must write its outputs; the environment has them as WEIR_IN_0, WEIR_OUT_0, ….
   */
  argv: list(text),
  environment: textMap,
  /** The job fails when it takes longer. */
  timeoutMs: unsigned(),
  /** Standard output becomes output 0 (for programs that only write there, such as `gzip -c`). */
  captureStdout: boolean,
});
export type Job = Infer<typeof job>;

/** An input as it was when the lineage was recorded. */
export const lineageInput = struct({ path: name, inode: unsigned<InodeId>(), version: unsigned() });
export type LineageInput = Infer<typeof lineageInput>;

export const lineageOutput = struct({
  path: name,
  inode: unsigned<InodeId>(),
  /** Of the first committed attempt: length in bytes and sha256 in hex; later attempts must agree. */
  size: optional(unsigned()),
  hash: optional(text),
});
export type LineageOutput = Infer<typeof lineageOutput>;

/** `recorded`: never ran; `running`: an attempt is under way; `done`: outputs were committed; `failed`: gave up. */
export const lineageState = word("recorded", "running", "done", "failed");

export const lineageAttempt = struct({
  /** Position of the command that started it; it is the write id of what the attempt writes. */
  epoch: unsigned<WriteId>(),
  worker: unsigned<WorkerId>(),
  startedMs: unsigned(),
  durationMs: optional(unsigned()),
  exitCode: optional(signed),
  /** Why it failed, with the end of the job's standard error. */
  error: optional(text),
});
export type LineageAttempt = Infer<typeof lineageAttempt>;

export const lineageInfo = struct({
  id: unsigned<LineageId>(),
  inputs: list(lineageInput),
  outputs: list(lineageOutput),
  job,
  state: lineageState,
  /** The last few attempts, oldest first (at most 8). */
  attempts: list(lineageAttempt),
  /** Attempts since the last committed one; the lineage fails at its cap. */
  failures: unsigned(),
});
export type LineageInfo = Infer<typeof lineageInfo>;
