/**
 * What the journal does to its directory, as one interface: the real one is here, a simulated disk is another.
 *
 * Invariants of every implementation
 * 1. A resolved `write`, `create` or `syncDirectory` is durable; a pending or failed one may be so in any part, in whole
 *    sectors of 512 bytes, in any order. `rename` and `remove` are durable once a later `syncDirectory` resolved, and
 *    may be so before; the result of a rename is the old name or the new one.
 * 2. `read`, `list` and `rename` see what was written, durable or not.
 * 3. Bytes given to `write` are the caller's again once it resolved; writers of one directory write one at a time.
 */
import { constants, type FileHandle } from "node:fs/promises";
import { mkdir, open, readdir, readFile, rename, rm, statfs } from "node:fs/promises";
import { join, resolve } from "node:path";
import { lockDirectory } from "./directory-lock.ts";
import { syncDirectory, syncParents } from "./sync-directory.ts";
import { WriteThread } from "./write-thread.ts";

/** Where frames go: `write` resolves when the bytes are durable. */
export interface SegmentWriter {
  write(bytes: Uint8Array, position: number): Promise<void>;
  close(): Promise<void>;
}

/** The part that looking at a journal needs. */
export interface ReadableFiles {
  /** For messages, and where the names below live. */
  readonly directory: string;
  /** Names in the directory, in any order. */
  list(): Promise<readonly string[]>;
  read(name: string): Promise<Buffer>;
}

export interface JournalFiles extends ReadableFiles {
  /** Makes or replaces a file of `sizeBytes`: `head`, then written zeros; nothing is left of it when that fails. */
  create(name: string, sizeBytes: number, head: Uint8Array): Promise<void>;
  /** For durable writes within the size of a file that `create` made. */
  openWriter(name: string): Promise<SegmentWriter>;
  rename(from: string, to: string): Promise<void>;
  remove(name: string): Promise<void>;
  /** Makes durable which names there are. */
  syncDirectory(): Promise<void>;
  /** Bytes that this process may still take on this disk. */
  freeBytes(): Promise<number>;
  /** Lets others open the directory. */
  close(): Promise<void>;
}

/**
 * Makes the directory, with its parents, where it is missing, and takes its lock.
 * @throws WeirError `Busy`: another process has it open
 */
export async function openJournalFiles(path: string): Promise<JournalFiles> {
  const directory = resolve(path);
  const firstMade = await mkdir(directory, { recursive: true });
  if (firstMade !== undefined) await syncParents(directory, firstMade);
  const lock = await lockDirectory(directory);
  const at = (name: string) => join(directory, name);
  return {
    ...readJournalFiles(directory),
    create: (name, sizeBytes, head) => createFile(at(name), sizeBytes, head),
    openWriter: async (name) => {
      const file = await open(at(name), constants.O_RDWR | constants.O_DSYNC);
      return {
        write: (bytes, position) => writeAll(file, bytes, position),
        close: () => file.close(),
      };
    },
    rename: (from, to) => rename(at(from), at(to)),
    remove: (name) => rm(at(name), { force: true }),
    syncDirectory: () => syncDirectory(directory),
    freeBytes: async () => {
      const { bavail, bsize } = await statfs(directory);
      return bavail * bsize;
    },
    close: () => lock.release(),
  };
}

/** The same, but for a thread of its own that frames are written by: for a process that does other things as well. */
export async function openThreadedFiles(path: string): Promise<JournalFiles> {
  const files = await openJournalFiles(path);
  const thread = await WriteThread.start();
  return {
    ...files,
    openWriter: async (name) => {
      const file = await open(join(files.directory, name), constants.O_RDWR | constants.O_DSYNC);
      return {
        write: (bytes, position) => thread.write(file.fd, bytes, position),
        close: () => file.close(),
      };
    },
    close: async () => {
      await thread.stop();
      await files.close();
    },
  };
}

/** A directory that is only looked at: nothing in it is made, changed or locked. */
export function readJournalFiles(directory: string): ReadableFiles {
  return {
    directory,
    list: () => readdir(directory),
    read: (name) => readFile(join(directory, name)),
  };
}

async function writeAll(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  let written = 0;
  while (written < bytes.length) {
    const rest = bytes.length - written;
    written += (await file.write(bytes, written, rest, position + written)).bytesWritten;
  }
}

const zeros = Buffer.alloc(1024 * 1024);

async function createFile(path: string, sizeBytes: number, head: Uint8Array): Promise<void> {
  const file = await open(path, "w");
  try {
    await writeAll(file, head, 0);
    for (let at = head.length; at < sizeBytes; at += zeros.length) {
      await writeAll(file, zeros.subarray(0, Math.min(zeros.length, sizeBytes - at)), at);
    }
    await file.sync();
  } catch (thrown) {
    await file.close();
    await rm(path, { force: true });
    throw thrown;
  }
  await file.close();
}
