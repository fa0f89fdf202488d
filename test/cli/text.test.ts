import assert from "node:assert/strict";
import * as fc from "fast-check";
import { inWordsOf } from "../../src/cli/attempt.ts";
import { modeText } from "../../src/cli/commands/file-text.ts";
import { lineageSheet, lineageValue } from "../../src/cli/commands/lineage.ts";
import {
  bytesText,
  countOf,
  countText,
  durationText,
  type Output,
  outputTo,
  table,
} from "../../src/cli/output.ts";
import { parsePath, showMessage, showPath } from "../../src/cli/paths.ts";
import { failedRecord, stepText, summaryText } from "../../src/cli/tour/line.ts";
import { StepFailure } from "../../src/cli/tour/step.ts";
import { WeirError } from "../../src/lib/errors.ts";
import type { LineageInfo } from "../../src/rpc/namespace.ts";

const plain: Output = { json: false, colour: false, write: () => undefined };

describe("paths at the edge", () => {
  it("keep every text through the namespace and back", () => {
    fc.assert(
      fc.property(fc.array(fc.string({ minLength: 1, unit: "grapheme" })), (names) => {
        const clean = names.filter((name) => !/[/\0]|^\.{1,2}$/.test(name));
        const path = `/${clean.join("/")}`;
        assert.equal(showPath(parsePath(path)), path);
      }),
    );
  });

  it("are one character per byte inside", () => {
    assert.equal(parsePath("/ü").length, 3);
    assert.equal(parsePath("//a/./b/"), "/a/b");
    assert.throws(() => parsePath("/a/../b"), /contains "\.\."/);
  });

  it("show bytes that are no text as escapes", () => {
    assert.equal(showPath("/a\u00ff"), "/a\\xff");
    assert.equal(showMessage("Cannot read “x”…"), "Cannot read “x”…");
  });
});

describe("figures for people", () => {
  it("have three digits and a unit", () => {
    assert.deepEqual([0, 999, 1000, 98_932_688, 104_857_600, 1e12].map(bytesText), [
      "0 B",
      "999 B",
      "1.00 kB",
      "98.9 MB",
      "105 MB",
      "1.00 TB",
    ]);
    assert.deepEqual([1.234, 14.4, 2310, 185_000].map(durationText), [
      "1.2 ms",
      "14 ms",
      "2.31 s",
      "3 min 5 s",
    ]);
    assert.deepEqual([7, 1234, 1_234_567].map(countText), ["7", "1,234", "1,234,567"]);
    assert.deepEqual(
      [0, 1, 2000].map((count) => countOf(count, "file")),
      ["0 files", "1 file", "2,000 files"],
    );
  });

  it("stand in columns, numbers to the right", () => {
    assert.equal(
      table(
        ["NAME", "SIZE"],
        [
          ["ä", 5],
          ["long name", 1000],
        ],
      ),
      "NAME       SIZE\nä             5\nlong name  1000\n",
    );
  });

  it("modes look as in ls", () => {
    assert.equal(modeText({ kind: "directory", mode: 0o1777 }), "drwxrwxrwt");
    assert.equal(modeText({ kind: "file", mode: 0o4755 }), "-rwsr-xr-x");
    assert.equal(modeText({ kind: "symlink", mode: 0o2640 }), "lrw-r-S---");
  });

  it("are coloured only for a terminal whose user did not refuse", () => {
    const write = () => undefined;
    const options = (environment: Record<string, string>) => ({ json: false, environment });
    assert.equal(outputTo({ write, isTTY: true }, options({})).colour, true);
    assert.equal(outputTo({ write, isTTY: true }, options({ NO_COLOR: "1" })).colour, false);
    assert.equal(outputTo({ write }, options({})).colour, false);
  });
});

describe("a failure in the words of the command", () => {
  const doing = { verb: "make", subjects: ["/a/dir"] };
  for (const [message, wanted] of [
    ['Cannot create "dir" in directory 1: it exists', "it exists"],
    ['Cannot create "x: y" in directory 1: it: exists', 'at "x: y": it: exists'],
    ["Cannot locate inode 4: it is a directory", "it is a directory"],
    ['Cannot find "/a": no such file', 'cannot find "/a": no such file'],
    ['Cannot find "/a/dir": no such file', "no such file"],
    ["Cannot talk to 127.0.0.1:1: it is silent", "cannot talk to 127.0.0.1:1: it is silent"],
    ["Cannot go on", "cannot go on"],
  ] as const) {
    it(`says for '${message}': ${wanted}`, () => {
      const before = new WeirError("Busy", message, { outcome: "unknown" });
      const { message: shown, code, outcome, cause } = inWordsOf(doing, before);
      assert.equal(shown, `Cannot make "/a/dir": ${wanted}`);
      assert.deepEqual([code, outcome, cause], ["Busy", "unknown", before]);
    });
  }

  it("is left alone when it begins so already", () => {
    const before = new WeirError("Busy", 'Cannot make "/a/dir": it is there');
    assert.equal(inWordsOf(doing, before), before);
  });
});

describe("a lineage", () => {
  const lineage = {
    id: 1,
    state: "done",
    job: { argv: ["sort"], timeoutMs: 1000 },
    inputs: [],
    outputs: [],
    attempts: [
      { epoch: 4711, worker: 1, startedMs: 114_200, durationMs: 5, exitCode: 1, error: "bad" },
      { epoch: 4800, worker: 2, startedMs: 2_000_900, durationMs: 37, exitCode: 0 },
    ],
  } as unknown as LineageInfo;

  it("numbers its attempts, and tells their start as the cluster's own time", () => {
    const text = lineageSheet(lineage);
    assert.match(text, /\n +1 +4711 +1 +114 s after the cluster began +5\.0 ms +1 +bad\n/);
    assert.match(text, /\n +2 +4800 +2 +2,000 s after the cluster began/);
    assert.doesNotMatch(text, /1970/);
  });

  it("keeps that time in JSON under a name that promises no date", () => {
    const [first] = lineageValue(lineage)["attempts"] as Record<string, unknown>[];
    assert.equal(first?.["startedClusterTimeMs"], 114_200);
    assert.equal("startedMs" in first, false);
  });
});

describe("a line of the tour", () => {
  const step = { number: 2, title: "A real tree, read back", durationMs: 8420 };

  it("has the number, a mark, the title, the time and the figures", () => {
    const record = { ...step, passed: true, figures: ["4,367 files", "no difference"] };
    assert.equal(
      stepText(record, plain),
      " 2 ✓ A real tree, read back         8.42 s  4,367 files · no difference\n",
    );
  });

  it("of a failed step says what was expected, what came, and the log", () => {
    const text = stepText(
      failedRecord(step, new StepFailure("a", "b", "/logs/x.log"), "/logs"),
      plain,
    );
    assert.match(text, /^ 2 ✗ A real tree, read back/);
    assert.match(text, /\n {5}expected {2}a\n {5}got {7}b\n {5}log {7}\/logs\/x\.log\n$/);
  });

  it("of a step that threw anything else says what was thrown", () => {
    const text = stepText(failedRecord(step, new Error("no such thing"), "/logs"), plain);
    assert.match(text, /expected {2}no error\n {5}got {7}no such thing\n {5}log {7}\/logs\n/);
  });

  it("sums up which steps failed, and gives advice only while the cluster stays", () => {
    const good = { ...step, passed: true, figures: [] };
    const bad = failedRecord({ ...step, title: "Leader killed" }, new Error("x"), "/logs");
    const about = { number: 3, logs: "/logs", mount: "/mnt", keep: false, leftOut: [] as string[] };
    const failed = summaryText(
      [good, bad],
      { ...about, once: true, leftOut: ["the mount"] },
      plain,
    );
    assert.match(
      failed,
      /^ 3 ✗ Summary .* 1 passed, 1 failed: Leader killed · logs \/logs · left out: the mount\n$/,
    );
    const gone = summaryText([good], { ...about, once: true, keep: false }, plain);
    assert.match(gone, /all 1 steps passed · logs and state are removed\n$/);
    const kept = summaryText([good], { ...about, once: true, keep: true }, plain);
    assert.match(kept, /all 1 steps passed · logs \/logs\n$/);
    const passed = summaryText([good], { ...about, once: false }, plain);
    assert.match(passed, /^ 3 ✓ Summary .* all 1 steps passed/);
    assert.match(passed, /npx weir status/);
  });
});
