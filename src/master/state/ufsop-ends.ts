/**
 * How side effects on stores end: done, moot, given up for now, and then retried or discarded.
 *
 * Invariants
 * 1. What is given up stays in the state, and with it its tomb: nothing that was deleted comes back because a store refused
 *    to delete it.
 * 2. A file whose persist was given up is `none`: its bytes stay with their keepers.
 * 3. Only the end of the latest persist of an inode says what its `persistence` is.
 */
import type { InodeId } from "../../lib/ids.ts";
import type { Command, CommandResult } from "../../rpc/commands.ts";
import { markPersisted, moveSource } from "./content.ts";
import { type Context, patchInode, patchUnseen, refuse } from "./context.ts";
import { ufsOpKey } from "./keys.ts";
import { type UfsOp, ufsOp } from "./model.ts";
import { inodeOf, linksOf, mountOf, ufsOpOf, ufsPathOfLink } from "./queries.ts";
import { fileArrived } from "./tree-ops.ts";
import {
  persistFile,
  persistLink,
  queueAttributes,
  queueForgetAside,
  queueMake,
  takeOut,
} from "./ufsops.ts";

type Of<K extends Command["kind"]> = Extract<Command, { kind: K }>;

function needOp(context: Context, { op: id }: { readonly op: UfsOp["id"] }): UfsOp {
  return ufsOpOf(context.state, id) ?? refuse("NotFound", `no operation ${id} is queued`);
}

/** A queued operation was executed, is forgotten (`error`), or was moot (a persist without a fingerprint). */
export function ufsDone(context: Context, done: Of<"ufsDone">): CommandResult {
  const op = needOp(context, done);
  takeOut(context, op);
  for (const directory of op.directories) {
    if (inodeOf(context.state, directory) !== undefined) {
      patchUnseen(context, directory, { removedIndex: context.index });
    }
  }
  settle(context, op, done);
  return { ok: true };
}

/** The store refuses an operation for what it is. It stays, and is told of; what depends on it goes on as it may. */
export function ufsFailed(context: Context, failed: Of<"ufsFailed">): CommandResult {
  const op = needOp(context, failed);
  const { error, attempts } = failed;
  putFailed(context, op, { error, attempts, sinceMs: context.clusterTimeMs });
  const inode = persistedBy(context, op);
  if (inode !== undefined) patchInode(context, inode, { persistence: "none" });
  return { ok: true };
}

function putFailed(context: Context, op: UfsOp, failed: UfsOp["failed"]): void {
  context.state.write(ufsOp, ufsOpKey(op.mountId, op.id), { ...op, failed });
  context.notes.events.push({ kind: "ufsOpChanged", mount: op.mountId, op: op.id });
}

/** The inode that waits for this operation to be persisted. */
function persistedBy(context: Context, { id, action }: UfsOp): InodeId | undefined {
  if (action.kind === "delete") return undefined;
  return inodeOf(context.state, action.inode)?.persistOp === id ? action.inode : undefined;
}

function needFailed(context: Context, command: Of<"retryEffect"> | Of<"discardEffect">): UfsOp {
  if (context.caller !== undefined) {
    refuse("NotPermitted", "only the superuser decides on changes of stores");
  }
  const op = needOp(context, command);
  if (op.failed === undefined) refuse("InvalidArgument", `operation ${op.id} was not given up`);
  return op;
}

/** What makes something in the store is queued anew, as things are now; what removes or moves is tried as it was. */
export function retryEffect(context: Context, command: Of<"retryEffect">): CommandResult {
  const op = needFailed(context, command);
  const { action } = op;
  if (action.kind === "delete" || action.kind === "rename") {
    putFailed(context, op, undefined);
    return { ok: true };
  }
  const isLatest = persistedBy(context, op) !== undefined;
  takeOut(context, op);
  settle(context, op, { fingerprint: undefined, error: op.failed?.error });
  const of = inodeOf(context.state, action.inode);
  if (of === undefined) return { ok: true };
  switch (action.kind) {
    case "persist":
      if (action.primary) {
        if (isLatest) persistFile(context, of);
        break;
      }
      for (const link of linksOf(context.state, of.id).slice(1)) {
        if (ufsPathOfLink(context.state, link) === action.path) {
          persistLink(context, of, link, false);
        }
      }
      break;
    case "mkdir":
    case "symlink":
      if (isLatest) queueMake(context, of);
      break;
    case "migrate":
      // It is never given up for good: the run of its policy counts it as failed.
      break;
    case "setAttributes": {
      const { mode, uid, gid, mtime, isAnother } = action;
      queueAttributes(context, of, { mode, uid, gid, mtime, isAnother });
      break;
    }
  }
  return { ok: true };
}

/** The store keeps what it has. A move cannot be forgotten: the namespace would show bytes where there are none. */
export function discardEffect(context: Context, command: Of<"discardEffect">): CommandResult {
  const op = needFailed(context, command);
  if (op.action.kind === "rename") {
    refuse("NotSupported", "the bytes lie where it was to move them from, wanted another try");
  }
  forgetOp(context, op);
  return { ok: true };
}

/** Ends an operation that the store will not see. */
export function forgetOp(context: Context, op: UfsOp): void {
  takeOut(context, op);
  settle(context, op, { fingerprint: undefined, error: op.failed?.error ?? "it was given up" });
}

interface End {
  readonly fingerprint: string | undefined;
  readonly error: string | undefined;
  readonly aside?: boolean | undefined;
}

/** What the end of an operation means for its inode. */
function settle(context: Context, op: UfsOp, done: End): void {
  const { action } = op;
  if (action.kind === "migrate") {
    fileMigrated(context, action, done);
    return;
  }
  if (action.kind === "delete") {
    if (action.inode !== undefined) objectRemoved(context, op, action.inode, done);
    return;
  }
  if (action.kind === "rename" && action.replaces !== undefined) {
    objectRemoved(context, op, action.replaces, done);
  }
  const of = inodeOf(context.state, action.inode);
  if (of === undefined) return;
  const { fingerprint } = done;
  const isWritten = done.error === undefined && fingerprint !== undefined;
  switch (action.kind) {
    case "persist":
      if (!isWritten || !action.primary) break;
      if (of.nlink > 0) markPersisted(context, of, action, fingerprint);
      else if (context.level >= 2) moveSource(context, of, action.size, fingerprint);
      break;
    case "mkdir":
    case "symlink":
      if (done.error === undefined && of.nlink > 0) {
        patchInode(context, of.id, { persistence: "persisted" });
      }
      break;
    case "rename":
    case "setAttributes":
      // The object is the same, but what tells it from others may have changed with its name or times.
      if (context.level >= 2 && !isStillIts(context, op, of.source?.fingerprint, fingerprint))
        return;
      if (isWritten && of.source !== undefined && (of.nlink > 0 || context.level >= 2)) {
        patchUnseen(context, of.id, { source: { ...of.source, fingerprint } });
      }
      return;
  }
  const now = inodeOf(context.state, of.id)!;
  if (now.persistOp !== op.id || now.nlink === 0) return;
  const persistence = now.persistence === "pending" ? "none" : now.persistence;
  patchInode(context, of.id, { persistence, persistOp: undefined });
}

/**
 * Whether what a move or a change of attributes met is the object that was known before, and no other one that somebody put
 * there: then the change of status alone, the last part of a local file's fingerprint, is its own doing, or the mtime too.
 */
function isStillIts(
  context: Context,
  { action, mountId }: UfsOp,
  before: string | undefined,
  after: string | undefined,
): boolean {
  if (before === undefined || after === undefined) return false;
  // A union tells of a file that it moved only if it is that one: it may lie in another layer now.
  if (action.kind === "rename" && mountOf(context.state, mountId)?.layers !== undefined)
    return true;
  if (action.kind === "setAttributes" && action.isAnother === true) return true;
  const hasNewTime = action.kind === "setAttributes" && action.mtime !== undefined;
  const [known, now] = [partsOf(before), partsOf(after)];
  return known.every((part, i) => part === now[i] || (hasNewTime && i === mtimePart));
}

const mtimePart = 2;
const localFile = /^((?:[a-z0-9-]+:)?)(\d+)-(-?\d+)-(\d+)(?:-(-?\d+))?(?:-(-?\d+))?$/;

/** What a local file's fingerprint says, but for the time of the last change of status: layer, size, mtime, inode, birth. */
function partsOf(fingerprint: string): readonly string[] {
  const parts = localFile
    .exec(fingerprint)
    ?.slice(1, 6)
    .filter((part) => part !== undefined);
  return parts ?? [fingerprint];
}

/** The object is in another layer, where it is told from others by another fingerprint; or stays where it was. */
function fileMigrated(
  context: Context,
  action: Extract<UfsOp["action"], { kind: "migrate" }>,
  { fingerprint, error }: End,
): void {
  const of = inodeOf(context.state, action.inode);
  const isItsObject = of?.source !== undefined && of.persistedVersion === action.version;
  if (isItsObject && fingerprint !== undefined) {
    patchUnseen(context, of.id, { source: { ...of.source, fingerprint } });
  }
  const end = error !== undefined ? "failed" : fingerprint === undefined ? "moot" : "done";
  fileArrived(context, action.treeOp, { inode: action.inode, end, error });
}

/** The object of an inode without a name went, or lies aside: then it goes when the inode does. */
function objectRemoved(context: Context, op: UfsOp, inode: InodeId, done: End): void {
  const of = inodeOf(context.state, inode);
  const aside = done.aside === true ? true : undefined;
  if (of === undefined) {
    if (aside !== undefined) queueForgetAside(context, op.mountId, inode);
    return;
  }
  const removeOp = of.removeOp === op.id ? undefined : of.removeOp;
  patchUnseen(context, inode, { removeOp, aside: aside ?? of.aside });
}
