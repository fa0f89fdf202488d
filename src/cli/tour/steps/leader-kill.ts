/**
 * Step 4: kill -9 of the leader in the middle of a stream of creates. One client goes on all the time; every create that
 * it was told of is there afterwards, once, and another master leads.
 */
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { sleep } from "../../../lib/clock.ts";
import { countText, durationText } from "../../output.ts";
import { expectEqual, type Step, StepFailure, type TourContext } from "../step.ts";

const directory = "/tour/creates";
const streams = 8;
const beforeKillMs = 1000;
const afterRecoveryMs = 500;
const limitMs = 60_000;

interface Create {
  readonly name: string;
  readonly sentMs: number;
  readonly acknowledgedMs: number;
}

export const leaderKill: Step = {
  title: "Leader killed mid-stream",
  async run(tour) {
    const { cluster, runner, mount } = tour;
    await runner.weir(["fs", "mkdir", "--parents", directory]);
    const before = await leaderOf(tour);
    const child = cluster.masters.find((master) => master.name === before);
    if (child === undefined) throw new StepFailure("a leader of ours", before);
    const mountPid = cluster.mount?.pid;

    const load = new CreateLoad(tour);
    await sleep(beforeKillMs, tour.signal);
    const killedMs = performance.now();
    await child.kill();
    const next = await load.firstSentAfter(killedMs);
    await sleep(afterRecoveryMs, tour.signal);
    const acknowledged = await load.end();

    const counts = new Map<string, number>();
    const listed = await runner.weirJson<{ name: string }[]>(["fs", "ls", directory]);
    for (const { name } of listed) counts.set(name, (counts.get(name) ?? 0) + 1);
    const missing = acknowledged.filter(({ name }) => !counts.has(name)).length;
    expectEqual("acknowledged files that are missing", missing, 0, cluster.layout.logs);
    const twice = [...counts.values()].filter((count) => count > 1).length;
    expectEqual("files listed twice", twice, 0, cluster.layout.logs);
    if (mount !== undefined) {
      const names = new Set(await readdir(join(mount, directory)));
      const unseen = acknowledged.filter(({ name }) => !names.has(name)).length;
      expectEqual("acknowledged files that the mount does not show", unseen, 0, cluster.mount?.log);
      expectEqual(
        "process of the mount",
        cluster.mount?.pid ?? 0,
        mountPid ?? 0,
        cluster.mount?.log,
      );
    }
    const after = await leaderOf(tour);
    await child.ready(limitMs, tour.signal);
    const rate =
      acknowledged.filter(({ acknowledgedMs }) => acknowledgedMs < killedMs).length /
      (beforeKillMs / 1000);
    return [
      `${before} killed at ${rate.toFixed(0)} creates/s: next one acknowledged after ${durationText(next.acknowledgedMs - killedMs)}`,
      `${countText(acknowledged.length)} acknowledged, each there once`,
      `${after} leads`,
    ];
  },
};

/** Creates files side by side until it is told to end; a create that fails counts as not acknowledged. */
class CreateLoad {
  readonly #tour: TourContext;
  readonly #acknowledged: Create[] = [];
  readonly #streams: Promise<void>[];
  #ending = false;
  #lastError: unknown;

  constructor(tour: TourContext) {
    this.#tour = tour;
    this.#streams = Array.from({ length: streams }, (_, stream) => this.#run(stream));
  }

  /** The first create that was sent after `timeMs` and acknowledged. */
  async firstSentAfter(timeMs: number): Promise<Create> {
    const endMs = timeMs + limitMs;
    for (;;) {
      const found = this.#acknowledged.find(({ sentMs }) => sentMs > timeMs);
      if (found !== undefined) return found;
      if (performance.now() > endMs) {
        this.#ending = true;
        throw new StepFailure(
          `an acknowledged create within ${String(limitMs / 1000)} s of the kill`,
          this.#lastError instanceof Error ? this.#lastError.message : "none",
          this.#tour.cluster.layout.logs,
        );
      }
      await sleep(2, this.#tour.signal);
    }
  }

  async end(): Promise<readonly Create[]> {
    this.#ending = true;
    await Promise.all(this.#streams);
    return this.#acknowledged;
  }

  async #run(stream: number): Promise<void> {
    for (let number = 0; !this.#ending && !this.#tour.signal.aborted; number++) {
      const name = `${String(stream)}-${String(number).padStart(6, "0")}`;
      const sentMs = performance.now();
      try {
        await this.#tour.client.writeFile(`${directory}/${name}`, []);
        this.#acknowledged.push({ name, sentMs, acknowledgedMs: performance.now() });
      } catch (error) {
        this.#lastError = error;
        await sleep(10);
      }
    }
  }
}

async function leaderOf({ cluster, signal }: TourContext): Promise<string> {
  const endMs = performance.now() + limitMs;
  for (;;) {
    const { leader } = await cluster.view();
    if (leader !== undefined) return leader;
    if (performance.now() > endMs) throw new StepFailure("a leader", "none", cluster.layout.logs);
    await sleep(50, signal);
  }
}
