/** The procedures that masters serve. Reads take a consistency; only the leader takes writes, others answer `NotLeader`. */
import type {
  InodeId,
  LineageId,
  MountId,
  Position,
  SessionId,
  UfsOpId,
  WorkerId,
} from "../lib/ids.ts";
import {
  appended,
  boolean,
  bytes,
  type Infer,
  list,
  name,
  optional,
  pair,
  signed,
  struct,
  text,
  union,
  unsigned,
  word,
} from "../lib/schema.ts";
import { backupItem } from "./backup-items.ts";
import { clientCommand, commandResult } from "./commands.ts";
import { fsckItem } from "./fsck-items.ts";
import { method, streamMethod } from "./method.ts";
import {
  caller,
  dataPolicyInfo,
  fileLayout,
  fileStatus,
  inodeUsage,
  lineageInfo,
  medium,
  mountInfo,
  treeOpInfo,
  workerInfo,
} from "./namespace.ts";
import { effectivePolicy, pathPolicy } from "./path-policy.ts";
import { heartbeat, heartbeatReply, mountTarget, taskResult } from "./tasks.ts";

const inode = unsigned<InodeId>();
const session = unsigned<SessionId>();

/** `linearizable`: reflects everything acknowledged before the call. `stale`: what this master has applied. */
export const consistency = word("linearizable", "stale");

/** Every read's answer says which log index it reflects. */
const appliedIndex = unsigned();

const nothing = struct({});

/** Who asks; absent: the superuser. */
const by = appended(caller);

/** A master of the configuration. `outgoing`: it decides until the change under way is done, and then no more. */
export const clusterMember = struct({
  nodeId: text,
  name: text,
  host: text,
  raftPort: unsigned(),
  rpcPort: unsigned(),
  role: word("voter", "learner", "outgoing"),
  promote: boolean,
  isLeader: boolean,
  /** How much of the leader's log it is known to hold; absent before it first answered. */
  matchIndex: optional(unsigned()),
  /** Whether the leader heard of it within an election timeout. */
  isActive: optional(boolean),
});
export type ClusterMember = Infer<typeof clusterMember>;

/** A side effect on a store that is not done. */
export const effect = struct({
  op: unsigned<UfsOpId>(),
  mountId: unsigned<MountId>(),
  /** Where the mount is, and the path below its root. */
  mount: name,
  kind: word("persist", "delete", "rename", "mkdir", "symlink", "migrate", "setAttributes"),
  path: name,
  /** Of a rename. */
  to: optional(name),
  state: word("waiting", "underWay", "failed"),
  /** That failed: in this reign, or until it was given up. */
  attempts: unsigned(),
  /** What the last attempt met with. */
  error: optional(text),
  /** Since it was queued; absent: by an earlier version. */
  ageMs: optional(unsigned()),
});
export type Effect = Infer<typeof effect>;

export const masterApi = {
  // Sessions and commands
  openSession: method(
    "openSession",
    struct({ clientName: text }),
    struct({ session, timeoutMs: unsigned() }),
  ),
  /** To be called every third of the timeout. `SessionExpired` when it is too late. */
  keepSession: method("keepSession", struct({ session }), nothing),
  closeSession: method("closeSession", struct({ session }), nothing),
  /** Executes commands exactly once: a repeated (session, sequence) is answered with the first results. */
  mutate: method(
    "mutate",
    struct({
      session,
      sequence: unsigned(),
      acknowledgedBelow: unsigned(),
      atomic: boolean,
      commands: list(clientCommand),
      caller: by,
    }),
    struct({ position: unsigned<Position>(), results: list(commandResult) }),
  ),

  // Reads
  lookup: method(
    "lookup",
    struct({ parent: inode, name, consistency, caller: by }),
    struct({ appliedIndex, status: fileStatus }),
  ),
  /** Walks an absolute path; symbolic links are not followed. `parent` is absent for `/`. */
  resolve: method(
    "resolve",
    struct({ path: name, consistency, caller: by }),
    struct({ appliedIndex, status: fileStatus, parent: optional(inode) }),
  ),
  /** `access`: a sum of permissions that the caller must have, as access(2) and open(2) ask; without it none is needed. */
  getStatus: method(
    "getStatus",
    struct({ inode, consistency, caller: by, access: appended(unsigned()) }),
    struct({
      appliedIndex,
      status: fileStatus,
      /**
       * The last index, up to `appliedIndex`, that this master's change feed tells of: who has heard of it misses no
       * change up to `appliedIndex`. A master of an earlier version does not say it.
       */
      feedIndex: optional(unsigned()),
    }),
  ),
  /** `NoData` where the inode has no such attribute, or the caller must not know of it. */
  getXattr: method(
    "getXattr",
    struct({ inode, name, consistency, caller: by }),
    struct({ appliedIndex, value: bytes }),
  ),
  /** The names of all attributes that the caller may know of, in byte order: at most `maxXattrs`. */
  listXattrs: method(
    "listXattrs",
    struct({ inode, consistency, caller: by }),
    struct({ appliedIndex, names: list(name) }),
  ),
  /** Names in byte order, `after` exclusive; `more` when the page was full. */
  list: method(
    "list",
    struct({ directory: inode, after: optional(name), limit: unsigned(), consistency, caller: by }),
    struct({
      appliedIndex,
      entries: list(struct({ name, status: fileStatus })),
      more: boolean,
    }),
  ),
  /**
   * Where the bytes [offset, offset + length) of a file are. Of a file whose keepers are all lost: waits for the
   * recovery by its lineage within the deadline, or `Lost` with what can be done. Needs the right to read, unless no bytes
   * are asked for; `opened`: it was asked for before, when the file was opened, and the file's owner need not have it still.
   * `changed` is the fingerprint of a store's object that a worker did not find there: the store is asked anew before that
   * is answered again. `most`: of more extents than that only the first ones are told, and the layout says where it ends.
   */
  layout: method(
    "layout",
    struct({
      inode,
      offset: unsigned(),
      length: unsigned(),
      consistency,
      caller: by,
      opened: appended(boolean),
      changed: appended(text),
      most: appended(unsigned()),
    }),
    struct({ appliedIndex, layout: fileLayout }),
  ),
  /** The path of an inode by its first link, for people and stores. */
  pathOf: method("pathOf", struct({ inode, caller: by }), struct({ path: name })),
  workers: method(
    "workers",
    struct({ consistency }),
    struct({ appliedIndex, workers: list(workerInfo) }),
  ),
  mounts: method("mounts", nothing, struct({ mounts: list(mountInfo) })),
  /** Drops the cached copies of a persisted file, for who may write it; answers how many containers were asked to go. */
  free: method("free", struct({ inode, caller: by }), struct({ containers: unsigned() })),
  /** Number of side effects on stores that are queued or under way, in all or below one inode. */
  pendingUfsOps: method(
    "pendingUfsOps",
    struct({ inode: optional(inode) }),
    struct({ count: unsigned() }),
  ),
  /** They themselves, in the order of their mounts and ids, as the leader has come with them; `after` is exclusive. */
  effects: method(
    "effects",
    struct({
      after: optional(struct({ mountId: unsigned<MountId>(), op: unsigned<UfsOpId>() })),
      /** Only those that were given up. */
      onlyFailed: boolean,
      limit: unsigned(),
      caller: by,
    }),
    struct({
      effects: list(effect),
      /** Where to go on; absent: this was the last page. */
      next: optional(struct({ mountId: unsigned<MountId>(), op: unsigned<UfsOpId>() })),
    }),
  ),
  /**
   * Brings a directory in line with its store, unless that was begun at the cluster time `since` or later; `since` absent:
   * now, -1: only if it was never loaded. Answered after at most `waitMs` with what was done so far; when it is not `done`,
   * to be asked again with the `since` of the answer.
   */
  syncDirectory: method(
    "syncDirectory",
    struct({ directory: inode, since: optional(signed), waitMs: unsigned(), caller: by }),
    struct({
      since: signed,
      done: boolean,
      names: unsigned(),
      added: unsigned(),
      changed: unsigned(),
      removed: unsigned(),
      kept: unsigned(),
    }),
  ),
  /** As `syncDirectory`, for one name in a directory. */
  syncName: method(
    "syncName",
    struct({ parent: inode, name, caller: by }),
    struct({ added: unsigned(), changed: unsigned(), removed: unsigned(), kept: unsigned() }),
  ),
  /** Directories in a directory, as far as it is loaded: no names of files, of which there may be millions. */
  subdirectories: method(
    "subdirectories",
    struct({ directory: inode, after: optional(name), limit: unsigned(), caller: by }),
    struct({ entries: list(struct({ name, inode })), after: optional(name) }),
  ),
  /** How old what is known of a directory may get before its store is asked again, where that is said, and how old it is. */
  syncInterval: method(
    "syncInterval",
    struct({ directory: inode, caller: by }),
    struct({
      intervalMs: signed,
      /** The directory that it is set on, or whose mount has it; absent: the configuration says so. */
      from: optional(inode),
      /** Since the last whole listing began; absent when none is known of. */
      ageMs: optional(unsigned()),
    }),
  ),
  statFs: method(
    "statFs",
    nothing,
    struct({ inodes: unsigned(), capacityBytes: unsigned(), usedBytes: unsigned() }),
  ),

  /** Operations on trees that are under way or ended lately, in the order of their start: of the caller, or all. */
  treeOps: method(
    "treeOps",
    struct({ caller: by }),
    struct({ appliedIndex, treeOps: list(treeOpInfo) }),
  ),
  /** Data policies with their last runs; for the superuser. */
  dataPolicies: method(
    "dataPolicies",
    struct({ caller: by }),
    struct({ appliedIndex, policies: list(dataPolicyInfo) }),
  ),

  // Paths
  /** What lies below directories, and what other inodes themselves are; inodes that do not exist are left out. */
  usageOf: method(
    "usageOf",
    struct({ inodes: list(inode), consistency, caller: by }),
    struct({ appliedIndex, usages: list(inodeUsage) }),
  ),
  /** What an inode itself says, and what holds for it. */
  policyOf: method(
    "policyOf",
    struct({ inode, consistency, caller: by }),
    struct({ appliedIndex, own: pathPolicy, effective: effectivePolicy }),
  ),
  /**
   * Whether the clock is trusted that times to live go by, as of the last entry: by how much more wall time than cluster
   * time has passed since it was (below 0: less), and how much there may be.
   */
  ttlClock: method(
    "ttlClock",
    nothing,
    struct({ trusted: boolean, driftMs: signed, toleranceMs: unsigned() }),
  ),
  /** Which of these files are pinned, as this master has applied it; `any`: whether anything is, anywhere. */
  pinned: method(
    "pinned",
    struct({ inodes: list(inode) }),
    struct({ any: boolean, pinned: list(inode) }),
  ),
  /** Inodes that have a policy of their own, in the order of their ids. */
  policies: method(
    "policies",
    struct({ after: optional(inode), limit: unsigned(), caller: by }),
    struct({
      appliedIndex,
      policies: list(struct({ inode, path: name, policy: pathPolicy })),
      more: boolean,
    }),
  ),

  // Lineage: what jobs are run with is the superuser's to know and to do, all but to have a file made again that one may read
  lineageOf: method(
    "lineageOf",
    struct({ lineage: unsigned<LineageId>(), caller: by }),
    struct({ appliedIndex, lineage: lineageInfo }),
  ),
  lineages: method(
    "lineages",
    struct({ after: optional(unsigned<LineageId>()), limit: unsigned(), caller: by }),
    struct({ appliedIndex, lineages: list(lineageInfo), more: boolean }),
  ),
  /** Runs the lineage's job (and what it needs first) and answers when its outputs are committed. */
  runLineage: method(
    "runLineage",
    struct({ lineage: unsigned<LineageId>(), caller: by }),
    struct({ lineage: lineageInfo }),
  ),
  /** Rebuilds a lost file; answers when it is whole, at once if it is. `jobs` counts the jobs that were run. */
  recover: method("recover", struct({ inode, caller: by }), struct({ jobs: unsigned() })),

  // Cluster
  status: method(
    "status",
    /** `exact`: first puts on disk all that is applied when the call arrives, so that `hashIndex` is no less than that. */
    struct({ exact: optional(boolean) }),
    struct({
      clusterId: text,
      clusterName: text,
      nodeId: text,
      role: word("leader", "follower", "candidate", "learner"),
      leader: optional(text),
      leaderAddress: optional(text),
      term: unsigned(),
      commitIndex: unsigned(),
      appliedIndex: unsigned(),
      flushedIndex: unsigned(),
      /** Incremental sum over the state as of `hashIndex`, equal on all masters at an equal one; hex. */
      stateHash: text,
      inodes: unsigned(),
      masters: list(struct({ name: text, address: text })),
      natsUrl: text,
      /** Of the software that this master runs. */
      version: optional(text),
      /** The log index that `stateHash` belongs to. Of a master of an earlier version, which does not say it: `appliedIndex`. */
      hashIndex: optional(unsigned()),
      /** Longest time that it went without a turn of its event loop in the last two to three seconds. */
      longestPauseMs: appended(unsigned()),
    }),
  ),
  /**
   * Who leads, as soon as this master knows a leader at another address than `than`; what it knows then, after `waitMs`.
   * For clients to whom the leader has fallen silent. Every master answers it.
   */
  otherLeader: method(
    "otherLeader",
    struct({ than: text, waitMs: unsigned() }),
    struct({ leaderAddress: optional(text) }),
  ),
  /** The members as the leader knows them: its active configuration, and how far each has come. */
  clusterMembers: method(
    "clusterMembers",
    nothing,
    struct({
      clusterId: text,
      term: unsigned(),
      lastIndex: unsigned(),
      commitIndex: unsigned(),
      members: list(clusterMember),
    }),
  ),
  /**
   * The members are the superuser's to change. Admits the new, empty master that listens at that address, as a learner; with `promote` it becomes a voter by itself
   * as soon as it has caught up. Answered when the change is committed.
   */
  addMember: method(
    "addMember",
    struct({
      name: text,
      host: text,
      raftPort: unsigned(),
      rpcPort: unsigned(),
      promote: boolean,
      caller: by,
    }),
    struct({ nodeId: text }),
  ),
  /** Answered when the cluster decides without the member. The leader itself can be removed: another one follows. */
  removeMember: method("removeMember", struct({ name: text, caller: by }), nothing),
  /** Makes a learner a voter, when it has caught up. */
  promoteMember: method("promoteMember", struct({ name: text, caller: by }), nothing),
  /** Puts a new, empty master in the place of one whose data is gone, under the same name. */
  replaceMember: method(
    "replaceMember",
    struct({ name: text, host: text, raftPort: unsigned(), rpcPort: unsigned(), caller: by }),
    struct({ nodeId: text }),
  ),
  /** Hands the leadership to the member `to`, or to the one that is furthest; answered when this master leads no more. */
  transferLeadership: method(
    "transferLeadership",
    struct({ to: optional(text), caller: by }),
    struct({ from: text }),
  ),
  /** The metadata as of one index, with credentials, for the superuser, from any master; how far that one is, the header says. */
  backup: streamMethod("backup", struct({ caller: by }), backupItem),
  /**
   * Looks through the whole state as of one index, on any master, beside its work, for the superuser: at most `rowsPerSecond` (0: what it
   * likes). At most `limit` findings are given.
   */
  fsck: streamMethod(
    "fsck",
    struct({ rowsPerSecond: unsigned(), limit: unsigned(), caller: by }),
    fsckItem,
  ),
  /** The change feed. */
  subscribe: streamMethod(
    "subscribe",
    /** `after`: the last log index seen; 0 starts with what comes next. */
    struct({ after: unsigned() }),
    union({
      /**
       * Committed changes up to `index`, of one entry or several: inodes whose attributes or content changed, names that
       * came or went.
       */
      change: {
        index: unsigned(),
        inodes: list(inode),
        names: list(pair(inode, name)),
        /** Inodes whose write lease another session waits for: its holder is to publish and let it go. */
        recalled: appended(list(inode)),
      },
      /** Changes after `after` are not all known any more: drop every cache; the stream goes on from `index`. */
      gap: { index: unsigned() },
    }),
  ),

  // Workers
  /** Asks for the nonce of a `workerProof`; absent: this master takes everybody for a worker. */
  workerChallenge: method("workerChallenge", nothing, struct({ nonce: optional(text) })),
  /**
   * Makes this connection a worker's, by `proofOf` the last nonce that it was given. While the cluster has a secret, the
   * other calls of workers are answered `PermissionDenied` before.
   */
  workerProof: method("workerProof", struct({ proof: text }), nothing),
  registerWorker: method(
    "registerWorker",
    struct({
      uuid: text,
      host: text,
      address: text,
      tiers: list(struct({ medium, quotaBytes: unsigned() })),
      /** Its own; refused with `ConfigInvalid`, and no id given, when the cluster has another one. */
      blockSizeBytes: optional(unsigned()),
    }),
    struct({
      worker: unsigned<WorkerId>(),
      clusterId: text,
      /** Size of all blocks of the cluster, fixed when it was founded: a worker with another one must not join. */
      blockSizeBytes: optional(unsigned()),
    }),
  ),
  /** A long poll: answered at once when there are tasks, else after `waitMs`. Served by every master. */
  heartbeat: method("heartbeat", heartbeat, heartbeatReply),
  taskResults: method(
    "taskResults",
    struct({ worker: unsigned<WorkerId>(), results: list(taskResult) }),
    nothing,
  ),
  /** Mounts with credentials; for workers. */
  mountTargets: method("mountTargets", nothing, struct({ mounts: list(mountTarget) })),
} as const;
