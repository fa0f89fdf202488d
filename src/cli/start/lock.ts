/**
 * The lock of a local cluster: one supervisor per state directory. The lock file holds the supervisor's identity and
 * comes into being whole (link(2) of a written file), so a killed supervisor's lock is told from a held one.
 */
import { linkSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { WeirError } from "../../lib/errors.ts";
import { readPidFile } from "./pid-file.ts";
import { identify, isAlive, type ProcessIdentity } from "./process-identity.ts";

export interface Lock {
  release(): void;
}

/**
 * Takes the lock at `path` for this process.
 * @throws WeirError `Busy` naming the process that holds it and the cure
 */
export function takeLock(path: string): Lock {
  mkdirSync(dirname(path), { recursive: true });
  const own = identify(process.pid);
  const draft = `${path}.${String(process.pid)}`;
  writeFileSync(draft, `${JSON.stringify(own)}\n`);
  try {
    for (let attempt = 0; attempt < 10; attempt++) {
      try {
        linkSync(draft, path);
        return { release: () => rmSync(path, { force: true }) };
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
      }
      const holder = lockHolder(path);
      if (holder !== undefined) {
        throw new WeirError(
          "Busy",
          `Cannot start: Weir is running here already (process ${String(holder.pid)}). ` +
            "Cure: use it, or end it first: npx weir stop",
        );
      }
      discardStale(path, draft);
    }
  } finally {
    rmSync(draft, { force: true });
  }
  throw new WeirError("Busy", `Cannot start: the lock "${path}" changes hands all the time`);
}

/** The live process that holds the lock, if one does. */
export function lockHolder(path: string): ProcessIdentity | undefined {
  const identity = readPidFile(path);
  return identity !== undefined && isAlive(identity) ? identity : undefined;
}

/** Moves a stale lock away; what a rival made of it in between is put back. */
function discardStale(path: string, draft: string): void {
  const aside = `${draft}.stale`;
  try {
    renameSync(path, aside);
  } catch {
    return;
  }
  if (lockHolder(aside) !== undefined) {
    try {
      linkSync(aside, path);
    } catch {
      // A third one has it now: the next attempt sees whom.
    }
  }
  rmSync(aside, { force: true });
}
