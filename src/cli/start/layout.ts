/**
 * Where a local cluster keeps its things: all below `./.weir`, but for the memory tier, which lies on tmpfs, and the
 * mount point `./mnt`.
 */
import { createHash } from "node:crypto";
import { join, resolve } from "node:path";

export interface Layout {
  /** The directory in which `weir start` was called. */
  readonly home: string;
  readonly state: string;
  readonly config: string;
  /** What masters and workers share, and nobody else has. */
  readonly secret: string;
  readonly logs: string;
  readonly run: string;
  readonly lock: string;
  /** The under storage of "/". */
  readonly root: string;
  /** Scratch space of the tour. */
  readonly tour: string;
  /** State of the S3 server, with --s3. */
  readonly s3: string;
  /** Directory of the memory tiers, on tmpfs: its name is made of the home's path, so that two homes never meet. */
  readonly memory: string;
  readonly mountPoint: string;
}

export function layoutOf(home: string): Layout {
  const absolute = resolve(home);
  const state = join(absolute, ".weir");
  const hash = createHash("sha256").update(absolute).digest("hex").slice(0, 12);
  return {
    home: absolute,
    state,
    config: join(state, "weir.yaml"),
    secret: join(state, "secret"),
    logs: join(state, "logs"),
    run: join(state, "run"),
    lock: join(state, "run", "supervisor.pid"),
    root: join(state, "root"),
    tour: join(state, "tour"),
    s3: join(state, "s3"),
    memory: join("/dev/shm", `weir-${hash}`),
    mountPoint: join(absolute, "mnt"),
  };
}

/** The log of one of the cluster's processes. */
export function logOf(layout: Layout, name: string): string {
  return join(layout.logs, `${name}.log`);
}

/** The address of a local directory as an under storage; `%` is its only special character. */
export function fileUri(directory: string): string {
  return `file://${directory.replaceAll("%", "%25")}`;
}
