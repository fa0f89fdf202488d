/**
 * Commands of operations on whole trees: an attribute change of everything below a directory, or a run of a data policy, in
 * bounded steps that the leader proposes and whose progress is in the state, so that the next leader goes on where this one
 * ended.
 *
 * Invariants
 * 1. A step does something only where its directory stands at the step's `after`: one that comes twice, or from a leader
 *    of before, changes nothing.
 * 2. Each inode is changed as if the caller of the operation had asked for it then: by the rules of `setAttributes`, which
 *    may refuse it. What lies below is met where that caller may look into its directory.
 *
 * As with a walk by a program, what is moved into or out of the tree meanwhile may be met or missed.
 */
import type { InodeId } from "../../lib/ids.ts";
import { isOwner, permission } from "../../rpc/access.ts";
import { type Command, type CommandResult, maxTreeStep } from "../../rpc/commands.ts";
import { changedMode, flawOfModeChange } from "../../rpc/mode-change.ts";
import type { TreeChange } from "../../rpc/namespace.ts";
import { type Context, needInode, Refusal, refuse } from "./context.ts";
import { treeDirectoryKey } from "./keys.ts";
import { migrateFile } from "./migrations.ts";
import { type Inode, type TreeOp, treeDirectory } from "./model.ts";
import { setAttributes, shown } from "./namespace-commands.ts";
import { edgeOf, inodeOf, may, treeOpOf } from "./queries.ts";
import { beginTreeOp, stopTreeOp, TreeProgress } from "./tree-ops.ts";

type Of<K extends Command["kind"]> = Extract<Command, { kind: K }>;

/** Result: the status of the inode; `id` is the operation. */
export function startTreeOp(context: Context, command: Of<"startTreeOp">): CommandResult {
  const { change } = command;
  const root = needInode(context, command.inode);
  if (change.mode === undefined && change.uid === undefined && change.gid === undefined) {
    refuse("InvalidArgument", "nothing is to be changed");
  }
  const flaw = change.mode && flawOfModeChange(change.mode);
  if (flaw !== undefined) refuse("InvalidArgument", flaw);
  changeOne(context, root, change);
  const isTree = root.kind === "directory";
  const work = { kind: "change", change } as const;
  const id = beginTreeOp(context, { root: root.id, isTree, work });
  const progress = new TreeProgress(context, id, treeOpOf(context.state, id)!);
  progress.done++;
  progress.put();
  return { ...shown(context, root.id), id } as CommandResult;
}

export function cancelTreeOp(context: Context, command: Of<"cancelTreeOp">): CommandResult {
  const id = command.treeOp;
  const of = treeOpOf(context.state, id);
  if (of === undefined) refuse("NotFound", `no operation ${id} is known`);
  const { caller } = context;
  if (caller !== undefined && caller.uid !== of.caller?.uid) {
    refuse("NotPermitted", `operation ${id} was started by another user`);
  }
  stopTreeOp(context, id);
  return { ok: true, id };
}

/** Result: `id` is the number of directories that are left. */
export function stepTreeOp(context: Context, command: Of<"stepTreeOp">): CommandResult {
  const { treeOp: id, directory, after, names, upTo, scanned, last } = command;
  if (Math.max(names.length, scanned) > maxTreeStep) {
    refuse("InvalidArgument", `${names.length} of ${scanned} names, wanted at most ${maxTreeStep}`);
  }
  const of = treeOpOf(context.state, id);
  if (of === undefined) refuse("NotFound", `no operation ${id} is known`);
  const key = treeDirectoryKey(id, directory);
  const stands = context.state.read(treeDirectory, key);
  if (stands === undefined || stands.after !== after) {
    refuse("Stale", `operation ${id} does not stand there in directory ${directory}`);
  }
  const progress = new TreeProgress(context, id, of);
  const goesOn = of.state === "running" && take(context, command, of, progress);
  if (last || !goesOn) {
    context.state.delete(key);
    progress.openDirectories--;
  } else if (upTo !== undefined) {
    context.state.write(treeDirectory, key, { after: upTo });
  }
  progress.put();
  return { ok: true, id: progress.openDirectories };
}

/** Does a step's names. Answers whether the directory is there for further ones. */
function take(
  context: Context,
  { treeOp, directory, names, scanned, error }: Of<"stepTreeOp">,
  { work, caller }: TreeOp,
  progress: TreeProgress,
): boolean {
  const found = inodeOf(context.state, directory);
  if (found === undefined) return false;
  if (error !== undefined) {
    progress.fail(directory, "Unavailable", error);
    return false;
  }
  const asCaller = { ...context, caller };
  progress.scanned += scanned;
  for (const name of names) {
    const edge = edgeOf(context.state, directory, name);
    if (edge === undefined) continue;
    const child = inodeOf(context.state, edge.child)!;
    if (work.kind === "migrate") {
      if (child.kind !== "directory") migrateFile(context, { treeOp, work, child, progress });
      else if (child.mountId === found.mountId) progress.open(child.id);
      continue;
    }
    // Before it is changed: it may be the change that keeps its caller from looking into it.
    if (child.kind === "directory" && mayEnter(asCaller, child)) progress.open(child.id);
    const isDone = attempt(progress, child.id, () => changeOne(asCaller, child, work.change));
    if (isDone) progress.done++;
  }
  return true;
}

/** Its owner could let himself in; what nobody of them changes is told as the failure of the directory itself. */
function mayEnter({ state, caller }: Context, directory: Inode): boolean {
  const looks = permission.read | permission.execute;
  return isOwner(caller, directory) || may(state, caller, directory, looks);
}

/** Whether `act` was not refused. It must not have written anything when it refuses. */
function attempt(progress: TreeProgress, inode: InodeId, act: () => void): boolean {
  try {
    act();
    return true;
  } catch (thrown) {
    if (!(thrown instanceof Refusal)) throw thrown;
    progress.fail(inode, thrown.code, thrown.detail);
    return false;
  }
}

/** As `setAttributes` does it, by which it may be refused; symbolic links have no mode. */
function changeOne(context: Context, of: Inode, change: TreeChange): void {
  const { uid, gid } = change;
  const mode =
    change.mode === undefined || of.kind === "symlink"
      ? undefined
      : changedMode(change.mode, of.mode, of.kind === "directory");
  // A symbolic link that is to get a mode alone: nothing is asked of it, be it whose it may.
  if (mode === undefined && uid === undefined && gid === undefined) return;
  const isSame =
    (mode ?? of.mode) === of.mode && (uid ?? of.uid) === of.uid && (gid ?? of.gid) === of.gid;
  if (isSame && context.caller === undefined) return;
  const none = { atime: undefined, mtime: undefined };
  setAttributes(context, { kind: "setAttributes", inode: of.id, mode, uid, gid, ...none });
}
