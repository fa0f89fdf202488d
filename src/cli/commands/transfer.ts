/**
 * Copies between the local disk and the namespace, file by file, several at a time. Local names are bytes too: they are
 * kept as buffers, never decoded.
 */
import { createReadStream } from "node:fs";
import {
  chmod,
  lstat,
  mkdir,
  open,
  opendir,
  readlink,
  symlink,
  unlink,
  utimes,
} from "node:fs/promises";
import { hasCode, toWeirError, WeirError } from "../../lib/errors.ts";
import type { FileStatus, WriteType } from "../../rpc/namespace.ts";
import type { WeirClient } from "../../client/client.ts";
import { attempt } from "../attempt.ts";
import { joinPath, showPath } from "../paths.ts";
import { eachOf } from "./each-of.ts";

export interface Transferred {
  readonly files: number;
  readonly bytes: number;
}

export interface WriteOptions {
  readonly writeType?: WriteType;
  readonly keepers?: number;
}

/** Copies one file of the namespace to `local`, replacing what is there. */
export async function getFile(
  client: WeirClient,
  path: string,
  status: FileStatus,
  local: string | Buffer,
): Promise<Transferred> {
  let bytes = 0;
  const target = await openLocal(local, status.mode & 0o777);
  try {
    for await (const chunk of client.readFile(path)) {
      await writeAll(target, chunk);
      bytes += chunk.length;
    }
  } finally {
    await target.close();
  }
  await copyTimes(status, local);
  return { files: 1, bytes };
}

/** Copies a directory with everything below it; what exists is replaced. Devices, fifos and sockets are passed over. */
export async function getTree(
  client: WeirClient,
  path: string,
  local: string,
): Promise<Transferred> {
  const total = { files: 0, bytes: 0 };
  const directories: { status: FileStatus; at: Buffer }[] = [];
  const above = path === "/" ? 0 : path.length;
  await eachOf(
    client.walk(path),
    async ({ path: each, status }) => {
      const at = Buffer.concat([Buffer.from(local), Buffer.from(each.slice(above), "latin1")]);
      if (status.kind === "file") {
        const done = await attempt({ verb: "get", subjects: [showPath(each)] }, () =>
          getFile(client, each, status, at),
        );
        total.files += done.files;
        total.bytes += done.bytes;
      } else if (status.kind === "symlink") {
        const target = Buffer.from(status.target ?? "", "latin1");
        await unlink(at).catch(() => undefined);
        await symlink(target, at);
      }
    },
    async ({ path: each, status }) => {
      // In order: a directory is there before what is in it.
      if (status.kind !== "directory") return;
      const at = Buffer.concat([Buffer.from(local), Buffer.from(each.slice(above), "latin1")]);
      await mkdir(at, { recursive: true });
      directories.push({ status, at });
    },
  );
  // Writing into a directory changes its time: theirs come last, and modes that would lock us out too.
  for (const { status, at } of directories.reverse()) {
    await chmod(at, status.mode & 0o777);
    await copyTimes(status, at);
  }
  return total;
}

/** Writes what `source` yields as one file. */
export async function putStream(
  client: WeirClient,
  source: AsyncIterable<Uint8Array>,
  path: string,
  options: WriteOptions,
): Promise<Transferred> {
  const status = await client.writeFile(path, source, {
    writeType: options.writeType,
    keepers: options.keepers,
  });
  return { files: 1, bytes: status.size };
}

/** Copies a local file, or with `recursive` a directory with everything below it. */
export async function putTree(
  client: WeirClient,
  local: string,
  path: string,
  recursive: boolean,
  options: WriteOptions,
): Promise<Transferred> {
  const stat = await lstat(local).catch((error: unknown) => {
    throw toWeirError(error, `Cannot put "${local}"`);
  });
  if (stat.isDirectory() && !recursive) {
    throw new WeirError(
      "IsDirectory",
      `Cannot put "${local}": it is a directory, wanted --recursive`,
    );
  }
  const total = { files: 0, bytes: 0 };
  // Below a directory, failures name the file that failed.
  const each = (work: (entry: LocalEntry) => Promise<void>) => (entry: LocalEntry) =>
    entry.to === path
      ? work(entry)
      : attempt({ verb: "write", subjects: [showPath(entry.to)] }, () => work(entry));
  await eachOf(
    localTree(Buffer.from(local), path),
    each(async ({ kind, at, to, mode, mtimeMs }) => {
      if (kind === "file") {
        const status = await client.writeFile(to, createReadStream(at), {
          writeType: options.writeType,
          keepers: options.keepers,
          mode,
        });
        total.files++;
        total.bytes += status.size;
        await client.setAttributes(to, { mtime: timestampOf(mtimeMs) });
      } else if (kind === "link") {
        const target = (await readlink(at, { encoding: "buffer" })).toString("latin1");
        await client.symlink(target, to).catch(async (error: unknown) => {
          if (!hasCode(error, "AlreadyExists")) throw error;
          await client.remove(to);
          await client.symlink(target, to);
        });
      }
    }),
    each(async ({ kind, to, mode }) => {
      if (kind !== "directory") return;
      await client.mkdir(to, { mode }).catch((error: unknown) => {
        if (!hasCode(error, "AlreadyExists")) throw error;
      });
    }),
  );
  return total;
}

interface LocalEntry {
  readonly kind: "file" | "directory" | "link";
  readonly at: Buffer;
  readonly to: string;
  readonly mode: number;
  readonly mtimeMs: number;
}

/** Directories before what is in them; devices, fifos and sockets are passed over. */
async function* localTree(at: Buffer, to: string): AsyncGenerator<LocalEntry> {
  const stat = await lstat(at);
  const common = { at, to, mode: stat.mode & 0o7777, mtimeMs: stat.mtimeMs };
  if (stat.isFile()) yield { kind: "file", ...common };
  else if (stat.isSymbolicLink()) yield { kind: "link", ...common };
  if (!stat.isDirectory()) return;
  yield { kind: "directory", ...common };
  // Node's directory entries come as latin1 here: one character per byte, as in the namespace.
  for await (const entry of await opendir(at, { encoding: "latin1" })) {
    const below = Buffer.concat([at, Buffer.from("/"), Buffer.from(entry.name, "latin1")]);
    yield* localTree(below, joinPath(to, entry.name));
  }
}

async function openLocal(local: string | Buffer, mode: number) {
  try {
    return await open(local, "w", mode);
  } catch (error) {
    throw toWeirError(error, `Cannot write "${local.toString()}"`);
  }
}

async function writeAll(file: Awaited<ReturnType<typeof open>>, data: Uint8Array): Promise<void> {
  let written = 0;
  while (written < data.length) {
    written += (await file.write(data, written, data.length - written)).bytesWritten;
  }
}

async function copyTimes(status: FileStatus, local: string | Buffer): Promise<void> {
  const seconds = ({ sec, nsec }: FileStatus["mtime"]) => sec + nsec / 1e9;
  await utimes(local, seconds(status.atime), seconds(status.mtime));
}

function timestampOf(milliseconds: number): { sec: number; nsec: number } {
  const sec = Math.floor(milliseconds / 1000);
  return { sec, nsec: Math.min(999_999_999, Math.round((milliseconds - sec * 1000) * 1e6)) };
}
