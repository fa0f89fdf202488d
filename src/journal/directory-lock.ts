/**
 * One process per directory: a lock file that names its holder. A holder that was killed left its file behind; it is
 * recognised by its process id together with the start time of that process and the boot of the machine, since ids are
 * used again (in a container the same few, always).
 *
 * It guards processes that see each other: one machine, one PID namespace.
 */
import { link, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { WeirError } from "../lib/errors.ts";

const lockName = "lock";
/** Tokens of locks that this process holds. */
const held = new Set<string>();
let lockCount = 0;

export interface DirectoryLock {
  release(): Promise<void>;
}

/**
 * Takes the lock of a directory that exists.
 * @throws WeirError `Busy` while another process, or another opening in this one, holds it
 */
export async function lockDirectory(directory: string): Promise<DirectoryLock> {
  const path = join(directory, lockName);
  const token = `${process.pid} ${await startOf(process.pid)} ${lockCount++}`;
  const own = `${path}.${process.pid}.${lockCount}`;
  await writeFile(own, token);
  try {
    // A second round for a stale lock, more for one that others take and leave at the same time.
    for (let round = 0; round < 10; round++) {
      if (await linkNew(own, path)) {
        held.add(token);
        return {
          release: async () => {
            // Once released it may be another's.
            if (held.delete(token)) await rm(path, { force: true });
          },
        };
      }
      const holder = await readFile(path, "utf8").catch(() => undefined);
      if (holder === undefined) continue;
      if (await isAlive(holder)) {
        const pid = holder.split(" ")[0] ?? "";
        throw new WeirError("Busy", `Cannot open "${directory}": process ${pid} has it open`);
      }
      await removeStale(path, holder, `${own}.stale`);
    }
    throw new WeirError("Busy", `Cannot open "${directory}": others are opening it`);
  } finally {
    await rm(own, { force: true });
  }
}

/** The process that has a directory open, as far as its lock tells; nothing is changed. */
export async function holderOf(directory: string): Promise<number | undefined> {
  const holder = await readFile(join(directory, lockName), "utf8").catch(() => undefined);
  return holder !== undefined && (await isAlive(holder)) ? Number(holder.split(" ")[0]) : undefined;
}

/** Removes the lock of a dead holder, and puts back one that another process took meanwhile. */
async function removeStale(path: string, holder: string, aside: string): Promise<void> {
  try {
    await rename(path, aside);
  } catch {
    return;
  }
  if ((await readFile(aside, "utf8")) !== holder) await linkNew(aside, path);
  await rm(aside, { force: true });
}

async function linkNew(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw thrown;
  }
}

async function isAlive(token: string): Promise<boolean> {
  const [pid = "", ...rest] = token.split(" ");
  if (Number(pid) === process.pid) return held.has(token);
  try {
    process.kill(Number(pid), 0);
  } catch (thrown) {
    // EPERM: it lives, under another user.
    if ((thrown as NodeJS.ErrnoException).code !== "EPERM") return false;
  }
  return (await startOf(Number(pid))) === rest.slice(0, -1).join(" ");
}

/** Boot of the machine and start time of a process (field 22 of proc_pid_stat(5)), empty where there is no /proc. */
async function startOf(pid: number): Promise<string> {
  try {
    const boot = await readFile("/proc/sys/kernel/random/boot_id", "utf8");
    const stat = await readFile(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return `${boot.trim()}:${fields[19] ?? ""}`;
  } catch {
    return "";
  }
}
