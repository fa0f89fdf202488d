/** What must hold before a local cluster is started: each thing that does not is one line with its cure. */
import { accessSync, constants, existsSync, mkdirSync, readdirSync, statfsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { WeirError } from "../../lib/errors.ts";
import type { Layout } from "./layout.ts";
import type { Space } from "./local-config.ts";
import { mountAt } from "./mounts.ts";

const mebibyte = 1024 ** 2;
/** Journals, metadata and what the tour writes. */
const neededDiskBytes = 1024 * mebibyte;

/** The path of a program, looked up in $PATH and where Debian keeps servers. */
export function findProgram(name: string, path = process.env["PATH"] ?? ""): string | undefined {
  const directories = [...path.split(delimiter).filter((entry) => entry !== ""), "/usr/sbin"];
  return directories.map((directory) => join(directory, name)).find((file) => existsSync(file));
}

/** @throws WeirError `Unavailable` with the command that installs nats-server */
export function requireNatsServer(): string {
  const program = findProgram("nats-server");
  if (program !== undefined) return program;
  throw new WeirError(
    "Unavailable",
    "Cannot start: nats-server is missing. Cure: sudo apt-get install nats-server",
  );
}

/** @throws WeirError when this user cannot mount, or when the mount point is in other use */
export function requireFuse(layout: Layout, device = "/dev/fuse"): void {
  const orElse = "or go without a mount: npm start -- --no-fuse";
  if (!existsSync(device)) {
    throw new WeirError(
      "Unavailable",
      `Cannot mount: ${device} is missing. Cure: sudo modprobe fuse (in a container: ` +
        `--device /dev/fuse --cap-add SYS_ADMIN), ${orElse}`,
    );
  }
  try {
    accessSync(device, constants.R_OK | constants.W_OK);
  } catch (cause) {
    throw new WeirError(
      "PermissionDenied",
      `Cannot mount: ${device} may not be opened by this user. Cure: sudo chmod 666 ${device} ` +
        `(for good: echo 'KERNEL=="fuse", MODE="0666"' | sudo tee /etc/udev/rules.d/99-fuse.rules), ${orElse}`,
      { cause },
    );
  }
  const mounted = mountAt(layout.mountPoint);
  if (mounted !== undefined) {
    throw new WeirError(
      "Busy",
      `Cannot mount at "${layout.mountPoint}": a file system (${mounted.type}) is mounted there. ` +
        `Cure: fusermount -u "${layout.mountPoint}", ${orElse}`,
    );
  }
  if (existsSync(layout.mountPoint) && readdirSync(layout.mountPoint).length > 0) {
    throw new WeirError(
      "NotEmpty",
      `Cannot mount at "${layout.mountPoint}": the directory is not empty. Cure: move its files away`,
    );
  }
}

/**
 * Free space of the two places where data goes.
 * @throws WeirError `DiskFull` when the state directory's file system is nearly full
 */
export function requireSpace(layout: Layout, neededBytes = neededDiskBytes): Space {
  mkdirSync(layout.state, { recursive: true });
  const disk = statfsSync(layout.state);
  const diskBytes = disk.bavail * disk.bsize;
  if (diskBytes < neededBytes) {
    throw new WeirError(
      "DiskFull",
      `Cannot start: the disk of "${layout.state}" has ${String(Math.floor(diskBytes / mebibyte))} MiB left, ` +
        `wanted ${String(Math.ceil(neededBytes / mebibyte))} MiB. Cure: free some space, or start where there is more`,
    );
  }
  return { diskBytes, memoryBytes: freeMemoryBytes() };
}

function freeMemoryBytes(): number {
  try {
    accessSync("/dev/shm", constants.W_OK);
    const shared = statfsSync("/dev/shm");
    return shared.bavail * shared.bsize;
  } catch {
    return 0;
  }
}
