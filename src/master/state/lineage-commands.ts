/**
 * Lineages: recorded jobs, their attempts, and the outputs that an attempt publishes, all or none.
 *
 * Invariants
 * 1. At most one attempt of a lineage is under way; only it may commit. Its epoch is the write id of what it writes.
 * 2. An output's bytes are those of the first committed attempt for ever: a later one that differs is refused.
 * 3. The graph has no cycle: outputs are new inodes, inputs are older ones.
 */
import type { InodeId, LineageId, WriteId } from "../../lib/ids.ts";
import type { Command, CommandResult } from "../../rpc/commands.ts";
import type { LineageAttempt, LineageInput } from "../../rpc/namespace.ts";
import { setKeepers } from "./containers.ts";
import { setContent } from "./content.ts";
import {
  type Context,
  makeInode,
  needDirectory,
  needInode,
  needWritable,
  patchInode,
  refuse,
  takeId,
} from "./context.ts";
import { flawOf, reachOf } from "./extents.ts";
import { lineageKey } from "./keys.ts";
import { addLink, dropFileLink, needFree } from "./links.ts";
import { type Lineage, lineage as lineageSchema } from "./model.ts";
import { needSuperuser } from "./permissions.ts";
import { inodeOf, isReachable, lineageOf, linksOf, workerOf } from "./queries.ts";

type Of<K extends Command["kind"]> = Extract<Command, { kind: K }>;

/** Attempts that a lineage remembers. */
const keptAttempts = 8;
/** Most inputs and outputs of one lineage, each. */
export const maxLineageFiles = 1000;

function putLineage(context: Context, id: LineageId, value: Lineage): void {
  context.state.write(lineageSchema, lineageKey(id), value);
  context.notes.events.push({ kind: "lineageChanged", lineage: id });
}

function needLineage(context: Context, id: LineageId): Lineage {
  return lineageOf(context.state, id) ?? refuse("NotFound", `no lineage ${id} is recorded`);
}

/** Its job runs with the rights of the workers: that is the superuser's to say. Result: `id` is the lineage. */
export function recordLineage(context: Context, command: Of<"recordLineage">): CommandResult {
  needSuperuser(context);
  const { inputs, outputs, job, uid, gid } = command;
  if (outputs.length === 0) refuse("InvalidArgument", "a lineage has at least one output");
  if (outputs.length > maxLineageFiles || inputs.length > maxLineageFiles) {
    refuse("InvalidArgument", `a lineage has at most ${maxLineageFiles} inputs and outputs`);
  }
  if (job.argv.length === 0) refuse("InvalidArgument", "the job names no program");
  for (const input of inputs) needReproducible(context, input);
  const id = takeId(context, "Lineage") as LineageId;
  const made = outputs.map((output) => {
    const parent = needDirectory(context, output.parent);
    needWritable(context, parent);
    needFree(context, parent, output.name);
    if (!isReachable(context.state, parent.id)) {
      refuse("NotFound", `directory ${parent.id} was removed`);
    }
    const file = makeInode(
      context,
      { kind: "file", mode: 0o644, uid, gid, mountId: parent.mountId },
      // What can be made again is not persisted unless someone asks.
      { lineageId: id, writeType: "MUST_CACHE" },
    );
    addLink(context, file, { parent: parent.id, name: output.name });
    return { path: output.path, inode: file.id, size: undefined, hash: undefined };
  });
  putLineage(context, id, {
    inputs,
    outputs: made,
    job,
    state: "recorded",
    running: undefined,
    committed: false,
    attempts: [],
    failures: 0,
  });
  context.notes.events.push({ kind: "lineageRecorded", lineage: id });
  return { ok: true, id };
}

/** Refuses an input that changed since it was looked at, or that nothing could bring back. */
function needReproducible(context: Context, input: LineageInput): void {
  const of = needInode(context, input.inode);
  if (of.kind !== "file") refuse("InvalidArgument", `input "${input.path}" is a ${of.kind}`);
  if (of.nlink === 0) refuse("NotFound", `input "${input.path}" was removed`);
  if (of.version !== input.version) {
    refuse(
      "VersionConflict",
      `input "${input.path}" has version ${of.version}, wanted ${input.version}`,
    );
  }
  if (of.persistence === "none" && of.lineageId === undefined) {
    refuse(
      "InvalidArgument",
      `input "${input.path}" is neither persisted nor derived, wanted one that survives a lost worker`,
    );
  }
}

/** Result: `writeId` is the epoch. `Busy` while an attempt is under way, `JobFailed` after the leader gave up. */
export function startAttempt(context: Context, command: Of<"startAttempt">): CommandResult {
  const of = needLineage(context, command.lineage);
  if (of.running !== undefined) {
    refuse("Busy", `attempt ${of.running.epoch} is under way`);
  }
  if (of.state === "failed") refuse("JobFailed", `it failed ${of.failures} times`);
  if (workerOf(context.state, command.worker) === undefined) {
    refuse("NotFound", `no worker ${command.worker} is registered`);
  }
  const epoch = context.position as number as WriteId;
  putLineage(context, command.lineage, {
    ...of,
    state: "running",
    running: { epoch, worker: command.worker, startedMs: context.clusterTimeMs },
  });
  return { ok: true, writeId: epoch };
}

/** The lineage whose attempt `epoch` is under way, or `Stale`. */
function needAttempt(
  context: Context,
  id: LineageId,
  epoch: WriteId,
): Lineage & { readonly running: NonNullable<Lineage["running"]> } {
  const of = needLineage(context, id);
  const { running } = of;
  if (running?.epoch !== epoch) refuse("Stale", `attempt ${epoch} is over`);
  return { ...of, running };
}

/** The lineage with its attempt ended. */
function ended(
  of: Lineage & { readonly running: NonNullable<Lineage["running"]> },
  how: Pick<LineageAttempt, "durationMs" | "exitCode" | "error">,
): Lineage {
  const attempts = [...of.attempts, { ...of.running, ...how }].slice(-keptAttempts);
  const state = of.committed ? "done" : "recorded";
  return { ...of, state, running: undefined, attempts };
}

/**
 * Publishes all outputs or none. Outputs that were removed or overwritten meanwhile are passed over. Outputs that differ
 * from those of the first committed attempt end this one: `Corrupt`.
 */
export function commitAttempt(context: Context, command: Of<"commitAttempt">): CommandResult {
  const { epoch, durationMs, worker } = command;
  const of = needAttempt(context, command.lineage, epoch);
  const byInode = needAllOutputs(context, of, command);
  for (const known of of.outputs) {
    const output = byInode.get(known.inode)!;
    if (!of.committed || (known.hash === output.hash && known.size === output.size)) continue;
    const detail = `output "${known.path}" differs from what the first attempt made`;
    const failed = ended(of, { durationMs, exitCode: 0, error: detail });
    putLineage(context, command.lineage, { ...failed, failures: of.failures + 1 });
    return { ok: false, code: "Corrupt", detail };
  }
  for (const output of byInode.values()) {
    const file = inodeOf(context.state, output.inode);
    if (file?.lineageId !== command.lineage) continue;
    // The store has these bytes already; they need no keeper.
    if (of.committed && file.form === "source") continue;
    if (output.extents.length > 0) {
      const size = reachOf(output.extents, context.blockSizeBytes);
      setKeepers(context, { inode: file.id, writeId: epoch }, { keepers: [worker], size });
    }
    const version = of.committed ? file.version : file.version + 1;
    setContent(context, file, { ...output, version });
  }
  putLineage(context, command.lineage, {
    ...ended(of, { durationMs, exitCode: 0, error: undefined }),
    outputs: of.outputs.map((known) => {
      const { size, hash } = byInode.get(known.inode)!;
      return { ...known, size, hash };
    }),
    state: "done",
    committed: true,
    failures: 0,
  });
  return { ok: true };
}

/** The attempt's outputs by inode: exactly those of the lineage, well-formed. */
function needAllOutputs(
  context: Context,
  of: Lineage,
  command: Of<"commitAttempt">,
): Map<InodeId, Of<"commitAttempt">["outputs"][number]> {
  const byInode = new Map(command.outputs.map((output) => [output.inode, output]));
  const missing = of.outputs.find((known) => !byInode.has(known.inode));
  if (missing !== undefined) refuse("InvalidArgument", `output "${missing.path}" is missing`);
  if (byInode.size !== of.outputs.length || command.outputs.length !== of.outputs.length) {
    refuse("InvalidArgument", "there are outputs that the lineage does not have");
  }
  if (workerOf(context.state, command.worker) === undefined) {
    refuse("InvalidArgument", `no worker ${command.worker} is registered`);
  }
  const { blockSizeBytes } = context;
  for (const { extents, size } of command.outputs) {
    const flaw = flawOf(extents, { writeId: command.epoch, size, blockSizeBytes });
    if (flaw !== undefined) refuse("InvalidArgument", flaw);
  }
  return byInode;
}

export function failAttempt(context: Context, command: Of<"failAttempt">): CommandResult {
  const of = needAttempt(context, command.lineage, command.epoch);
  const { durationMs, exitCode, error } = command;
  const failed = ended(of, { durationMs, exitCode, error });
  putLineage(context, command.lineage, {
    ...failed,
    state: command.final === true ? "failed" : failed.state,
    failures: of.failures + (command.blameless ? 0 : 1),
  });
  return { ok: true };
}

/** Lets a failed lineage try again; an attempt under way goes on. */
export function resetLineage(context: Context, command: Of<"resetLineage">): CommandResult {
  const of = needLineage(context, command.lineage);
  const state = of.state === "failed" ? (of.committed ? "done" : "recorded") : of.state;
  putLineage(context, command.lineage, { ...of, state, failures: 0 });
  return { ok: true };
}

/**
 * Outputs that were made stay as plain files, without a way to make them again. Those that never were go with the
 * lineage: as plain files they would read as empty ones, which nobody wrote.
 */
export function deleteLineage(context: Context, command: Of<"deleteLineage">): CommandResult {
  needSuperuser(context);
  const of = needLineage(context, command.lineage);
  for (const { inode } of of.outputs) {
    const file = inodeOf(context.state, inode);
    if (file?.lineageId !== command.lineage) continue;
    if (!of.committed) dropNames(context, inode);
    if (inodeOf(context.state, inode) === undefined) continue;
    patchInode(context, inode, { lineageId: undefined });
  }
  context.state.delete(lineageKey(command.lineage));
  context.notes.events.push({ kind: "lineageChanged", lineage: command.lineage });
  return { ok: true };
}

/** Takes all names from a file, the first one last: until then the store's object keeps it. */
function dropNames(context: Context, inode: InodeId): void {
  for (const name of linksOf(context.state, inode).toReversed()) {
    dropFileLink(context, inodeOf(context.state, inode)!, name);
  }
}
