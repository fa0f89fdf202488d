import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { runCommand, runMocha } from "../../scripts/tests/execute.ts";
import { needsOf, patternOf, switchedOff } from "../../scripts/tests/needs.ts";
import { totalsLine } from "../../scripts/tests/tally.ts";
import { withTempDir } from "../lib/temp-dir.ts";

const sample = `
const { strictEqual } = require("node:assert");
describe("a suite", () => {
  it("passes", () => undefined);
  it("fails", () => strictEqual(1, 2));
  it.skip("is left for later", () => undefined);
});
describe("another suite [needs: fuse]", () => {
  it("mounts", () => undefined);
  it("unmounts", () => undefined);
});
`;

describe("the run of all tests", () => {
  it("ends with a line of totals that names skipped tests only where there are some", () => {
    assert.equal(totalsLine({ passed: 3, failed: 0, skipped: 0 }), "3 passed, 0 failed");
    assert.equal(totalsLine({ passed: 3, failed: 1, skipped: 2 }), "3 passed, 1 failed, 2 skipped");
  });

  it("counts what passed, failed and was left out by name", () =>
    withTempDir(async (directory) => {
      const file = join(directory, "sample.test.cjs");
      writeFileSync(file, sample);
      let printed = "";
      const print = (text: string) => void (printed += text);
      const all = await runMocha({ specs: [file], without: [], budgetMs: 60_000, print });
      assert.deepEqual(all, { passed: 3, failed: 1, skipped: 1 });
      const without = await runMocha({ specs: [file], without: ["fuse"], budgetMs: 60_000, print });
      assert.deepEqual(without, { passed: 1, failed: 1, skipped: 3 });
      assert.match(printed, /✗ a suite fails/);
    })).timeout(60_000);

  it("counts a run that crashes, hangs or says nothing as failed", () =>
    withTempDir(async (directory) => {
      const write = (name: string, text: string) => {
        const file = join(directory, name);
        writeFileSync(file, text);
        return file;
      };
      const crash = write(
        "crash.test.cjs",
        'it("passes", () => undefined); process.on("exit", () => process.kill(process.pid, "SIGKILL"));',
      );
      const hang = write(
        "hang.test.cjs",
        'it("hangs", () => new Promise(() => setInterval(() => undefined, 1000))).timeout(0);',
      );
      let printed = "";
      const print = (text: string) => void (printed += text);
      assert.equal(
        (await runMocha({ specs: [crash], without: [], budgetMs: 60_000, print })).failed,
        1,
      );
      assert.equal(
        (await runMocha({ specs: [hang], without: [], budgetMs: 4000, print })).failed,
        1,
      );
      const command = ["sh", "-c", "exit 3"];
      assert.equal((await runCommand({ name: "x", command, budgetMs: 60_000, print })).failed, 1);
      assert.match(printed, /longer than its budget/);
    })).timeout(60_000);

  it("finds the needs in the titles, and refuses to leave out what is no need", () =>
    withTempDir(async (directory) => {
      mkdirSync(join(directory, "a"));
      const file = join(directory, "a", "b.test.ts");
      writeFileSync(file, sample);
      assert.deepEqual(needsOf([file]), ["fuse"]);
      assert.deepEqual(switchedOff(" fuse, s3 "), ["fuse", "s3"]);
      assert.deepEqual(switchedOff(undefined), []);
      assert.throws(() => switchedOff("fuze"), /Cannot leave out "fuze".*root, fuse, s3, netns/);
      assert.match("x [needs: s3] y", new RegExp(patternOf(["fuse", "s3"])));
    }));
});
