/**
 * Step 5: a recorded job makes a file of which one worker has the only copy; that worker is killed and its memory
 * wiped; reading the file brings the right bytes, because the job was run again.
 */
import { createWriteStream } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import type { SupervisedChild } from "../../start/child.ts";
import { removeTree } from "../../start/remove-tree.ts";
import { workerTiers } from "../../start/local-config.ts";
import { bytesText, durationText } from "../../output.ts";
import { filesBelow } from "../data.ts";
import { expectEqual, type Step, StepFailure, type TourContext } from "../step.ts";

const input = "/tour/text";
const output = "/tour/text.sorted";
const inputBytes = 8_000_000;
const recoveryLimitMs = 120_000;

interface Location {
  readonly worker: number;
  readonly address: string;
}

interface Lineage {
  readonly id: number;
  readonly state: string;
  readonly attempts: readonly {
    readonly worker: number;
    readonly durationMs?: number;
    readonly exitCode?: number;
  }[];
}

export const lostOutput: Step = {
  title: "Lost output made again",
  async run(tour) {
    const { cluster, runner } = tour;
    const text = await makeInput(tour);
    await runner.weir(["fs", "mkdir", "--parents", "/tour"]);
    await runner.weir(["fs", "put", text, input]);
    await runner.weir(["fs", "persist", "--wait", input]);
    const expected = hashOf(
      (await runner.run("sh", ["-c", 'sort "$1" | sha256sum', "sh", text])).stdout,
    );

    const { id } = await runner.weirJson<Lineage>([
      ...["lineage", "record", "--in", input, "--out", output, "--env", "LC_ALL=C"],
      ...["--", "sort", "-o", "{out}", "{in}"],
    ]);
    const first = await runner.weirJson<Lineage>(["lineage", "run", String(id)]);
    expectEqual("state of the lineage", first.state, "done", cluster.layout.logs);

    const locations = await runner.weirJson<{ locations: Location[] }>(["fs", "locations", output]);
    expectEqual("copies of the output", locations.locations.length, 1, cluster.layout.logs);
    const holder = childAt(tour, locations.locations[0]!);
    const lostMs = performance.now();
    holder.suspend();
    await holder.kill();
    wipeTiers(tour, holder.name);
    try {
      const got = hashOf((await readOutput(tour)).stdout);
      const recoveredMs = performance.now() - lostMs;
      expectEqual("sha256 of the output", got, expected, cluster.layout.logs);
      const after = await runner.weirJson<Lineage>(["lineage", "show", String(id)]);
      const again = after.attempts.length - first.attempts.length;
      if (again < 1) {
        throw new StepFailure("the job to be run again", "no further attempt", cluster.layout.logs);
      }
      const jobMs = after.attempts.at(-1)?.durationMs;
      return [
        `${holder.name}, with the only copy of a sort of ${bytesText(inputBytes)}, killed and wiped`,
        `right bytes by ${tour.mount === undefined ? "weir fs checksum" : "cat"} after ${durationText(recoveredMs)}`,
        `job run again${jobMs === undefined ? "" : ` (${durationText(jobMs)})`}`,
      ];
    } finally {
      await holder.start();
      await holder.ready(30_000, tour.signal);
    }
  },
};

/** Text of this machine's real files, one after another, in a file of its own. */
async function makeInput({ data, scratch }: TourContext): Promise<string> {
  const path = join(scratch, "text");
  await pipeline(firstBytes(data), createWriteStream(path));
  return path;
}

async function* firstBytes(directory: string): AsyncGenerator<Uint8Array> {
  let left = inputBytes;
  while (left > 0) {
    const before = left;
    for await (const { path, size } of filesBelow(directory)) {
      if (size === 0 || size > inputBytes / 4) continue;
      const file = await open(path);
      try {
        for await (const chunk of file.createReadStream({ autoClose: false, end: left - 1 })) {
          left -= (chunk as Buffer).length;
          yield chunk as Buffer;
        }
      } finally {
        await file.close();
      }
      if (left <= 0) break;
    }
    if (left === before) throw new StepFailure(`some files in ${directory}`, "none with content");
  }
}

function childAt({ cluster }: TourContext, { address, worker }: Location): SupervisedChild {
  const port = Number(address.slice(address.lastIndexOf(":") + 1));
  const child = cluster.workers.find((each) => each.readiness()?.port === port);
  if (child !== undefined) return child;
  throw new StepFailure(
    `worker ${String(worker)} at ${address} to be one of ours`,
    "none has that port",
  );
}

function wipeTiers({ cluster }: TourContext, worker: string): void {
  // The sizes do not matter, but that there are two tiers.
  const sizes = { blockSizeBytes: 1, memoryQuotaBytes: 1, diskQuotaBytes: 1 };
  for (const tier of workerTiers(cluster.layout, worker, sizes)) {
    for (const directory of tier.directories) removeTree(directory);
  }
}

async function readOutput({ runner, mount }: TourContext) {
  const options = { limitMs: recoveryLimitMs };
  if (mount === undefined) return runner.weir(["fs", "checksum", output], options);
  return runner.run("sh", ["-c", 'cat "$1" | sha256sum', "sh", join(mount, output)], options);
}

function hashOf(stdout: string): string {
  return stdout.split(" ")[0]!.trim();
}
