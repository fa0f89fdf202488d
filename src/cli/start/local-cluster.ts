/**
 * A whole cluster on this machine as separate processes: nats-server, three masters, two workers, a mount. Brings it
 * up, keeps it up, takes it down.
 *
 * Invariants
 * 1. While this object lives, its process holds the lock of the state directory.
 * 2. After `stop` there is no process, no mount and, unless `keep`, no file of it.
 */
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, rmdirSync, writeFileSync } from "node:fs";
import { sleep } from "../../lib/clock.ts";
import type { Config } from "../../lib/config.ts";
import { WeirError } from "../../lib/errors.ts";
import { type ClusterView, connectMasters, viewThrough } from "../cluster-view.ts";
import { SupervisedChild } from "./child.ts";
import { type Layout, layoutOf } from "./layout.ts";
import { clearLeftovers, wipeState } from "./leftovers.ts";
import {
  localConfig,
  localConfigText,
  masterEnvironment,
  type Sizes,
  sizesFor,
  sizesOf,
  workerEnvironment,
  workerNames,
} from "./local-config.ts";
import { type Lock, takeLock } from "./lock.ts";
import { abortConnection, mountAt, unmount } from "./mounts.ts";
import { autoPorts, type ClusterPorts, requireFree, usualPorts } from "./ports.ts";
import { requireFuse, requireNatsServer, requireSpace } from "./preflight.ts";
import { argumentsOf } from "./programs.ts";
import { stopS3 } from "./s3-server.ts";

export interface LocalClusterOptions {
  readonly home: string;
  readonly ports: "usual" | "auto";
  readonly fuse: boolean;
  /** State of an earlier start is used, and that of this one kept. */
  readonly keep: boolean;
  /** What happens by itself: a process that ended, leftovers that were removed. */
  readonly onEvent: (line: string) => void;
}

const readyLimitMs = 30_000;
const fuseGraceMs = 3000;
const graceMs = 4000;

export class LocalCluster {
  readonly layout: Layout;
  readonly config: Config;
  readonly fuse: boolean;
  readonly masters: readonly SupervisedChild[];
  readonly workers: readonly SupervisedChild[];
  readonly nats: SupervisedChild;
  readonly mount: SupervisedChild | undefined;
  /** Time from the first process to a leader, all workers and a live mount. */
  readonly upAfterMs: number;
  readonly #keep: boolean;
  readonly #lock: Lock;

  private constructor(parts: Parts, upAfterMs: number) {
    this.layout = parts.layout;
    this.config = parts.config;
    this.fuse = parts.mount !== undefined;
    this.nats = parts.nats;
    this.masters = parts.masters;
    this.workers = parts.workers;
    this.mount = parts.mount;
    this.#keep = parts.keep;
    this.#lock = parts.lock;
    this.upAfterMs = upAfterMs;
  }

  /**
   * Checks, cleans, starts all processes side by side, and resolves when the cluster serves.
   * @throws WeirError with one line and its cure when something stands in the way; nothing is left running then
   */
  static async start(options: LocalClusterOptions, signal: AbortSignal): Promise<LocalCluster> {
    const layout = layoutOf(options.home);
    mkdirSync(layout.run, { recursive: true });
    const lock = takeLock(layout.lock);
    let parts: Parts | undefined;
    try {
      for (const line of await clearLeftovers(layout))
        options.onEvent(`left by an earlier start: ${line}`);
      const nats = requireNatsServer();
      if (options.fuse) requireFuse(layout);
      const ports = options.ports === "auto" ? await autoPorts(3) : usualPorts;
      await requireFree(ports);
      if (!options.keep) wipeState(layout);
      const space = requireSpace(layout);
      const sizes = existsSync(layout.config)
        ? sizesOf(layout, readFileSync(layout.config, "utf8"))
        : sizesFor(space);
      parts = prepare({ layout, lock, nats, ports, sizes, options });
      const startedMs = performance.now();
      const all = [
        parts.nats,
        ...parts.masters,
        ...parts.workers,
        ...(parts.mount ? [parts.mount] : []),
      ];
      await Promise.all(all.map((child) => child.start()));
      await Promise.all(all.map((child) => child.ready(readyLimitMs, signal)));
      await untilServing(parts, signal);
      return new LocalCluster(parts, performance.now() - startedMs);
    } catch (error) {
      if (parts === undefined) {
        // Nothing ran: what others keep here stays, an empty directory goes.
        lock.release();
        if (!options.keep) removeIfEmpty(layout.run, layout.state);
      } else {
        await takeDown(parts, { keepLogs: true });
      }
      throw error;
    }
  }

  /** How the cluster stands, as its masters tell. */
  async view(): Promise<ClusterView> {
    const connection = connectMasters(this.config);
    try {
      return await viewThrough(connection, this.config, 1000);
    } finally {
      connection.close();
    }
  }

  /** All processes, in the order of their start. */
  get children(): readonly SupervisedChild[] {
    return [this.nats, ...this.masters, ...this.workers, ...(this.mount ? [this.mount] : [])];
  }

  /** Takes everything down within 10 s. `keepLogs`: the logs stay, because something went wrong. */
  async stop(options: { keepLogs: boolean }): Promise<void> {
    await takeDown(
      {
        layout: this.layout,
        config: this.config,
        nats: this.nats,
        masters: this.masters,
        workers: this.workers,
        mount: this.mount,
        keep: this.#keep,
        lock: this.#lock,
      },
      options,
    );
  }
}

interface Parts {
  readonly layout: Layout;
  readonly config: Config;
  readonly nats: SupervisedChild;
  readonly masters: readonly SupervisedChild[];
  readonly workers: readonly SupervisedChild[];
  readonly mount: SupervisedChild | undefined;
  readonly keep: boolean;
  readonly lock: Lock;
}

function prepare(from: {
  layout: Layout;
  lock: Lock;
  nats: string;
  ports: ClusterPorts;
  sizes: Sizes;
  options: LocalClusterOptions;
}): Parts {
  const { layout, lock, ports, sizes, options } = from;
  for (const directory of [layout.logs, layout.root]) mkdirSync(directory, { recursive: true });
  if (!existsSync(layout.secret)) {
    const secret = randomBytes(32).toString("hex");
    writeWhole(layout.secret, `${secret}\n`);
  }
  const text = localConfigText(layout, ports, sizes);
  writeWhole(layout.config, text);
  const config = localConfig(layout, text);
  const child = (
    part: "master" | "worker" | "fuse",
    name: string,
    more: readonly string[],
    environment: Record<string, string>,
    beforeStart?: () => Promise<void>,
  ) =>
    new SupervisedChild(
      {
        name,
        program: process.execPath,
        args: [...argumentsOf(part), "--config", layout.config, ...more],
        // The SDK tells each process that a later version of it will want a later Node.
        environment: { AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED: "true", ...environment },
        ready: /^READY (\{.*\})$/m,
        ...(beforeStart === undefined ? {} : { beforeStart }),
      },
      layout,
      options.onEvent,
    );
  return {
    layout,
    config,
    lock,
    keep: options.keep,
    nats: new SupervisedChild(
      {
        name: "nats-server",
        program: from.nats,
        args: ["-a", "127.0.0.1", "-p", String(ports.nats)],
        environment: {},
        ready: /Server is ready/,
      },
      layout,
      options.onEvent,
    ),
    masters: config.masters.map(({ name }) =>
      child("master", name, ["--name", name], masterEnvironment(layout, name)),
    ),
    workers: workerNames.map((name) =>
      child("worker", name, [], {
        // A call of a store that hangs holds a thread.
        UV_THREADPOOL_SIZE: "32",
        ...workerEnvironment(layout, name, sizes),
      }),
    ),
    mount: options.fuse
      ? child("fuse", "fuse", ["--mount", layout.mountPoint], {}, () => prepareMountPoint(layout))
      : undefined,
  };
}

/** A file for its owner alone, whole or not at all: the next start with --keep reads it. */
function writeWhole(path: string, text: string): void {
  writeFileSync(`${path}.new`, text, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}

/** A crashed daemon leaves a dead mount, on which nothing can be mounted. */
async function prepareMountPoint(layout: Layout): Promise<void> {
  if (mountAt(layout.mountPoint) !== undefined) {
    abortConnection(layout.mountPoint);
    await unmount(layout.mountPoint);
  }
  mkdirSync(layout.mountPoint, { recursive: true });
}

/** Waits for a leader, all workers live, and the mount in the kernel's table. */
async function untilServing(parts: Parts, signal: AbortSignal): Promise<void> {
  const endMs = performance.now() + readyLimitMs;
  const connection = connectMasters(parts.config);
  try {
    for (;;) {
      const view = await viewThrough(connection, parts.config, 1000);
      const live = view.workers.filter((worker) => worker.state === "live").length;
      const mounted = parts.mount === undefined || mountAt(parts.layout.mountPoint) !== undefined;
      if (view.leader !== undefined && live >= parts.workers.length && mounted) return;
      if (performance.now() > endMs) {
        const seen = `leader ${view.leader ?? "none"}, ${String(live)} workers, ${mounted ? "mounted" : "not mounted"}`;
        throw new WeirError(
          "Unavailable",
          `Cannot bring the cluster up: after ${String(readyLimitMs / 1000)} s it has ${seen}. Logs: ${parts.layout.logs}`,
        );
      }
      await sleep(20, signal);
    }
  } finally {
    connection.close();
  }
}

async function takeDown(parts: Parts, options: { keepLogs: boolean }): Promise<void> {
  const { layout, mount } = parts;
  const others = [...parts.workers, ...parts.masters];
  for (const child of [parts.nats, ...others]) child.suspend();
  if (mount !== undefined) {
    await mount.stop(fuseGraceMs);
    if (mountAt(layout.mountPoint) !== undefined) abortConnection(layout.mountPoint);
    await unmount(layout.mountPoint);
  }
  await Promise.all(others.map((child) => child.stop(graceMs)));
  await Promise.all([parts.nats.stop(1000), stopS3(layout)]);
  if (!parts.keep) {
    wipeState(layout, options.keepLogs ? ["logs"] : []);
  }
  parts.lock.release();
  if (!parts.keep) removeIfEmpty(layout.run, layout.state);
  if (existsSync(layout.mountPoint)) removeIfEmpty(layout.mountPoint);
}

/** Removes directories that are empty, and leaves others alone. */
function removeIfEmpty(...directories: readonly string[]): void {
  for (const directory of directories) {
    try {
      rmdirSync(directory);
    } catch {
      // It holds something: not ours to remove.
    }
  }
}
