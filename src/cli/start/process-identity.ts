/**
 * Which process a number stands for. A pid alone is recycled, so a process is known by its pid, the clock tick at which
 * it started and the boot it belongs to; a signal goes only to a process that still matches (Linux, proc(5)).
 */
import { readFileSync } from "node:fs";

export interface ProcessIdentity {
  readonly pid: number;
  /** Clock ticks since boot at which the process started (field 22 of /proc/PID/stat). */
  readonly startTicks: number;
  readonly bootId: string;
}

/** The process that has this pid now; undefined when there is none, or only a zombie. */
export function identify(pid: number): ProcessIdentity | undefined {
  let stat: string;
  let bootId: string;
  try {
    stat = readFileSync(`/proc/${String(pid)}/stat`, "latin1");
    bootId = readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
  } catch {
    return undefined;
  }
  return parseStat(pid, stat, bootId);
}

/** Parses /proc/PID/stat; the command name may hold blanks and brackets, so fields are counted from the last one. */
export function parseStat(pid: number, stat: string, bootId: string): ProcessIdentity | undefined {
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const state = fields[0];
  const startTicks = Number(fields[19]);
  if (state === "Z" || state === "X" || !Number.isSafeInteger(startTicks)) return undefined;
  return { pid, startTicks, bootId };
}

export function isAlive(identity: ProcessIdentity): boolean {
  const now = identify(identity.pid);
  return now?.startTicks === identity.startTicks && now.bootId === identity.bootId;
}

/** Sends a signal if the process is still the one that was meant; whether it was. */
export function signalProcess(identity: ProcessIdentity, signal: NodeJS.Signals): boolean {
  if (!isAlive(identity)) return false;
  try {
    process.kill(identity.pid, signal);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return false;
    throw error;
  }
}
