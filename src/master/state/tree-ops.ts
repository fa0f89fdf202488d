/**
 * Operations on whole trees as they go on in the state: where each stands, what it has done, and its end.
 *
 * Invariants
 * 1. `openDirectories` is the number of `treedir/<op>/…` keys, `pendingFiles` that of queued side effects that tell of the
 *    operation. An operation is `running` only while one of them is not 0.
 * 2. `meta/treeOps` has the ids of all operations that are remembered, ascending.
 * 3. The end of a run is told to its data policy once.
 */
import type { InodeId, TreeOpId } from "../../lib/ids.ts";
import type { Timestamp, TreeWork } from "../../rpc/namespace.ts";
import { isLater } from "../../rpc/relatime.ts";
import { type Context, refuse, takeId } from "./context.ts";
import { treeDirectoryKey, treeOpIdsKey, treeOpKey } from "./keys.ts";
import { type TreeOp, treeDirectory, treeOp, treeOpIds } from "./model.ts";
import { noteRunEnd } from "./policy-runs.ts";
import { pathOf, treeOpOf } from "./queries.ts";

/** Operations that are remembered when they have ended; the oldest are forgotten first. */
export const rememberedTreeOps = 100;
/** Most operations under way at once. */
export const maxRunningTreeOps = 32;
/** Failures and samples of which more is kept than their number. */
const shownPaths = 8;
const longestDetail = 200;

/** Makes an operation that begins with `root`, if it is a directory, and is over otherwise. */
export function beginTreeOp(
  context: Context,
  of: { readonly root: InodeId; readonly isTree: boolean; readonly work: TreeWork },
): TreeOpId {
  makeRoom(context);
  const id = takeId(context, "TreeOp") as TreeOpId;
  const ids = context.state.read(treeOpIds, treeOpIdsKey) ?? [];
  context.state.write(treeOpIds, treeOpIdsKey, [...ids, id]);
  putTreeOp(context, id, {
    root: of.root,
    work: of.work,
    caller: context.caller,
    startedAt: context.wallTime,
    state: of.isTree ? "running" : "done",
    openDirectories: of.isTree ? 1 : 0,
    ...{ pendingFiles: 0, done: 0, failed: 0, failures: [] },
    ...{ scanned: 0, matched: 0, matchedBytes: 0, samples: [] },
  });
  if (of.isTree) {
    openDirectory(context, id, of.root);
    context.notes.events.push({ kind: "treeOpStarted", treeOp: id });
  }
  return id;
}

function isOver(of: TreeOp): boolean {
  return of.openDirectories === 0 && of.pendingFiles === 0;
}

/** Forgets the oldest operations that have ended, and refuses another one while too many are under way. */
function makeRoom(context: Context): void {
  const ids = context.state.read(treeOpIds, treeOpIdsKey) ?? [];
  const over = ids.filter((id) => isOver(treeOpOf(context.state, id)!));
  const underWay = ids.length - over.length;
  if (underWay >= maxRunningTreeOps) {
    refuse("Busy", `${underWay} operations on trees are under way, wanted fewer`);
  }
  const forgotten = over.slice(0, Math.max(0, over.length + 1 - rememberedTreeOps));
  if (forgotten.length === 0) return;
  for (const id of forgotten) context.state.delete(treeOpKey(id));
  const kept = ids.filter((id) => !forgotten.includes(id));
  context.state.write(treeOpIds, treeOpIdsKey, kept);
}

function putTreeOp(context: Context, id: TreeOpId, value: TreeOp): void {
  context.state.write(treeOp, treeOpKey(id), value);
}

function openDirectory(context: Context, id: TreeOpId, directory: InodeId): void {
  context.state.write(treeDirectory, treeDirectoryKey(id, directory), { after: undefined });
}

/** What it has not done yet stays as it is; directories that are open are forgotten by the leader's next steps. */
export function stopTreeOp(context: Context, id: TreeOpId): void {
  const of = treeOpOf(context.state, id);
  if (of?.state === "running") putTreeOp(context, id, { ...of, state: "cancelled" });
}

/** A file that was on its way between stores is there, or stays where it was; `moot`: it is another one by now. */
export function fileArrived(
  context: Context,
  id: TreeOpId,
  file: {
    readonly inode: InodeId;
    readonly end: "done" | "failed" | "moot";
    readonly error: string | undefined;
  },
): void {
  const of = treeOpOf(context.state, id);
  if (of === undefined) return;
  const progress = new TreeProgress(context, id, of);
  progress.pendingFiles--;
  if (file.end === "done") progress.done++;
  else if (file.end === "failed") progress.fail(file.inode, "Unavailable", file.error ?? "");
  progress.put();
}

/** An operation while one command goes on with it. */
export class TreeProgress {
  readonly #context: Context;
  readonly #id: TreeOpId;
  readonly #before: TreeOp;
  readonly #failures: TreeOp["failures"][number][];
  readonly #samples: string[];
  #failed: number;
  #matched: number;
  #matchedBytes: number;
  #leftSince: Timestamp | undefined;
  done: number;
  scanned: number;
  openDirectories: number;
  pendingFiles: number;

  constructor(context: Context, id: TreeOpId, before: TreeOp) {
    this.#context = context;
    this.#id = id;
    this.#before = before;
    this.#failures = [...before.failures];
    this.#samples = [...before.samples];
    this.#failed = before.failed;
    this.#matched = before.matched;
    this.#matchedBytes = before.matchedBytes;
    this.#leftSince = before.leftSince;
    this.done = before.done;
    this.scanned = before.scanned;
    this.openDirectories = before.openDirectories;
    this.pendingFiles = before.pendingFiles;
  }

  /** A directory is to be done, too. */
  open(directory: InodeId): void {
    if (this.#context.state.get(treeDirectoryKey(this.#id, directory)) !== undefined) return;
    openDirectory(this.#context, this.#id, directory);
    this.openDirectories++;
  }

  /** A file is one of those that are to go. */
  match(inode: InodeId, sizeBytes: number): void {
    this.#matched++;
    this.#matchedBytes = Math.min(this.#matchedBytes + sizeBytes, Number.MAX_SAFE_INTEGER);
    if (this.#samples.length < shownPaths) {
      this.#samples.push(pathOf(this.#context.state, inode) ?? "");
    }
  }

  /** A file that changed then is for the next run. */
  leave(changed: Timestamp): void {
    const first = this.#leftSince;
    if (first === undefined || isLater(first, changed)) this.#leftSince = changed;
  }

  /** Something could not be done. */
  fail(inode: InodeId, code: string, detail: string): void {
    this.#failed++;
    if (this.#failures.length >= shownPaths) return;
    const path = pathOf(this.#context.state, inode) ?? "";
    this.#failures.push({ path, code, detail: detail.slice(0, longestDetail) });
  }

  /** Writes it down, and says so where that was the end. */
  put(): void {
    const before = this.#before;
    const left = this.openDirectories + this.pendingFiles;
    const now: TreeOp = {
      ...before,
      state: before.state === "running" && left === 0 ? "done" : before.state,
      openDirectories: this.openDirectories,
      pendingFiles: this.pendingFiles,
      done: this.done,
      failed: this.#failed,
      failures: this.#failures,
      scanned: this.scanned,
      matched: this.#matched,
      matchedBytes: this.#matchedBytes,
      samples: this.#samples,
      leftSince: this.#leftSince,
    };
    putTreeOp(this.#context, this.#id, now);
    if (left === 0 && !isOver(before)) noteRunEnd(this.#context, this.#id, now);
  }
}
