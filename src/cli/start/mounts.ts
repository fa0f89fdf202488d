/** Mount points of this machine: which are there, whether one is dead, and how to take one away. */
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sleep } from "../../lib/clock.ts";

export interface MountPoint {
  readonly path: string;
  readonly type: string;
  readonly source: string;
}

/** Parses /proc/self/mounts, whose fields escape blanks as octal (fstab(5)). */
export function parseMounts(text: string): MountPoint[] {
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      const [source = "", path = "", type = ""] = line.split(" ");
      return { source: decodeField(source), path: decodeField(path), type };
    });
}

/** A field of a table that was read as latin1: octal escapes as bytes, bytes as UTF-8. */
function decodeField(field: string): string {
  const bytes = field.replace(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(parseInt(octal, 8)),
  );
  return Buffer.from(bytes, "latin1").toString("utf8");
}

/** The mount at exactly this path, the topmost where there are several. */
export function mountAt(path: string): MountPoint | undefined {
  return parseMounts(readFileSync("/proc/self/mounts", "latin1"))
    .filter((mount) => mount.path === path)
    .at(-1);
}

/** Whether what is mounted there is a mount of ours, of this start or of one that was killed. */
export function isOurs(mount: MountPoint | undefined): mount is MountPoint {
  return mount?.source === "weir" && mount.type.startsWith("fuse");
}

/**
 * Ends the connection of the kernel with a FUSE daemon that was killed: whoever waits for an answer gets an error. A
 * process that inherited the daemon's descriptor keeps the connection open otherwise, and all wait for ever, beyond
 * the reach of SIGKILL.
 */
export function abortConnection(path: string): void {
  const fields = readFileSync("/proc/self/mountinfo", "latin1")
    .split("\n")
    .map((line) => line.split(" "))
    .findLast((each) => decodeField(each[4] ?? "") === path);
  const minor = fields?.[2]?.split(":")[1];
  if (minor === undefined) return;
  if (writeAbort("/sys/fs/fuse/connections", minor) || process.getuid?.() !== 0) return;
  // Where no system manager has mounted the control file system, root does for a moment.
  const control = mkdtempSync(join(tmpdir(), "weir-fusectl-"));
  try {
    const mounted = spawnSync("mount", ["-t", "fusectl", "none", control], { stdio: "ignore" });
    if (mounted.status !== 0) return;
    writeAbort(control, minor);
    spawnSync("umount", [control], { stdio: "ignore" });
  } finally {
    rmdirSync(control);
  }
}

function writeAbort(control: string, minor: string): boolean {
  try {
    writeFileSync(join(control, minor, "abort"), "1", { flag: "r+" });
    return true;
  } catch {
    return false;
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
