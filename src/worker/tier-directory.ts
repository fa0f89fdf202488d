/**
 * One directory of a tier: who may see it, the nonce that proves shared storage, and what it holds by name.
 *
 * Invariants
 * 1. The directory is 0700, the nonce 0600 and new at each start: who can read it shares the storage with this worker.
 * 2. At most one running worker of this machine uses a directory.
 */
import { createHash, randomBytes } from "node:crypto";
import {
  chmod,
  mkdir,
  readFile,
  readdir,
  rename,
  stat,
  statfs,
  unlink,
  writeFile,
} from "node:fs/promises";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import { WeirError } from "../lib/errors.ts";
import type { Medium } from "../rpc/namespace.ts";

/** Damaged copies that are left for people to look at, per directory: those of memory cost too much. */
const quarantined = { MEM: 1, SSD: 4, HDD: 4 } as const;

export class TierDirectory {
  readonly path: string;
  readonly medium: Medium;
  readonly nonce: string;
  readonly #lock: Server | undefined;
  /** Bytes that containers have here, reserved ones included. */
  usedBytes = 0;

  private constructor(path: string, medium: Medium, nonce: string, lock: Server | undefined) {
    this.path = path;
    this.medium = medium;
    this.nonce = nonce;
    this.#lock = lock;
  }

  /** @throws WeirError `Busy` when another worker uses it, and what the file system says */
  static async open(path: string, medium: Medium): Promise<TierDirectory> {
    await mkdir(path, { recursive: true, mode: 0o700 });
    await chmod(path, 0o700);
    const lock = await takeLock(path);
    for (const below of ["containers", "quarantine"]) {
      await mkdir(join(path, below), { recursive: true, mode: 0o700 });
    }
    const nonce = randomBytes(32).toString("hex");
    const file = join(path, "nonce");
    await writeFile(`${file}.new`, nonce, { mode: 0o600 });
    await rename(`${file}.new`, file);
    return new TierDirectory(path, medium, nonce, lock);
  }

  get persistent(): boolean {
    return this.medium !== "MEM";
  }

  get containersPath(): string {
    return join(this.path, "containers");
  }

  dataPath(key: string): string {
    return join(this.path, "containers", key);
  }

  /** The small text file `name`; `undefined` when there is none. */
  async readText(name: string): Promise<string | undefined> {
    try {
      return (await readFile(join(this.path, name), "utf8")).trim();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw error;
    }
  }

  async writeText(name: string, text: string): Promise<void> {
    const file = join(this.path, name);
    await writeFile(`${file}.new`, `${text}\n`, { mode: 0o600, flush: this.persistent });
    await rename(`${file}.new`, file);
  }

  /** Which file system it is on, and how many bytes that has free for us. */
  async fileSystem(): Promise<{ device: number; freeBytes: number }> {
    const [{ dev }, { bavail, bsize }] = await Promise.all([stat(this.path), statfs(this.path)]);
    return { device: dev, freeBytes: bavail * bsize };
  }

  /** Puts a damaged data file aside, for people; the oldest of too many go. */
  async quarantine(key: string): Promise<void> {
    const below = join(this.path, "quarantine");
    await rename(this.dataPath(key), join(below, `${Date.now()}.${key}`));
    const names = (await readdir(below)).sort();
    const surplus = Math.max(0, names.length - quarantined[this.medium]);
    for (const name of names.slice(0, surplus)) await unlink(join(below, name));
  }

  async close(): Promise<void> {
    await new Promise<void>((resolve) => {
      if (this.#lock === undefined) resolve();
      else this.#lock.close(() => resolve());
    });
  }
}

/**
 * A socket of Linux's abstract namespace as a lock: it goes with its process, whatever ends that, and leaves no file.
 */
async function takeLock(path: string): Promise<Server | undefined> {
  if (process.platform !== "linux") return undefined;
  const { dev, ino } = await stat(path);
  const digest = createHash("sha256").update(`${dev}:${ino}`).digest("hex").slice(0, 32);
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause) => {
      reject(
        new WeirError("Busy", `Cannot use the tier directory "${path}": another worker uses it`, {
          cause,
        }),
      );
    });
    server.listen(`\0weir-tier-${digest}`, resolve);
  });
  server.unref();
  return server;
}
