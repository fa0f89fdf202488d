/**
 * What a command has at hand while it is applied: the state, its place in the log, the two times of its entry, and the
 * lists of what it changed. Commands read a record afresh before each change of it, so that none overwrites what another
 * part of the same command did.
 *
 * Invariant: a command that refuses leaves nothing behind; the executor takes back its writes and its notes.
 */
import type { ErrorCode } from "../../lib/errors.ts";
import type {
  InodeId,
  LineageId,
  MountId,
  Position,
  SessionId,
  TreeOpId,
  UfsOpId,
  WorkerId,
} from "../../lib/ids.ts";
import type { Caller, FileKind, Timestamp } from "../../rpc/namespace.ts";
import type { PathPolicy } from "../../rpc/path-policy.ts";
import type { StateWriter } from "../store/types.ts";
import {
  type CounterName,
  counterKey,
  inodeCountKey,
  inodeKey,
  mountKey,
  policyRowKey,
} from "./keys.ts";
import { count, type Inode, inode, type Mount, mount, storedId } from "./model.ts";
import type { NewNames } from "./new-names.ts";
import { countsOf, ownPolicy, type PolicyCounts } from "./path-policies.ts";
import { inodeCount, inodeOf, mountOf, nextId } from "./queries.ts";
import type { UsageLedger } from "./usage-ledger.ts";

/** What apply works on: a store, or a part of it that can take back writes. */
export interface TransactionalState extends StateWriter {
  savepoint(): { rollback(): void; commit(): void };
}

/** What happened, for the services of the leader: hints to look, the state itself says what is to do. */
export type StateEvent =
  | { readonly kind: "ufsOpQueued"; readonly mount: MountId; readonly op: UfsOpId }
  /** It was given up, or is to be tried again. */
  | { readonly kind: "ufsOpChanged"; readonly mount: MountId; readonly op: UfsOpId }
  | { readonly kind: "ufsOpDone"; readonly mount: MountId; readonly op: UfsOpId }
  | { readonly kind: "directoryLoaded"; readonly directory: InodeId }
  | { readonly kind: "mounted"; readonly mount: MountId }
  | { readonly kind: "mountUpdated"; readonly mount: MountId }
  | { readonly kind: "unmounted"; readonly mount: MountId }
  | { readonly kind: "sessionOpened"; readonly session: SessionId }
  | { readonly kind: "sessionClosed"; readonly session: SessionId }
  | { readonly kind: "workerRegistered"; readonly worker: WorkerId }
  | { readonly kind: "workerLost"; readonly worker: WorkerId }
  | { readonly kind: "lineageRecorded"; readonly lineage: LineageId }
  | { readonly kind: "lineageChanged"; readonly lineage: LineageId }
  | { readonly kind: "garbageAdded" }
  | { readonly kind: "trashAdded" }
  | { readonly kind: "treeOpStarted"; readonly treeOp: TreeOpId };

interface NotesMark {
  readonly events: number;
  readonly recalled: number;
  readonly inodes: number;
  readonly names: number;
}

/** What an entry changed, for the change feed. */
export interface Changes {
  /** Number of notes: at least what the lists together hold. */
  readonly size: number;
  /** Inodes whose status changed, each once. */
  readonly inodes: readonly InodeId[];
  /** Names that came, went or changed, each once. */
  readonly names: readonly (readonly [InodeId, string])[];
  /** Inodes whose write lease another session waits for. */
  readonly recalled?: readonly InodeId[] | undefined;
}

/** Changes as they are noted. The lists are made when they are asked for: on most masters nobody does. */
class NotedChanges implements Changes {
  readonly #inodes: InodeId[] = [];
  readonly #parents: InodeId[] = [];
  readonly #names: string[] = [];
  readonly recalled: InodeId[] = [];

  /** An inode whose status changed. */
  inode(id: InodeId): void {
    this.#inodes.push(id);
  }

  /** A name that came, went or changed. */
  name(parent: InodeId, name: string): void {
    this.#parents.push(parent);
    this.#names.push(name);
  }

  get size(): number {
    return this.#inodes.length + this.#names.length + this.recalled.length;
  }

  mark(): Omit<NotesMark, "events"> {
    const { length: recalled } = this.recalled;
    return { inodes: this.#inodes.length, names: this.#names.length, recalled };
  }

  /** Forgets what was noted since the mark. */
  undo({ inodes, names, recalled }: Omit<NotesMark, "events">): void {
    this.#inodes.length = inodes;
    this.#names.length = names;
    this.#parents.length = names;
    this.recalled.length = recalled;
  }

  get inodes(): readonly InodeId[] {
    return [...new Set(this.#inodes)];
  }

  get names(): readonly (readonly [InodeId, string])[] {
    return namesOnce(this.#names.map((name, i) => [this.#parents[i]!, name]));
  }
}

/** Notes of what changed, in the order of the changes. */
export class ChangeNotes {
  readonly events: StateEvent[] = [];
  readonly changes = new NotedChanges();

  /** An inode whose status changed. */
  inode(id: InodeId): void {
    this.changes.inode(id);
  }

  /** A name that came, went or changed. */
  name(parent: InodeId, name: string): void {
    this.changes.name(parent, name);
  }

  /** What is noted so far, for `undo`. */
  mark(): NotesMark {
    return { events: this.events.length, ...this.changes.mark() };
  }

  /** Forgets what was noted since the mark. */
  undo(mark: NotesMark): void {
    this.events.length = mark.events;
    this.changes.undo(mark);
  }
}

function namesOnce(
  names: readonly (readonly [InodeId, string])[],
): readonly (readonly [InodeId, string])[] {
  if (names.length < 2) return names;
  const seen = new Map<InodeId, Set<string>>();
  return names.filter(([parent, name]) => {
    let below = seen.get(parent);
    if (below === undefined) seen.set(parent, (below = new Set()));
    if (below.has(name)) return false;
    below.add(name);
    return true;
  });
}

/** The decision against a command; the executor turns it into `{ ok: false, code, detail }`. */
export class Refusal extends Error {
  readonly code: string;
  readonly detail: string;
  /** What stays of the refused command: done once all that it wrote was taken back. */
  readonly afterwards: ((context: Context) => void) | undefined;

  constructor(code: string, detail: string, afterwards?: (context: Context) => void) {
    super(detail);
    this.name = "Refusal";
    this.code = code;
    this.detail = detail;
    this.afterwards = afterwards;
  }
}

/** Ends the command. `detail` follows `Cannot VERB "OBJECT": `. */
export function refuse(
  code: ErrorCode,
  detail: string,
  afterwards?: (context: Context) => void,
): never {
  throw new Refusal(code, detail, afterwards);
}

export interface Context {
  readonly state: StateWriter;
  /** Log index of the entry. */
  readonly index: number;
  /** Of this command: no other command has the same. */
  readonly position: Position;
  /** 0: the leader itself. */
  readonly session: SessionId;
  /** Who asks for the command; undefined: the superuser, or the leader itself. */
  readonly caller: Caller | undefined;
  /** Of the state: what a later level brought must not be done below it. */
  readonly level: number;
  readonly clusterTimeMs: number;
  readonly wallTime: Timestamp;
  readonly blockSizeBytes: number;
  readonly notes: ChangeNotes;
  readonly newNames: NewNames;
  readonly usage: UsageLedger;
}

/** The next id of a kind. */
export function takeId(context: Context, name: CounterName): number {
  const id = nextId(context.state, name);
  context.state.write(storedId, counterKey(name), id + 1);
  return id;
}

/** Puts a changed inode and notes that its status changed. */
function putInode(context: Context, value: Inode): void {
  context.state.write(inode, inodeKey(value.id), value);
  context.notes.inode(value.id);
}

/** Sets some fields of an inode that exists; returns it as it is now. */
export function patchInode(context: Context, id: InodeId, patch: Partial<Inode>): Inode {
  return patchKnown(context, inodeOf(context.state, id)!, patch);
}

/** `patchInode` for a caller who has just read the inode. */
export function patchKnown(context: Context, now: Inode, patch: Partial<Inode>): Inode {
  const changed = inode.with(now, patch);
  putInode(context, changed);
  if (
    changed.size !== now.size ||
    changed.persistence !== now.persistence ||
    changed.loaded !== now.loaded
  ) {
    context.usage.changed(now, changed);
  }
  return changed;
}

/** Sets fields of an inode that exists and that no status shows. */
export function patchUnseen(
  context: Context,
  id: InodeId,
  patch: Partial<
    Pick<
      Inode,
      | "removedIndex"
      | "persistOp"
      | "source"
      | "holds"
      | "lease"
      | "link"
      | "cleared"
      | "extentCount"
      | "removeOp"
      | "aside"
      | "syncedAtMs"
      | "compaction"
    >
  >,
): void {
  const changed = inode.with(inodeOf(context.state, id)!, patch);
  context.state.write(inode, inodeKey(id), changed);
}

/** Sets which keys the own policy of an inode has. */
export function patchPolicies(context: Context, id: InodeId, policies: number | undefined): void {
  context.state.write(inode, inodeKey(id), inode.with(inodeOf(context.state, id)!, { policies }));
  context.notes.inode(id);
}

/** Keeps the numbers of policies of each kind. */
export function countPolicy(
  context: Context,
  before: PathPolicy | undefined,
  after: PathPolicy | undefined,
): void {
  const known = context.usage.tree!;
  const [less, more] = [countsOf(before), countsOf(after)];
  const counts: Partial<Record<keyof PolicyCounts, number>> = {};
  for (const name of Object.keys(more) as (keyof PolicyCounts)[]) {
    if (more[name] !== less[name]) counts[name] = known[name] + more[name] - less[name];
  }
  if (Object.keys(counts).length > 0) context.usage.setTree(counts);
}

/** Sets some fields of a mount that exists. */
export function patchMount(context: Context, id: MountId, patch: Partial<Mount>): void {
  const changed = mount.with(mountOf(context.state, id)!, patch);
  context.state.write(mount, mountKey(id), changed);
}

/** What makes an inode; the rest begins empty. */
export interface NewInode {
  readonly kind: FileKind;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mountId: MountId;
  readonly target?: string | undefined;
  readonly rdev?: number | undefined;
}

/**
 * Makes an inode; the edge of its `link` is the caller's. `patch` sets what differs from an empty one made by a client.
 */
export function makeInode(context: Context, wanted: NewInode, patch: Partial<Inode> = {}): Inode {
  const id = patch.id ?? (takeId(context, "Inode") as InodeId);
  const isDirectory = wanted.kind === "directory";
  const empty: Inode = {
    id,
    kind: wanted.kind,
    mode: wanted.mode & 0o7777,
    uid: wanted.uid,
    gid: wanted.gid,
    size: 0,
    nlink: isDirectory ? 2 : 1,
    atime: context.wallTime,
    mtime: context.wallTime,
    ctime: context.wallTime,
    version: 1,
    mountId: wanted.mountId,
    mountPoint: false,
    childCount: 0,
    // Nothing can lie in the store below what was just made here.
    loaded: isDirectory,
    removedIndex: 0,
    target: wanted.target,
    lineageId: undefined,
    writeType: undefined,
    persistence: "none",
    persistedVersion: 0,
    persistOp: undefined,
    source: undefined,
    form: "extents",
    extentCount: 0,
    lease: undefined,
    holds: 0,
    link: undefined,
    rdev: wanted.rdev,
    xattrCount: undefined,
    acl: undefined,
    xattrBytes: undefined,
    usage: undefined,
    policies: undefined,
    removeOp: undefined,
    aside: undefined,
    syncedAtMs: undefined,
  };
  const made = inode.with(empty, patch);
  context.state.add(inode, inodeKey(id), made);
  if (isDirectory) context.newNames.begin(id);
  context.notes.inode(id);
  context.state.write(count, inodeCountKey, inodeCount(context.state) + 1);
  if (made.link !== undefined) context.usage.made(made, made.link.parent);
  return made;
}

/** Takes the record of an inode away, and its policy; its names, extents and containers are the caller's. */
export function deleteInode(context: Context, id: InodeId): void {
  const policy = ownPolicy(context.state, inodeOf(context.state, id)!);
  if (policy !== undefined) {
    context.state.delete(policyRowKey(id));
    countPolicy(context, policy, undefined);
  }
  context.state.delete(inodeKey(id));
  context.notes.inode(id);
  context.state.write(count, inodeCountKey, inodeCount(context.state) - 1);
}

/** The inode, or `NotFound`. */
export function needInode(context: Context, id: InodeId): Inode {
  return inodeOf(context.state, id) ?? refuse("NotFound", `no inode ${id} exists`);
}

/** The directory, or `NotFound` or `NotDirectory`. */
export function needDirectory(context: Context, id: InodeId): Inode {
  const found = needInode(context, id);
  if (found.kind !== "directory") refuse("NotDirectory", `inode ${id} is a ${found.kind}`);
  return found;
}

/** Refuses changes below a mount that is read-only or gone. */
export function needWritable(context: Context, of: Inode): void {
  const found = mountOf(context.state, of.mountId);
  if (found === undefined) refuse("NotFound", "its mount is gone");
  if (found.readOnly) refuse("ReadOnly", `the mount of "${found.uri}" is read-only`);
}
