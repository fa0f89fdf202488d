/**
 * What a start that was killed left behind: processes that still match their pid files, a mount whose daemon is gone,
 * directories on tmpfs. Called with the lock held, so nothing here belongs to a live supervisor.
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { sleep } from "../../lib/clock.ts";
import { WeirError } from "../../lib/errors.ts";
import type { Layout } from "./layout.ts";
import { abortConnection, isOurs, mountAt, unmount } from "./mounts.ts";
import { readPidFiles, removePidFile } from "./pid-file.ts";
import { isAlive, signalProcess } from "./process-identity.ts";
import { removeTree } from "./remove-tree.ts";
import { stopS3 } from "./s3-server.ts";

const supervisorName = "supervisor";
const graceMs = 3000;

/** Ends and removes leftovers; resolves with a line for each thing that was done. */
export async function clearLeftovers(layout: Layout): Promise<string[]> {
  const done: string[] = [];
  const left = readPidFiles(layout.run).filter(({ name }) => name !== supervisorName);
  // The mount first: while its daemon lives it ends in order. Nothing here looks into it, which might wait for ever.
  if (isOurs(mountAt(layout.mountPoint))) {
    const served = left.some(({ name, identity }) => name === "fuse" && isAlive(identity));
    if (!served) abortConnection(layout.mountPoint);
    if (!(await unmount(layout.mountPoint))) {
      throw new WeirError(
        "Busy",
        `Cannot take away the mount at "${layout.mountPoint}" that an earlier start left. ` +
          `Cure: fusermount -u -z "${layout.mountPoint}"`,
      );
    }
    done.push(`took away the ${served ? "mount" : "dead mount"} at ${layout.mountPoint}`);
  }
  const alive = left.filter(({ identity }) => signalProcess(identity, "SIGTERM"));
  for (const { name, identity } of alive) {
    done.push(`ended ${name} (process ${String(identity.pid)})`);
  }
  await untilGone(
    alive.map(({ identity }) => identity),
    graceMs,
  );
  for (const { identity } of alive) signalProcess(identity, "SIGKILL");
  await untilGone(
    alive.map(({ identity }) => identity),
    graceMs,
  );
  for (const { name } of left) removePidFile(layout.run, name);
  await stopS3(layout);
  return done;
}

/** Removes the state below `.weir` but for the lock and the names in `except`, and the memory tiers. */
export function wipeState(layout: Layout, except: readonly string[] = []): void {
  for (const name of safeList(layout.state)) {
    if (name !== "run" && !except.includes(name)) removeTree(join(layout.state, name));
  }
  removeTree(layout.memory);
}

function safeList(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

async function untilGone(
  identities: readonly Parameters<typeof isAlive>[0][],
  limitMs: number,
): Promise<void> {
  const endMs = performance.now() + limitMs;
  while (identities.some(isAlive) && performance.now() < endMs) await sleep(20);
}
