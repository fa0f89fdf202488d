/**
 * Access to local files relative to an opened directory, so that a symbolic link that appears in the middle of a path
 * never leads out of the root, also when it appears between a check and a use.
 *
 * Node has no openat(2). On Linux an open directory can be named as `/proc/self/fd/N`; where that leads tells which
 * directory was really opened (proc(5)). Elsewhere each component is checked with lstat, which leaves a window between
 * the check and the use.
 */
import { constants } from "node:fs";
import { type FileHandle, lstat, open, readlink } from "node:fs/promises";
import { WeirError } from "../lib/errors.ts";

/** open(2): a descriptor that only names a file; needs no permission to read it. Node does not export it. */
const O_PATH = 0o10000000;
const hasDescriptorPaths = process.platform === "linux";

export interface Anchor {
  /** The host path of a name in the directory; valid until `close`. */
  child(name: string): Buffer;
  /** The host path of the directory itself; valid until `close`. */
  readonly self: Buffer;
  close(): Promise<void>;
}

/** The bytes of a host path: `root` is absolute, `path` relative to it; both latin1. */
export function hostPath(root: string, path: string): Buffer {
  return Buffer.from(path === "" ? root : `${root === "/" ? "" : root}/${path}`, "latin1");
}

/**
 * Opens the directory at `path` below `root` (absolute and itself free of symbolic links).
 * @throws the system's error, or WeirError `NotDirectory` when a component is a symbolic link
 */
export async function openAnchor(root: string, path: string, doing: string): Promise<Anchor> {
  const full = hostPath(root, path);
  if (!hasDescriptorPaths) return checkedAnchor(root, path, doing);
  const handle = await open(full, O_PATH | constants.O_DIRECTORY);
  try {
    const self = `/proc/self/fd/${handle.fd}`;
    const opened = await readlink(self, { encoding: "latin1" });
    if (opened !== full.toString("latin1")) throw leadsAway(doing);
    return {
      self: Buffer.from(self),
      child: (name) => Buffer.from(`${self}/${name}`, "latin1"),
      close: () => handle.close(),
    };
  } catch (thrown) {
    await handle.close();
    throw thrown;
  }
}

async function checkedAnchor(root: string, path: string, doing: string): Promise<Anchor> {
  let here = "";
  for (const name of path === "" ? [] : path.split("/")) {
    here = here === "" ? name : `${here}/${name}`;
    if (!(await lstat(hostPath(root, here))).isDirectory()) throw leadsAway(doing);
  }
  const self = hostPath(root, path);
  await (await open(self, constants.O_DIRECTORY)).close();
  return {
    self,
    child: (name) => hostPath(self.toString("latin1"), name),
    close: () => Promise.resolve(),
  };
}

function leadsAway(doing: string): WeirError {
  return new WeirError(
    "NotDirectory",
    `${doing}: a directory on the way is a symbolic link, which is shown and never followed`,
  );
}

/**
 * A handle on the file itself, not on what a symbolic link leads to, and a host path that stands for it. For changing
 * attributes without following a link that took the file's place.
 */
export async function openItself(
  path: Buffer,
): Promise<{ handle: FileHandle; path: Buffer } | undefined> {
  if (!hasDescriptorPaths) return undefined;
  const handle = await open(path, O_PATH | constants.O_NOFOLLOW);
  return { handle, path: Buffer.from(`/proc/self/fd/${handle.fd}`) };
}
