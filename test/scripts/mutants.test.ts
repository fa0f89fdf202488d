import assert from "node:assert/strict";
import { join } from "node:path";
import { coreMutants } from "../../scripts/mutants/core-bugs.ts";
import { hostMutants } from "../../scripts/mutants/host-bugs.ts";
import { journalMutants } from "../../scripts/mutants/journal-bugs.ts";
import { misplaced } from "../../scripts/mutants/mutant.ts";
import { stateMutants } from "../../scripts/mutants/state-bugs.ts";

const root = join(import.meta.dirname, "../..");
const all = [...coreMutants, ...hostMutants, ...journalMutants, ...stateMutants];

describe("planted bugs", () => {
  it("fit the sources: code that changes takes its planted bugs along (npm run mutants)", () => {
    assert.deepEqual(
      all.flatMap((mutant) => misplaced(root, mutant)),
      [],
    );
  });

  it("have names of their own", () => {
    assert.equal(new Set(all.map(({ name }) => name)).size, all.length);
  });
});
