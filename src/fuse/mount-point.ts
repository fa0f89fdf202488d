/**
 * The place where the file system is to appear: what must be there before, cleaning up what a killed run left, and
 * unmounting. Everything that could wait for a mount runs in child processes with a time limit.
 */
import { execFile } from "node:child_process";
import { constants } from "node:fs";
import { access, mkdir, readdir, readFile, realpath, stat } from "node:fs/promises";
import { dirname, basename, join } from "node:path";
import { hasCode, toWeirError, WeirError } from "../lib/errors.ts";
import type { Logger } from "../lib/logger.ts";

const device = "/dev/fuse";
const toolTimeoutMs = 5000;
/** Exit status of the probe for a mount whose server is gone (ENOTCONN, ECONNABORTED). */
const deadStatus = 10;

/** A line of /proc/self/mountinfo. */
export interface Mounted {
  readonly mountPoint: string;
  /** `major:minor` of its device. */
  readonly device: string;
  readonly type: string;
}

/**
 * Checks what FUSE needs of the machine.
 * @throws WeirError `NotSupported` or `PermissionDenied` with the cure
 */
export async function checkMachine(): Promise<void> {
  try {
    await access(device, constants.R_OK | constants.W_OK);
  } catch (cause) {
    if (hasCode(toWeirError(cause, ""), "NotFound")) {
      throw new WeirError(
        "NotSupported",
        `Cannot mount: "${device}" is missing; load the module with \`modprobe fuse\`, or start the container with --device ${device} --cap-add SYS_ADMIN`,
        { cause },
      );
    }
    throw new WeirError(
      "PermissionDenied",
      `Cannot mount: no permission on "${device}"; run \`chmod 0666 ${device}\` as root, and for good a udev rule: KERNEL=="fuse", MODE="0666"`,
      { cause },
    );
  }
  if ((await fusermount(["--version"])) === undefined) {
    throw new WeirError(
      "NotSupported",
      "Cannot mount: fusermount is missing; on Debian: apt-get install fuse3",
    );
  }
}

/**
 * Makes `directory` ready to be mounted on: created when missing, freed of the mount of a process that was killed.
 * @throws WeirError `NotEmpty`, `NotDirectory`, or `Busy` when something that lives is mounted there
 */
export async function prepareMountPoint(directory: string, logger: Logger): Promise<void> {
  // A stack of dead mounts is possible: each start that failed to clean may have left one.
  for (let layers = 0; layers < 8; layers++) {
    const mounted = await mountedAt(directory);
    if (mounted === undefined) break;
    if (!(await isDead(directory))) {
      throw new WeirError(
        "Busy",
        `Cannot mount at "${directory}": a file system (${mounted.type}) is mounted there; unmount it with \`fusermount -u ${directory}\`, or choose another fuse.mountPoint`,
      );
    }
    logger.warn(
      { directory, type: mounted.type },
      "cleaning up the mount of a process that is gone",
    );
    await unmount(directory, { lazy: true });
  }
  try {
    await mkdir(directory, { recursive: true });
    if (!(await stat(directory)).isDirectory()) throw notDirectory(directory);
    const [first] = await readdir(directory);
    if (first !== undefined) {
      throw new WeirError(
        "NotEmpty",
        `Cannot mount at "${directory}": it is not empty (it has "${first}"); choose an empty directory as fuse.mountPoint`,
      );
    }
  } catch (cause) {
    if (cause instanceof WeirError) throw cause;
    const error = toWeirError(cause, `Cannot mount at "${directory}"`);
    throw hasCode(error, "AlreadyExists", "NotDirectory") ? notDirectory(directory) : error;
  }
}

/** What is mounted at a directory, the topmost if there are several; read from the kernel's table, never by touching it. */
export async function mountedAt(directory: string): Promise<Mounted | undefined> {
  const table = await readFile("/proc/self/mountinfo", "utf8");
  const wanted = await resolved(directory);
  return parseMountInfo(table).findLast((mounted) => mounted.mountPoint === wanted);
}

/** proc(5): `36 35 98:0 /root /mount/point options … - type source superoptions`, with octal escapes. */
export function parseMountInfo(table: string): Mounted[] {
  return table
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      const fields = line.split(" ");
      return {
        mountPoint: unescapeOctal(fields[4] ?? ""),
        device: fields[2] ?? "",
        type: fields[fields.indexOf("-") + 1] ?? "",
      };
    });
}

/**
 * Unmounts. `lazy` takes it out of the tree also when it is in use or its server is gone.
 * @throws WeirError `Busy`
 */
export async function unmount(directory: string, { lazy }: { lazy: boolean }): Promise<void> {
  const status = await fusermount([lazy ? "-uz" : "-u", directory]);
  if (status === 0) return;
  const umount = await run("umount", lazy ? ["-l", directory] : [directory]);
  if (umount === 0 || (await mountedAt(directory)) === undefined) return;
  throw new WeirError(
    "Busy",
    `Cannot unmount "${directory}": it is in use; \`fuser -m ${directory}\` shows by whom`,
  );
}

/** The parents of a mount may be looked at, the mount itself may not. */
async function resolved(directory: string): Promise<string> {
  try {
    return join(await realpath(dirname(directory)), basename(directory));
  } catch {
    return directory;
  }
}

function unescapeOctal(text: string): string {
  const bytes = text.replace(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
  return bytes === text ? text : Buffer.from(bytes, "latin1").toString("utf8");
}

/** Asks in a child, which can be killed when the mount does not answer: a mount that hangs is not dead. */
async function isDead(directory: string): Promise<boolean> {
  const script = `try { require("node:fs").statSync(process.argv[1]) } catch (error) {
    process.exit(["ENOTCONN", "ECONNABORTED"].includes(error.code) ? ${String(deadStatus)} : 0) }`;
  return (await run(process.execPath, ["-e", script, directory])) === deadStatus;
}

async function fusermount(args: string[]): Promise<number | undefined> {
  return (await run("fusermount", args)) ?? (await run("fusermount3", args));
}

/** Exit status of a program; undefined when there is no such program. */
function run(program: string, args: readonly string[]): Promise<number | undefined> {
  return new Promise((resolve) => {
    execFile(program, args, { timeout: toolTimeoutMs, killSignal: "SIGKILL" }, (error) => {
      if (error === null) resolve(0);
      else if (error.code === "ENOENT") resolve(undefined);
      else resolve(typeof error.code === "number" ? error.code : 1);
    });
  });
}

function notDirectory(directory: string): WeirError {
  return new WeirError(
    "NotDirectory",
    `Cannot mount at "${directory}": it is no directory, wanted an empty one`,
  );
}
