/**
 * Operations on whole trees: an attribute change of everything below a directory, in bounded steps that the leader proposes
 * and whose progress is in the state, so that the next leader goes on where this one ended.
 *
 * Invariants
 * 1. `openDirectories` is the number of `treedir/<op>/…` keys, and not 0 exactly while the operation is `running`.
 * 2. A step does something only where its directory stands at the step's `after`: one that comes twice, or from a leader
 *    of before, changes nothing.
 * 3. Each inode is changed as if its caller had asked for it then: by the rules of `setAttributes`, which may refuse it.
 *    What lies below is met where that caller may look into its directory.
 *
 * As with a walk by a program, what is moved into or out of the tree meanwhile may be met or missed.
 */
import type { InodeId, TreeOpId } from "../../lib/ids.ts";
import { isOwner, permission } from "../../rpc/access.ts";
import { type Command, type CommandResult, maxTreeStep } from "../../rpc/commands.ts";
import { changedMode, flawOfModeChange } from "../../rpc/mode-change.ts";
import type { TreeChange } from "../../rpc/namespace.ts";
import { type Context, needInode, Refusal, refuse, takeId } from "./context.ts";
import { treeDirectoryKey, treeOpKey } from "./keys.ts";
import { type Inode, type TreeOp, treeDirectory, treeOp } from "./model.ts";
import { setAttributes, shown } from "./namespace-commands.ts";
import { edgeOf, inodeOf, may, nextId, pathOf, treeOpOf } from "./queries.ts";

type Of<K extends Command["kind"]> = Extract<Command, { kind: K }>;

/** Operations that are remembered; ended ones beyond are forgotten, the oldest first. */
export const rememberedTreeOps = 100;
/** Most operations under way at once. */
export const maxRunningTreeOps = 32;
/** Failures of which more is said than that there was one. */
const shownFailures = 8;
const longestDetail = 200;

/** Result: the status of the inode; `id` is the operation. */
export function startTreeOp(context: Context, command: Of<"startTreeOp">): CommandResult {
  const { change } = command;
  const root = needInode(context, command.inode);
  if (change.mode === undefined && change.uid === undefined && change.gid === undefined) {
    refuse("InvalidArgument", "nothing is to be changed");
  }
  const flaw = change.mode && flawOfModeChange(change.mode);
  if (flaw !== undefined) refuse("InvalidArgument", flaw);
  makeRoom(context);
  changeOne(context, root, change);
  const id = takeId(context, "TreeOp") as TreeOpId;
  const isTree = root.kind === "directory";
  put(context, id, {
    root: root.id,
    change,
    caller: context.caller,
    state: isTree ? "running" : "done",
    done: 1,
    failed: 0,
    openDirectories: isTree ? 1 : 0,
    failures: [],
  });
  if (isTree) {
    openDirectory(context, id, root.id);
    context.notes.events.push({ kind: "treeOpStarted", treeOp: id });
  }
  return { ...shown(context, root.id), id } as CommandResult;
}

function put(context: Context, id: TreeOpId, value: TreeOp): void {
  context.state.write(treeOp, treeOpKey(id), value);
}

function openDirectory(context: Context, id: TreeOpId, directory: InodeId): void {
  context.state.write(treeDirectory, treeDirectoryKey(id, directory), { after: undefined });
}

/** Forgets the oldest operations that have ended, and refuses another one while too many are under way. */
function makeRoom(context: Context): void {
  const end = nextId(context.state, "TreeOp");
  let running = 0;
  for (let id = Math.max(1, end - rememberedTreeOps - maxRunningTreeOps); id < end; id++) {
    const of = treeOpOf(context.state, id as TreeOpId);
    if (of?.state === "running") running++;
    else if (of !== undefined && id <= end - rememberedTreeOps) {
      context.state.delete(treeOpKey(id as TreeOpId));
    }
  }
  if (running >= maxRunningTreeOps) {
    refuse("Busy", `${running} operations on trees are under way, wanted fewer`);
  }
}

/** Directories that it has not finished are forgotten by the leader's next steps. */
export function cancelTreeOp(context: Context, command: Of<"cancelTreeOp">): CommandResult {
  const id = command.treeOp;
  const of = treeOpOf(context.state, id);
  if (of === undefined) refuse("NotFound", `no operation ${id} is known`);
  const { caller } = context;
  if (caller !== undefined && caller.uid !== of.caller?.uid) {
    refuse("NotPermitted", `operation ${id} was started by another user`);
  }
  if (of.state === "running") put(context, id, { ...of, state: "cancelled" });
  return { ok: true, id };
}

/** Result: `id` is the number of directories that are left. */
export function stepTreeOp(context: Context, command: Of<"stepTreeOp">): CommandResult {
  const { treeOp: id, directory, after, names, last, error } = command;
  if (names.length > maxTreeStep) {
    refuse("InvalidArgument", `${names.length} names, wanted at most ${maxTreeStep}`);
  }
  const of = treeOpOf(context.state, id);
  if (of === undefined) refuse("NotFound", `no operation ${id} is known`);
  const key = treeDirectoryKey(id, directory);
  const stands = context.state.read(treeDirectory, key);
  if (stands === undefined || stands.after !== after) {
    refuse("Stale", `operation ${id} does not stand there in directory ${directory}`);
  }
  const step = new Step(context, id, of);
  if (of.state === "running") {
    for (const name of names) step.take(directory, name);
    if (error !== undefined) step.fail(directory, "Unavailable", error);
  }
  if (last || of.state !== "running" || inodeOf(context.state, directory) === undefined) {
    context.state.delete(key);
    step.openDirectories--;
  } else if (names.length > 0) {
    context.state.write(treeDirectory, key, { after: names[names.length - 1] });
  }
  put(context, id, step.end());
  return { ok: true, id: step.openDirectories };
}

/** One step while it is applied. */
class Step {
  readonly #context: Context;
  readonly #id: TreeOpId;
  readonly #before: TreeOp;
  readonly #failures: TreeOp["failures"][number][];
  #done = 0;
  #failed = 0;
  openDirectories: number;

  constructor(context: Context, id: TreeOpId, before: TreeOp) {
    this.#context = context;
    this.#id = id;
    this.#before = before;
    this.#failures = [...before.failures];
    this.openDirectories = before.openDirectories;
  }

  /** Changes what has the name, if anything has it still. */
  take(directory: InodeId, name: string): void {
    const { state } = this.#context;
    const found = edgeOf(state, directory, name);
    if (found === undefined) return;
    const child = inodeOf(state, found.child)!;
    // Before it is changed: it may be the change that keeps its caller from looking into it.
    if (child.kind === "directory" && this.#mayEnter(child)) this.#open(child.id);
    try {
      changeOne({ ...this.#context, caller: this.#before.caller }, child, this.#before.change);
      this.#done++;
    } catch (thrown) {
      if (!(thrown instanceof Refusal)) throw thrown;
      this.fail(child.id, thrown.code, thrown.detail);
    }
  }

  /** Its owner could let himself in; what nobody of them changes is told as the failure of the directory itself. */
  #mayEnter(directory: Inode): boolean {
    const { caller } = this.#before;
    const looks = permission.read | permission.execute;
    return isOwner(caller, directory) || may(this.#context.state, caller, directory, looks);
  }

  #open(directory: InodeId): void {
    if (this.#context.state.get(treeDirectoryKey(this.#id, directory)) !== undefined) return;
    openDirectory(this.#context, this.#id, directory);
    this.openDirectories++;
  }

  fail(inode: InodeId, code: string, detail: string): void {
    this.#failed++;
    if (this.#failures.length >= shownFailures) return;
    const path = pathOf(this.#context.state, inode) ?? "";
    this.#failures.push({ path, code, detail: detail.slice(0, longestDetail) });
  }

  /** The operation after it. */
  end(): TreeOp {
    const before = this.#before;
    const isOver = before.state === "running" && this.openDirectories === 0;
    return {
      ...before,
      state: isOver ? "done" : before.state,
      done: before.done + this.#done,
      failed: before.failed + this.#failed,
      openDirectories: this.openDirectories,
      failures: this.#failures,
    };
  }
}

/** As `setAttributes` does it, by which it may be refused; symbolic links have no mode. */
function changeOne(context: Context, of: Inode, change: TreeChange): void {
  const { uid, gid } = change;
  const mode =
    change.mode === undefined || of.kind === "symlink"
      ? undefined
      : changedMode(change.mode, of.mode, of.kind === "directory");
  const isSame =
    (mode ?? of.mode) === of.mode && (uid ?? of.uid) === of.uid && (gid ?? of.gid) === of.gid;
  if (isSame && context.caller === undefined) return;
  const none = { atime: undefined, mtime: undefined };
  setAttributes(context, { kind: "setAttributes", inode: of.id, mode, uid, gid, ...none });
}
