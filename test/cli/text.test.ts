import assert from "node:assert/strict";
import * as fc from "fast-check";
import { modeText } from "../../src/cli/commands/file-text.ts";
import {
  bytesText,
  countText,
  durationText,
  type Output,
  outputTo,
  table,
} from "../../src/cli/output.ts";
import { parsePath, showMessage, showPath } from "../../src/cli/paths.ts";
import { failedRecord, stepText, summaryText } from "../../src/cli/tour/line.ts";
import { StepFailure } from "../../src/cli/tour/step.ts";

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
    const about = { number: 3, logs: "/logs", mount: "/mnt", leftOut: ["the mount"] };
    const failed = summaryText([good, bad], { ...about, once: true }, plain);
    assert.match(
      failed,
      /^ 3 ✗ Summary .* 1 passed, 1 failed: Leader killed · logs \/logs · left out: the mount\n$/,
    );
    const passed = summaryText([good], { ...about, once: false }, plain);
    assert.match(passed, /^ 3 ✓ Summary .* all 1 steps passed/);
    assert.match(passed, /npx weir status/);
  });
});
