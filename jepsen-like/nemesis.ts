/**
 * Faults on a schedule that a seed fixes: what is done to whom and when. Faults of one kind never overlap on one
 * process, and a majority of masters is always left unharmed, so that unavailability has an end.
 */
import { sleep } from "../src/lib/clock.ts";
import type { Random } from "../src/lib/clock.ts";
import type { ControlledProcess } from "../test/lib/local-cluster.ts";

export type FaultKind = "kill-leader" | "pause-leader" | "kill-follower" | "kill-worker";

export const faultKinds: readonly FaultKind[] = [
  "kill-leader",
  "pause-leader",
  "kill-follower",
  "kill-worker",
];

export interface Fault {
  readonly kind: FaultKind;
  /** Quiet time before it. */
  readonly afterMs: number;
  /** How long the process stays down or paused. */
  readonly lastsMs: number;
}

/** The faults of a run: about one every three seconds, each lasting 0.5 to 3 s. */
export function schedule(
  random: Random,
  kinds: readonly FaultKind[],
  durationMs: number,
): readonly Fault[] {
  const faults: Fault[] = [];
  let elapsedMs = 0;
  while (kinds.length > 0) {
    const fault: Fault = {
      kind: kinds[random.below(kinds.length)]!,
      afterMs: 800 + random.below(2000),
      lastsMs: 500 + random.below(2500),
    };
    elapsedMs += fault.afterMs + fault.lastsMs;
    if (elapsedMs > durationMs) break;
    faults.push(fault);
  }
  return faults;
}

/** What a fault needs to know of the cluster. */
export interface Victims {
  readonly masters: readonly ControlledProcess[];
  readonly workers: readonly ControlledProcess[];
  /** Name of the present leader, by asking the masters. */
  leader(): Promise<string | undefined>;
}

/** What was done, for the report. */
export interface InflictedFault extends Fault {
  readonly victim: string;
  readonly beganNs: bigint;
  readonly endedNs: bigint;
}

/** Inflicts the faults one after the other and heals each; resolves when the last is healed. */
export async function inflict(
  faults: readonly Fault[],
  victims: Victims,
  random: Random,
): Promise<InflictedFault[]> {
  const inflicted: InflictedFault[] = [];
  for (const fault of faults) {
    await sleep(fault.afterMs);
    const victim = await choose(fault.kind, victims, random);
    if (victim === undefined) continue;
    const beganNs = process.hrtime.bigint();
    if (fault.kind === "pause-leader") {
      victim.pause();
      await sleep(fault.lastsMs);
      victim.resume();
    } else {
      await victim.kill();
      await sleep(fault.lastsMs);
      victim.start();
      await victim.ready();
    }
    inflicted.push({
      ...fault,
      victim: victim.name,
      beganNs,
      endedNs: process.hrtime.bigint(),
    });
  }
  return inflicted;
}

async function choose(
  kind: FaultKind,
  victims: Victims,
  random: Random,
): Promise<ControlledProcess | undefined> {
  if (kind === "kill-worker") return victims.workers[random.below(victims.workers.length)];
  const leader = await victims.leader();
  if (leader === undefined) return undefined;
  if (kind !== "kill-follower") return victims.masters.find((master) => master.name === leader);
  const followers = victims.masters.filter((master) => master.name !== leader);
  return followers[random.below(followers.length)];
}
