/** Every known bug of consensus that others had is a test here, and docs/testing.md says which. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const root = join(import.meta.dirname, "../..");
const cases = Array.from({ length: 25 }, (_, i) => `R${i + 1}`);

/** Rows of the table: case, claim, file, transcripts. */
function rowsOf(document: string): (readonly [string, string, string, string])[] {
  const row = /^\| (R\d+) \| (.+) \| `(.+)` \| (.+) \|$/gm;
  return [...document.matchAll(row)].map(
    ([, ...cells]) => cells as [string, string, string, string],
  );
}

describe("cases of consensus", () => {
  it("have a test each that is named after them", () => {
    const tests = readdirSync(join(root, "test"), { recursive: true, encoding: "utf8" })
      .filter((file) => file.endsWith(".ts"))
      .map((file) => readFileSync(join(root, "test", file), "utf8"));
    const missing = cases.filter((name) => !tests.some((text) => text.includes(`it("${name}: `)));
    assert.deepEqual(missing, []);
  });

  it("are all in the table of docs/testing.md, which names tests and transcripts that exist", () => {
    const rows = rowsOf(readFileSync(join(root, "docs/testing.md"), "utf8"));
    assert.deepEqual(
      rows.map(([name]) => name),
      cases,
    );
    for (const [name, claim, file, transcripts] of rows) {
      const text = readFileSync(join(root, "test", file), "utf8");
      assert.ok(text.includes(`it("${name}: ${claim}"`), `${file} has no test "${name}: ${claim}"`);
      for (const transcript of transcripts === "–" ? [] : transcripts.split(", ")) {
        const path = join(root, "test/raft/transcripts", `${transcript}.txt`);
        assert.ok(existsSync(path), `there is no transcript "${transcript}"`);
      }
    }
  });
});
