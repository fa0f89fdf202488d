/** One mount, from its checks to its end. */
import { writeFile } from "node:fs/promises";
import type { FileSystem } from "../client/file-system.ts";
import { sleep } from "../lib/clock.ts";
import type { Config } from "../lib/config.ts";
import { hasCode } from "../lib/errors.ts";
import type { Logger } from "../lib/logger.ts";
import { checkMachine, mountedAt, prepareMountPoint, unmount } from "./mount-point.ts";
import { loadFuse, mountNative } from "./native.ts";
import { PosixOperations } from "./operations.ts";

/** How long the end of a mount waits for the kernel to let open files go. */
const drainMs = 2000;
const watchEveryMs = 1000;
/** Read-ahead of the kernel for the mount: enough requests to keep the workers busy. */
const readAheadKiB = 1024;

export interface RunningMount {
  readonly mountPoint: string;
  /** Settles when somebody else unmounted it. */
  readonly gone: Promise<void>;
  /** Unmounts, lazily when it is in use, and closes what is open. */
  stop(): Promise<void>;
}

/**
 * Mounts `fileSystem` at `config.fuse.mountPoint`.
 * @throws WeirError one line with the cure: no /dev/fuse, no permission on it, fusermount or libfuse missing, mount point
 *   in use or not empty
 */
export async function startFuse(
  config: Config,
  fileSystem: FileSystem,
  logger: Logger,
): Promise<RunningMount> {
  const { mountPoint, allowOther, readOnly, kernelCacheMs } = config.fuse;
  loadFuse();
  await checkMachine();
  await prepareMountPoint(mountPoint, logger);
  const operations = new PosixOperations(fileSystem, {
    readOnly,
    owner: { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 },
  });
  await mountNative(operations, { mountPoint, allowOther, readOnly, kernelCacheMs }, logger);
  await widenReadAhead(mountPoint, logger);

  let stopping = false;
  let onGone: () => void;
  const gone = new Promise<void>((resolve) => {
    onGone = resolve;
  });
  const watch = setInterval(() => {
    void mountedAt(mountPoint).then((mounted) => {
      if (mounted === undefined && !stopping) onGone();
    });
  }, watchEveryMs);
  watch.unref();

  return {
    mountPoint,
    gone,
    stop: async () => {
      if (stopping) return;
      stopping = true;
      clearInterval(watch);
      if ((await mountedAt(mountPoint)) !== undefined) {
        await unmount(mountPoint, { lazy: false }).catch(async (error: unknown) => {
          if (!hasCode(error, "Busy")) throw error;
          logger.warn({ mountPoint }, "the mount is in use, it is taken away from its users");
          await unmount(mountPoint, { lazy: true });
        });
      }
      for (let waitedMs = 0; operations.openHandles > 0 && waitedMs < drainMs; waitedMs += 20) {
        await sleep(20);
      }
      for (const failure of await operations.releaseAll()) {
        logger.error(
          { error: String(failure) },
          "a file could not be closed, its last writes are lost",
        );
      }
    },
  };
}

/** As root the kernel's read-ahead of the mount can be set; else its default stays. */
async function widenReadAhead(mountPoint: string, logger: Logger): Promise<void> {
  const mounted = await mountedAt(mountPoint);
  if (mounted === undefined || process.getuid?.() !== 0) return;
  const setting = `/sys/class/bdi/${mounted.device}/read_ahead_kb`;
  await writeFile(setting, String(readAheadKiB)).catch((error: unknown) => {
    logger.debug({ setting, error: String(error) }, "the kernel's read-ahead stays as it is");
  });
}
