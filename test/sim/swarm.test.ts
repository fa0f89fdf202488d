/** A swarm whose seeds hang, or that is interrupted. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { eventually } from "../lib/eventually.ts";
import { runSwarm } from "./swarm.ts";

const program = new URL("./stuck-swarm-child.ts", import.meta.url);

describe("A swarm of seeds", function () {
  this.timeout(60_000);

  it("ends a seed that hangs, names it, and goes on with the others", async () => {
    const options = { first: 1, seeds: 14, steps: 200, jobs: 1, patienceMs: 5000, program };
    const { totals } = await runSwarm(options);
    const claim = "no end within 5 s";
    assert.deepEqual(totals.failed, [
      { seed: 3, claim },
      { seed: 13, claim },
    ]);
    assert.equal(totals.seeds, 14);
    const clusters = Object.values(totals.clusters).reduce((sum, count) => sum + count, 0);
    assert.equal(clusters, 12, "seeds that came to an end are lost");
  });

  it("gives what is known when it is interrupted, also while a seed hangs", async () => {
    const interruption = new AbortController();
    const { signal } = interruption;
    let ended = 0;
    const onSeed = () => {
      ended++;
      // The third hangs.
      if (ended === 2) interruption.abort();
    };
    const options = { first: 1, seeds: 40, steps: 200, jobs: 1, program };
    const { totals } = await runSwarm({ ...options, signal, onSeed });
    assert.equal(totals.seeds, 2);
    assert.deepEqual(totals.failed, []);
  });

  for (const [name, status] of [
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const) {
    it(`prints its totals so far on ${name}, and leaves no process`, async () => {
      const main = fileURLToPath(new URL("./main.ts", import.meta.url));
      const args = ["--import", "tsx", main, "--seed", "1", "--seeds", "1000000", "--jobs", "1"];
      // A group of its own, all of which gets the signal, as from a terminal.
      const child = spawn(process.execPath, args, { detached: true });
      try {
        const out = text(child.stdout);
        const errors = text(child.stderr);
        const exited = once(child, "exit") as Promise<[number | null]>;
        await eventually("a process of the swarm", () => hasSwarm(child.pid!));
        process.kill(-child.pid!, name);
        const [code] = await exited;
        assert.equal(code, status, await errors);
        assert.match(
          await out,
          /^Seeds from 1: 0 of \d+, interrupted before 1000000, fail\n\d+ seeds? in /u,
        );
        // Its output is at its end: nobody is left who holds it.
      } finally {
        child.kill("SIGKILL");
      }
    });
  }
});

/** Whether a child of the process runs seeds. */
async function hasSwarm(pid: number): Promise<boolean> {
  const children = await readFile(`/proc/${pid}/task/${pid}/children`, "utf8");
  const commands = children
    .split(" ")
    .filter((each) => each !== "")
    .map((each) => readFile(`/proc/${each}/cmdline`, "utf8").catch(() => ""));
  return (await Promise.all(commands)).some((each) => each.includes("swarm-child"));
}
