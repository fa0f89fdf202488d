/** Mount points of this machine: which are there, whether one is dead, and how to take one away. */
import { spawnSync } from "node:child_process";
import { readFileSync, statSync } from "node:fs";
import { sleep } from "../../lib/clock.ts";

export interface MountPoint {
  readonly path: string;
  readonly type: string;
  readonly source: string;
}

/** Parses /proc/self/mounts, whose fields escape blanks as octal (fstab(5)). */
export function parseMounts(text: string): MountPoint[] {
  const unescape = (field: string) =>
    field.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8)));
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      const [source = "", path = "", type = ""] = line.split(" ");
      // The file is read as latin1: names come back as the bytes they are.
      const decoded = Buffer.from(unescape(path), "latin1").toString("utf8");
      return { source: unescape(source), path: decoded, type };
    });
}

/** The mount at exactly this path, the topmost where there are several. */
export function mountAt(path: string): MountPoint | undefined {
  return parseMounts(readFileSync("/proc/self/mounts", "latin1"))
    .filter((mount) => mount.path === path)
    .at(-1);
}

/** Whether the daemon behind a mount is gone: "Transport endpoint is not connected". */
export function isDead(path: string): boolean {
  try {
    statSync(path);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ENOTCONN";
  }
}

/**
 * Takes the mount at `path` away, lazily where programs still use it; resolves with whether it is gone. Runs as the
 * user by fusermount, and as root by umount where fusermount is missing.
 */
export async function unmount(path: string): Promise<boolean> {
  const ways: [string, string[]][] = [
    ["fusermount3", ["-u", path]],
    ["fusermount", ["-u", path]],
    ["fusermount3", ["-u", "-z", path]],
    ["fusermount", ["-u", "-z", path]],
    ["umount", ["-l", path]],
  ];
  for (const [program, args] of ways) {
    if (mountAt(path) === undefined) return true;
    spawnSync(program, args, { stdio: "ignore", timeout: 5000 });
    if (mountAt(path) === undefined) return true;
    await sleep(50);
  }
  return mountAt(path) === undefined;
}
