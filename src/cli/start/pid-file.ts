/** Pid files: one JSON line with a process's identity, so that a later start knows its own processes from strangers. */
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { identify, type ProcessIdentity } from "./process-identity.ts";

/** Writes `directory/name.pid` for a running process; false when it has ended already. */
export function writePidFile(directory: string, name: string, pid: number): boolean {
  const identity = identify(pid);
  if (identity === undefined) return false;
  writeFileSync(join(directory, `${name}.pid`), `${JSON.stringify(identity)}\n`);
  return true;
}

export function removePidFile(directory: string, name: string): void {
  rmSync(join(directory, `${name}.pid`), { force: true });
}

/** The identity in a pid file; undefined when the file is missing or cut short. */
export function readPidFile(path: string): ProcessIdentity | undefined {
  try {
    const value = JSON.parse(readFileSync(path, "utf8")) as Partial<ProcessIdentity>;
    if (
      typeof value.pid === "number" &&
      typeof value.startTicks === "number" &&
      typeof value.bootId === "string"
    ) {
      return { pid: value.pid, startTicks: value.startTicks, bootId: value.bootId };
    }
  } catch {
    // Missing, or written by a process that was killed half-way.
  }
  return undefined;
}

/** All pid files of a directory, by name. */
export function readPidFiles(directory: string): { name: string; identity: ProcessIdentity }[] {
  let files: string[];
  try {
    files = readdirSync(directory).sort();
  } catch {
    return [];
  }
  return files
    .filter((file) => file.endsWith(".pid"))
    .flatMap((file) => {
      const identity = readPidFile(join(directory, file));
      return identity === undefined ? [] : [{ name: file.slice(0, -".pid".length), identity }];
    });
}
