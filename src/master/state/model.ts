/**
 * The records of the replicated state, one per kind of key (keys.ts), each encoded with its version first.
 *
 * Invariants
 * 1. Records are values: a change puts a new one. Fields are only ever appended, as `optional`.
 * 2. Nothing here is a float, a local time or an address in memory: equal logs make equal bytes on every master.
 */
import type {
  DataPolicyId,
  InodeId,
  LineageId,
  MountId,
  SessionId,
  TreeOpId,
  UfsOpId,
  WorkerId,
  WriteId,
} from "../../lib/ids.ts";
import {
  appended,
  boolean,
  bytes,
  encode,
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
} from "../../lib/schema.ts";
import {
  caller,
  dataPolicyRun,
  fileKind,
  job,
  lineageAttempt,
  lineageInput,
  lineageOutput,
  lineageState,
  medium,
  mountLayer,
  migration,
  persistence,
  timestamp,
  treeFailure,
  treeOpState,
  usage,
  treeWork,
  workerState,
  writeType,
} from "../../rpc/namespace.ts";
import { commandResult } from "../../rpc/commands.ts";

const inodeId = unsigned<InodeId>();
const sessionId = unsigned<SessionId>();
const writeId = unsigned<WriteId>();
const workerId = unsigned<WorkerId>();
const mountId = unsigned<MountId>();

/** Holds what leaves the namespace until it is reaped; no name leads there. */
export const trashInodeId = 2 as InodeId;

/** `meta/cluster`: fixed by the first command. */
export const cluster = struct({
  clusterId: text,
  clusterName: text,
  /** For ever: block i of a container begins at i times this. */
  blockSizeBytes: unsigned(),
});
export type Cluster = Infer<typeof cluster>;

/** `meta/clock`: neither ever goes back. `meta/ttlClock`: as they were at some moment. */
export const stateClock = struct({ clusterTimeMs: unsigned(), wallTime: timestamp });
export type StateClock = Infer<typeof stateClock>;

/** `meta/tree`, from level 2 on: what holds for the tree as a whole. */
export const tree = struct({
  /** All inodes below this one are counted. */
  countedBelow: inodeId,
  /** All inodes from this one on are counted, since they were made. `countedBelow` ends here: then all are. */
  countedFrom: inodeId,
  /** Number of policies with a quota. */
  quotas: unsigned(),
  /** Number of policies that say what new files and directories are like: a write type, or an owner. */
  defaults: unsigned(),
  /** Number of policies that readers and writers are to be told of: a read type, keepers, replication. */
  transfers: unsigned(),
  pins: unsigned(),
  ttls: unsigned(),
  replications: unsigned(),
});
export type Tree = Infer<typeof tree>;

/** `meta/configuration`: the payload is consensus' own, the state only carries it. */
export const storedConfiguration = struct({ index: unsigned(), payload: bytes });

/** `inode/<id>`: small and of a bounded size, whatever the file holds. */
export const inode = struct({
  id: inodeId,
  kind: fileKind,
  /** 0 … 0o7777. */
  mode: unsigned(),
  uid: unsigned(),
  gid: unsigned(),
  /** Bytes of a file's content; 0 of all others (see `statusOf` for what `stat` says of them). */
  size: unsigned(),
  /** Of a directory 2 + its subdirectories. 0: no name leads here any more. */
  nlink: unsigned(),
  atime: timestamp,
  mtime: timestamp,
  ctime: timestamp,
  /** From 1, raised by each change of content. Equal versions have equal bytes. */
  version: unsigned(),
  mountId,
  /** The directory is the root of its mount. */
  mountPoint: boolean,
  /** Names in a directory, as far as they are loaded. */
  childCount: unsigned(),
  /** Of a directory: every name in the store is known here. Never goes back to false. */
  loaded: boolean,
  /** Of a directory: the last log index at which something below a name of it changed in the store by our doing. */
  removedIndex: unsigned(),
  target: optional(name),
  lineageId: optional(unsigned<LineageId>()),
  /** Absent: of a store's file, written like ASYNC_THROUGH. */
  writeType: optional(writeType),
  persistence,
  /** The version that the store's object has; 0: the store has none. */
  persistedVersion: unsigned(),
  /** The latest queued persist (mkdir, symlink); earlier ones are moot. */
  persistOp: optional(unsigned<UfsOpId>()),
  /**
   * The store's object as far as its bytes count: block i of the container (inode, writeId) is its bytes
   * [i · block size, …), which end at `size`.
   */
  source: optional(
    struct({
      writeId,
      fingerprint: text,
      size: unsigned(),
      /**
       * In the form `extents`: the object's bytes [0, shown) are the file's wherever no extent lies. Absent: the extents
       * name all of them that are the file's.
       */
      shown: appended(unsigned()),
    }),
  ),
  /**
   * `source`: the content is exactly the source's bytes, no extents are stored. `extents`: the content is what the
   * extents say, and between them what is shown of the source, then holes; some extents may name the source's blocks.
   */
  form: word("source", "extents"),
  /** Number of keys of its extents (of the present generation, those behind `tailFrom` too). */
  extentCount: unsigned(),
  /** Who may write. The session may be gone: then the lease is free to take. */
  lease: optional(
    struct({
      session: sessionId,
      writeId,
      /** Cluster time at which another session first asked for it: from then on the holder is to let it go. */
      recalledAtMs: appended(unsigned()),
      /** A commit that follows version `of` has been done in part, and `is` is the version by that. */
      part: appended(struct({ of: unsigned(), is: unsigned() })),
    }),
  ),
  /** Sessions that hold the inode beyond its last name (`retained/…`). */
  holds: unsigned(),
  /** Its name, if it has only one; what an older version wrote has it in `parent/<inode>` all the same. */
  link: optional(struct({ parent: inodeId, name })),
  /** Of a device node: major · 2^32 + minor. */
  rdev: appended(unsigned()),
  /** Number of `xattr/<id>/…` keys; absent: 0. */
  xattrCount: appended(unsigned()),
  /** Bit 0: it has an access ACL, bit 1: a default ACL (directories); both are xattrs. Absent: 0. */
  acl: appended(unsigned()),
  /** What its attributes count together (`xattrBytesOf`); absent: 0. */
  xattrBytes: appended(unsigned()),
  /** Of a file that had so many extents that they were, or are, taken away in steps. */
  cleared: appended(
    struct({
      /** All extents of earlier generations are gone, or wait to be taken away. */
      generation: unsigned(),
      /** From here on those of the present one wait to be taken away too: none of them counts, and none may be added. */
      tailFrom: optional(unsigned()),
      /** Number of `clearing/<id>/…` keys. */
      pending: unsigned(),
    }),
  ),
  /** Of a directory: what is counted below it; absent: nothing. */
  usage: appended(usage),
  /** The keys of its own policy (`policy/<id>`), a bit each as in `policyKeys`; absent: it has none. */
  policies: appended(unsigned()),
  /** The queued operation that takes its object out of the store, of one that lost its last name. */
  removeOp: appended(unsigned<UfsOpId>()),
  /** Its object lies at its `unlinkedPath`, until it is reaped. */
  aside: appended(boolean),
  /** Of a directory: cluster time at which the last whole listing of it in its store began. Absent: unknown, or never. */
  syncedAtMs: appended(unsigned()),
  /** Of a file that has or had very many small extents. */
  compaction: appended(
    struct({
      /** With no more extents it is left as it is. */
      above: unsigned(),
      /** The key `compact/<id>` is there. */
      isWanted: boolean,
      /** Bytes [from, to) of the file are being put together in the container of this write. */
      running: optional(struct({ writeId, from: unsigned(), to: unsigned() })),
      /** The last one that took the place of what was there. */
      done: optional(writeId),
    }),
  ),
});
export type Inode = Infer<typeof inode>;

/** Bits of an inode's `acl`. */
export const accessAclBit = 1;
export const defaultAclBit = 2;

/** `xattr/<inode>/<name>`: the value; of the two ACLs their binary form (rpc/acl.ts), always a valid one. */
export const xattrValue = bytes;

/** `edge/<parent>/<name>`. */
export const edge = struct({ child: inodeId, kind: fileKind });
export type Edge = Infer<typeof edge>;

/** `parent/<inode>`: its names where they are not in its `link`; the first is the one that its store path is made of. */
export const links = list(struct({ parent: inodeId, name }));
export type Links = Infer<typeof links>;
export type Link = Links[number];

/** `extent/<inode>/<fileOffset>`, of later generations `extents/<inode>/<generation>/<fileOffset>`. */
export const storedExtent = struct({
  length: unsigned(),
  writeId,
  blockIndex: unsigned(),
  offset: unsigned(),
});

/** `clearing/<inode>/<generation>`: extents from this file offset on are to be taken away. */
export const clearing = struct({ from: unsigned() });

/** `container/<inode>/<writeId>`: bytes that are in no store, and who must keep them. */
export const container = struct({
  /** Extents that name it; at 0 it is garbage, unless its lease is still held. */
  references: unsigned(),
  /** Its length as far as it was committed. */
  size: unsigned(),
  keepers: list(workerId),
  /**
   * No version of the file before `since` names it, and none from `until` on, if that is there: then it has no references.
   * Absent in what an older version wrote.
   */
  since: appended(unsigned()),
  until: appended(unsigned()),
});
export type Container = Infer<typeof container>;

/** `reading/<inode>`: versions that sessions read, each of them once for each session; never empty. */
export const readings = list(struct({ session: sessionId, version: unsigned() }));
export type Readings = Infer<typeof readings>;

/** `session/<id>`. */
export const session = struct({
  clientName: text,
  timeoutMs: unsigned(),
  /** Cluster time at which the leader may close it. */
  expiresAtMs: unsigned(),
  /** Results of all sequences below are forgotten. */
  prunedBelow: unsigned(),
  /** It is being closed, in steps: no request is served any more, its leases are free to take. */
  closing: boolean,
  /** No sequence from here on was executed. Absent: an older version opened it, and there may be `result/…` rows. */
  executedBelow: optional(unsigned()),
});
export type Session = Infer<typeof session>;

/**
 * `answers/<session>/<sequence / 16>`: the answers to some requests, for when they are sent again. One without results has
 * them in `result/<session>/<sequence>`, unless the request had no commands.
 */
const allAnswers = list(
  struct({ sequence: unsigned(), position: unsigned(), results: list(commandResult) }),
);
export const storedAnswers: typeof allAnswers = {
  ...allAnswers,
  // It is weighed anew with each answer: what a result takes is not looked up.
  weigh: (answers) => {
    let weight = 0;
    for (const { results } of answers) weight += 100 + 400 * results.length;
    return weight;
  },
};

/** `result/<session>/<sequence>`: a long answer to one request; of older versions any. */
export const storedResults = struct({ position: unsigned(), results: list(commandResult) });

/** `mount/<id>`. */
export const mount = struct({
  id: mountId,
  uri: text,
  readOnly: boolean,
  /** With credentials. */
  options: textMap,
  root: inodeId,
  /** Number of `ufsop/<id>/…` keys. */
  pendingOps: unsigned(),
  /** The last log index at which a directory below was moved or removed, here or in the store. */
  movedIndex: unsigned(),
  /** The empty directory that the mount point hides; it comes back at unmount. */
  covered: optional(inodeId),
  /** Of a mount that is not shared: the mode that its root gets back when it is. Absent: shared. */
  sharedMode: appended(unsigned()),
  /** Of several stores under one path, in order of priority. With credentials. */
  layers: appended(list(mountLayer)),
  /** Name of the layer that takes what is written. */
  writeLayer: appended(text),
});
export type Mount = Infer<typeof mount>;

export const mountIds = list(mountId);

/** `worker/<id>`. */
export const worker = struct({
  id: workerId,
  uuid: text,
  host: text,
  address: text,
  state: workerState,
  tiers: list(struct({ medium, quotaBytes: unsigned() })),
});
export type Worker = Infer<typeof worker>;

/** `ufsop/<mount>/<id>`: paths are below the mount's root, as of the command that queued it. */
export const ufsOpAction = union({
  /** Writes the file's content as of `version`. `primary` is false for a further hard link. */
  persist: { path: name, inode: inodeId, version: unsigned(), size: unsigned(), primary: boolean },
  delete: {
    path: name,
    /** Absent: whatever it is, as older versions queued it. `tree`: a directory with all below, known here or not. */
    of: appended(word("file", "emptyDirectory", "tree")),
    /** The file whose object it is; it has no other name. */
    inode: appended(inodeId),
    /** The object's fingerprint is that of the inode's `source`: only that object is removed. */
    isKnown: appended(boolean),
  },
  rename: {
    from: name,
    to: name,
    inode: inodeId,
    of: appended(word("file", "directory")),
    /** The file whose object it replaces; it has no other name. */
    replaces: appended(inodeId),
  },
  mkdir: { path: name, inode: inodeId, mode: unsigned(), uid: unsigned(), gid: unsigned() },
  symlink: { path: name, inode: inodeId, target: name },
  /** Moves or copies the object of the file's version between layers of a union, for a run of a data policy. */
  migrate: {
    path: name,
    inode: inodeId,
    version: unsigned(),
    from: text,
    to: text,
    keep: boolean,
    treeOp: unsigned<TreeOpId>(),
  },
  setAttributes: {
    path: name,
    inode: inodeId,
    mode: optional(unsigned()),
    uid: optional(unsigned()),
    gid: optional(unsigned()),
    mtime: optional(timestamp),
    /** The object is one that the file was not known by before, and is to be from now on. */
    isAnother: appended(boolean),
  },
});
export type UfsOpAction = Infer<typeof ufsOpAction>;

export const ufsOp = struct({
  id: unsigned<UfsOpId>(),
  mountId,
  action: ufsOpAction,
  /** Directories whose names in the store it changes. */
  directories: list(inodeId),
  /** The name that it takes out of the store: loading skips it until then. */
  tomb: optional(struct({ directory: inodeId, name })),
  /** It moves or removes a directory. */
  moves: boolean,
  /** Cluster time at which it was queued; absent: by an older version. */
  queuedMs: appended(unsigned()),
  /** It was given up: it waits for somebody to retry or to discard it, and the store is as it was. */
  failed: appended(struct({ error: text, attempts: unsigned(), sinceMs: unsigned() })),
  /** The name that it brings into the store for an inode that is there under another one already. */
  arrival: appended(struct({ directory: inodeId, name })),
});
export type UfsOp = Infer<typeof ufsOp>;

/** `lineage/<id>`. */
export const lineage = struct({
  inputs: list(lineageInput),
  outputs: list(lineageOutput),
  job,
  state: lineageState,
  /** The attempt under way, if `state` is `running`. */
  running: optional(struct({ epoch: writeId, worker: workerId, startedMs: unsigned() })),
  /** An attempt was committed once: sizes and hashes of the outputs are known. */
  committed: boolean,
  /** Ended attempts, oldest first, at most 8. */
  attempts: list(lineageAttempt),
  failures: unsigned(),
});
export type Lineage = Infer<typeof lineage>;

/** `treeop/<id>`: an operation on a tree; kept for a while when it has ended. What its fields mean: `treeOpInfo`. */
export const treeOp = struct({
  root: inodeId,
  work: treeWork,
  caller: optional(caller),
  startedAt: timestamp,
  state: treeOpState,
  /** Number of `treedir/<id>/…` keys. */
  openDirectories: unsigned(),
  /** Number of queued side effects that tell of it. */
  pendingFiles: unsigned(),
  done: unsigned(),
  failed: unsigned(),
  /** At most 8. */
  failures: list(treeFailure),
  scanned: unsigned(),
  matched: unsigned(),
  matchedBytes: unsigned(),
  /** At most 8. */
  samples: list(name),
  /** When the first of those files changed that a run which copies had to leave. */
  leftSince: appended(timestamp),
});
export type TreeOp = Infer<typeof treeOp>;

export const treeOpIds = list(unsigned<TreeOpId>());
export type TreeOpIds = Infer<typeof treeOpIds>;

/** `datapolicy/<id>`. */
export const dataPolicy = struct({
  name: text,
  root: inodeId,
  migration,
  everyMs: optional(unsigned()),
  /** Wall time; it runs by itself from then on. */
  nextRunAt: optional(timestamp),
  running: optional(unsigned<TreeOpId>()),
  /** Of a policy that copies: what was last modified up to then has been copied. */
  copiedUpTo: optional(timestamp),
  /** At most 20, the oldest first. */
  runs: list(dataPolicyRun),
});
export type DataPolicy = Infer<typeof dataPolicy>;

export const dataPolicyIds = list(unsigned<DataPolicyId>());

/** `treedir/<op>/<directory>`: the names up to and with `after` are done. */
export const treeDirectory = struct({ after: optional(name) });

export const count = unsigned();
export const storedId = unsigned();
/** The value of keys that say all by being there. */
export const presence: Uint8Array = encode(signed, 1);
