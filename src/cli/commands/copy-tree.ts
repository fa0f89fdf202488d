/** Copies within the namespace: the bytes pass through this client, a file at a time each, several side by side. */
import type { WeirClient } from "../../client/client.ts";
import { hasCode, WeirError } from "../../lib/errors.ts";
import type { FileStatus } from "../../rpc/namespace.ts";
import { attempt } from "../attempt.ts";
import { joinPath, lastPart, showPath } from "../paths.ts";
import { eachOf } from "./each-of.ts";
import type { Transferred, WriteOptions } from "./transfer.ts";

export interface CopyOptions extends WriteOptions {
  readonly recursive: boolean;
  /** Owners and times as well as modes. */
  readonly preserve: boolean;
}

/**
 * Copies a file, or with `recursive` a directory with all below it; into `to` where that is a directory. Files that exist
 * are replaced; devices, fifos and sockets are passed over.
 */
export async function copyTree(
  client: WeirClient,
  from: string,
  to: string,
  options: CopyOptions,
): Promise<Transferred> {
  const source = await client.stat(from);
  if (source.kind === "directory" && !options.recursive) {
    throw new WeirError(
      "IsDirectory",
      `Cannot copy "${showPath(from)}": it is a directory, wanted --recursive`,
    );
  }
  const target = await placeOf(client, from, to);
  if (target === from || target.startsWith(from === "/" ? "/" : `${from}/`)) {
    throw new WeirError(
      "InvalidArgument",
      `Cannot copy "${showPath(from)}" to "${showPath(target)}": the target is the source or inside it`,
    );
  }
  const total = { files: 0, bytes: 0 };
  const directories: { status: FileStatus; at: string }[] = [];
  const above = from === "/" ? 0 : from.length;
  await eachOf(
    client.walk(from),
    async ({ path, status }) => {
      const at = target + path.slice(above);
      await attempt({ verb: "copy", subjects: [showPath(path)] }, async () => {
        if (status.kind === "file")
          total.bytes += await copyFile(client, path, at, status, options);
        else if (status.kind === "symlink") await copyLink(client, at, status);
        else return;
        if (status.kind === "file") total.files++;
      });
    },
    async ({ path, status }) => {
      // In order: a directory is there before what is in it.
      if (status.kind !== "directory") return;
      const at = target + path.slice(above);
      await client.mkdir(at, { mode: 0o700 | status.mode }).catch((error: unknown) => {
        if (!hasCode(error, "AlreadyExists")) throw error;
      });
      directories.push({ status, at });
    },
  );
  // What is made in a directory changes its time, and its mode may forbid it: both come last.
  for (const { status, at } of directories.reverse()) await setLike(client, at, status, options);
  return total;
}

async function placeOf(client: WeirClient, from: string, to: string): Promise<string> {
  try {
    const { kind } = await client.stat(to);
    return kind === "directory" ? joinPath(to, lastPart(from)) : to;
  } catch (error) {
    if (hasCode(error, "NotFound")) return to;
    throw error;
  }
}

async function copyFile(
  client: WeirClient,
  from: string,
  to: string,
  status: FileStatus,
  options: CopyOptions,
): Promise<number> {
  const { writeType, keepers } = options;
  const { mode } = status;
  const made = await client.writeFile(to, client.readFile(from), { writeType, keepers, mode });
  await setLike(client, to, status, options);
  return made.size;
}

async function copyLink(client: WeirClient, at: string, { target }: FileStatus): Promise<void> {
  await client.symlink(target ?? "", at).catch(async (error: unknown) => {
    if (!hasCode(error, "AlreadyExists")) throw error;
    await client.remove(at);
    await client.symlink(target ?? "", at);
  });
}

async function setLike(
  client: WeirClient,
  path: string,
  { mode, uid, gid, atime, mtime }: FileStatus,
  { preserve }: CopyOptions,
): Promise<void> {
  await client.setAttributes(path, preserve ? { mode, uid, gid, atime, mtime } : { mode });
}
