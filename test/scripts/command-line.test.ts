import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";

const root = join(import.meta.dirname, "../..");
const programs = {
  "scripts/mutants.ts": "Cannot plant bugs",
  "scripts/run-tests.ts": "Cannot run the tests",
  "bench/main.ts": "Cannot run a bench",
  "jepsen-like/main.ts": "Cannot run a workload",
  "test/sim/main.ts": "Cannot simulate",
};

function run(program: string, args: readonly string[], env: NodeJS.ProcessEnv = {}) {
  return spawnSync(process.execPath, ["--import", "tsx", program, ...args], {
    cwd: root,
    encoding: "utf8",
    env: { ...process.env, ...env },
  });
}

describe("our own programs", () => {
  for (const [program, sentence] of Object.entries(programs)) {
    it(`${program} shows its usage when asked, and refuses what it does not know with it`, () => {
      const help = run(program, ["--help"]);
      assert.deepEqual([help.status, help.stderr], [0, ""]);
      assert.match(help.stdout, /^Usage: npm /);
      const unknown = run(program, ["--nope"]);
      assert.deepEqual([unknown.status, unknown.stdout], [64, ""]);
      assert.equal(unknown.stderr, `${sentence}: Unknown option '--nope'\n\n${help.stdout}`);
    }).timeout(60_000);
  }

  it("scripts/run-tests.ts refuses to leave out what is no need, before it runs anything", () => {
    const ended = run("scripts/run-tests.ts", ["check"], { WEIR_TEST_WITHOUT: "fuze" });
    assert.deepEqual([ended.status, ended.stdout], [64, ""]);
    assert.match(
      ended.stderr,
      /^Cannot leave out "fuze" .*: wanted some of root, fuse, s3, netns\n/,
    );
  }).timeout(60_000);
});
