/**
 * One attempt of a lineage job: inputs are staged as files of this machine, the job runs, and what it wrote becomes
 * containers that this worker keeps. Nothing is visible to anybody before the leader commits the attempt.
 */
import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import { mkdir, open, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import type { ContainerId } from "../blocks/types.ts";
import { WeirError } from "../lib/errors.ts";
import type { InodeId, WriteId } from "../lib/ids.ts";
import type { JobFile, JobRunner } from "../lineage/runner.ts";
import type { Extent, FileLayout } from "../rpc/namespace.ts";
import type { Task, TaskResult } from "../rpc/tasks.ts";
import type { BlockStore } from "./block-store.ts";
import type { ContainerWriters } from "./container-sink.ts";

export type RunJobTask = Extract<Task, { kind: "runJob" }>;
type Output = NonNullable<Extract<TaskResult, { kind: "jobDone" }>["outputs"]>[number];

export interface JobOptions {
  readonly store: BlockStore;
  readonly writers: ContainerWriters;
  readonly runner: JobRunner;
  /** Attempts get a directory each below it. */
  readonly scratchDir: string;
  readonly readFile: (layout: FileLayout, signal: AbortSignal) => AsyncIterable<Uint8Array>;
}

/** @throws WeirError when the job could not be run, its inputs not be read or its outputs not be kept */
export async function runJob(
  task: RunJobTask,
  options: JobOptions,
  signal: AbortSignal,
): Promise<TaskResult> {
  const directory = join(options.scratchDir, String(task.epoch));
  await rm(directory, { recursive: true, force: true });
  try {
    const inputs: JobFile[] = [];
    for (const [place, input] of task.inputs.entries()) {
      const path = await stagedPath(directory, "in", place, input.path);
      await stage(path, input.layout, options, signal);
      inputs.push({ path });
    }
    const outputs: JobFile[] = [];
    for (const [place, output] of task.outputs.entries()) {
      outputs.push({ path: await stagedPath(directory, "out", place, output.path) });
    }
    const { job } = task;
    const ran = await options.runner.run({ job, inputs, outputs, directory, signal });
    const kept: Output[] = [];
    if (ran.exitCode === 0) {
      for (const [place, { inode }] of task.outputs.entries()) {
        kept.push(await keepOutput(outputs[place]!.path, inode, task.epoch, options));
      }
    }
    const { taskId, lineage, epoch } = task;
    const answer = { kind: "jobDone", taskId, lineage, epoch, ...ran } as const;
    return { ...answer, outputs: ran.exitCode === 0 ? kept : undefined };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** `<scratch>/<epoch>/in/0/name`: names are kept, since programs look at them. */
async function stagedPath(
  directory: string,
  side: "in" | "out",
  place: number,
  path: string,
): Promise<string> {
  const below = join(directory, side, String(place));
  await mkdir(below, { recursive: true, mode: 0o700 });
  const bytes = Buffer.from(path.slice(path.lastIndexOf("/") + 1), "latin1");
  const name = bytes.toString("utf8");
  // Arguments of programs are text here: a name that is none gets a plain one.
  return join(below, Buffer.from(name, "utf8").equals(bytes) && name !== "" ? name : "file");
}

async function stage(
  path: string,
  layout: FileLayout,
  options: JobOptions,
  signal: AbortSignal,
): Promise<void> {
  const file = await open(path, "wx", 0o600);
  try {
    let size = 0;
    for await (const chunk of options.readFile(layout, signal)) {
      await file.writeFile(chunk);
      size += chunk.length;
    }
    if (size !== layout.status.size) {
      throw new WeirError(
        "Corrupt",
        `Cannot stage inode ${layout.status.inode}: got ${size} bytes, wanted ${layout.status.size}`,
      );
    }
  } finally {
    await file.close();
  }
}

async function keepOutput(
  path: string,
  inode: InodeId,
  epoch: WriteId,
  options: JobOptions,
): Promise<Output> {
  const id: ContainerId = { inode, writeId: epoch };
  // Of the same attempt, asked for twice.
  const leftover = options.store.peek(id);
  if (leftover !== undefined) options.store.drop(leftover);
  const hash = createHash("sha256");
  const { size } = await stat(path);
  if (size > 0) {
    const sink = await options.writers.open(id, { resumeAt: 0 });
    try {
      for await (const chunk of createReadStream(path, { highWaterMark: 1024 * 1024 })) {
        hash.update(chunk as Buffer);
        await sink.append(chunk as Buffer);
      }
    } catch (error) {
      await sink.abort();
      throw error;
    }
    await sink.close({ keep: true });
    if (sink.length !== size) {
      throw new WeirError("JobFailed", `The output "${path}" changed after the job had ended`);
    }
  }
  const extents = extentsOf(size, epoch, options.store.blockSizeBytes);
  return { inode, size, hash: hash.digest("hex"), extents };
}

/** The extents of a container of `size` bytes that holds a file from its start. */
export function extentsOf(size: number, writeId: WriteId, blockSizeBytes: number): Extent[] {
  const extents: Extent[] = [];
  for (let fileOffset = 0; fileOffset < size; fileOffset += blockSizeBytes) {
    const length = Math.min(blockSizeBytes, size - fileOffset);
    extents.push({
      fileOffset,
      length,
      writeId,
      blockIndex: Math.floor(fileOffset / blockSizeBytes),
      offset: 0,
    });
  }
  return extents;
}
