import assert from "node:assert/strict";
import { join } from "node:path";
import { allMutants } from "../../scripts/mutants/all.ts";
import { misplaced } from "../../scripts/mutants/mutant.ts";

const root = join(import.meta.dirname, "../..");

describe("planted bugs", () => {
  it("fit the sources: code that changes takes its planted bugs along (npm run mutants)", () => {
    assert.deepEqual(
      allMutants.flatMap((mutant) => misplaced(root, mutant)),
      [],
    );
  });

  it("have names of their own", () => {
    assert.equal(new Set(allMutants.map(({ name }) => name)).size, allMutants.length);
  });
});
