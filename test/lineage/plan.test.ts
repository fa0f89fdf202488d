import assert from "node:assert/strict";
import fc from "fast-check";
import type { InodeId, LineageId } from "../../src/lib/ids.ts";
import { buildGraph, type LineageNode } from "../../src/lineage/graph.ts";
import { planRecovery } from "../../src/lineage/plan.ts";

const node = (id: number, inputs: number[], outputs: number[]): LineageNode => ({
  id: id as LineageId,
  inputs: inputs as InodeId[],
  outputs: outputs as InodeId[],
});
const missing = (...inodes: number[]) => {
  const set = new Set<number>(inodes);
  return (inode: InodeId) => set.has(inode);
};
const files = (...inodes: number[]) => inodes as InodeId[];

describe("the plan of a recovery", () => {
  const chain = buildGraph([node(1, [10], [11]), node(2, [11], [12]), node(3, [12], [13])]);

  it("runs nothing when nothing is missing", () => {
    assert.deepEqual(planRecovery(chain, files(13), missing(11)), { ok: true, steps: [] });
  });

  it("runs only the last job when its inputs are there", () => {
    assert.deepEqual(planRecovery(chain, files(13), missing(13)), {
      ok: true,
      steps: [{ lineage: 3, after: [] }],
    });
  });

  it("L6: rebuilds inputs that are missing for whatever reason", () => {
    assert.deepEqual(planRecovery(chain, files(13), missing(11, 12, 13)), {
      ok: true,
      steps: [
        { lineage: 1, after: [] },
        { lineage: 2, after: [1] },
        { lineage: 3, after: [2] },
      ],
    });
  });

  it("does not rebuild what is missing behind an input that is there", () => {
    assert.deepEqual(planRecovery(chain, files(13), missing(11, 13)), {
      ok: true,
      steps: [{ lineage: 3, after: [] }],
    });
  });

  it("says which file cannot be made, and how it came to be needed", () => {
    assert.deepEqual(planRecovery(chain, files(13), missing(10, 11, 12, 13)), {
      ok: false,
      inode: 10,
      reason: "noMaker",
      chain: [13, 12, 11, 10],
    });
    const cyclic = buildGraph([node(1, [1], [2]), node(2, [2], [1])]);
    const plan = planRecovery(cyclic, files(2), missing(1, 2));
    assert.equal(plan.ok, false);
    assert.equal(plan.reason, "cycle");
  });

  it("lets independent jobs run at once", () => {
    const fan = buildGraph([node(1, [10], [11]), node(2, [10], [12]), node(3, [11, 12], [13])]);
    assert.deepEqual(planRecovery(fan, files(13), missing(11, 12, 13)), {
      ok: true,
      steps: [
        { lineage: 1, after: [] },
        { lineage: 2, after: [] },
        { lineage: 3, after: [1, 2] },
      ],
    });
  });

  it("is the smallest set that works, as trying all sets shows", () => {
    const lineages = fc.array(
      fc.record({
        inputs: fc.uniqueArray(fc.integer({ min: 0, max: 7 }), { maxLength: 3 }),
        outputs: fc.uniqueArray(fc.integer({ min: 0, max: 7 }), { minLength: 1, maxLength: 2 }),
      }),
      { maxLength: 6 },
    );
    const setOfFiles = fc.uniqueArray(fc.integer({ min: 0, max: 7 }));
    fc.assert(
      fc.property(lineages, setOfFiles, setOfFiles, (records, gone, wanted) => {
        // Outputs are unique: the later record owns a file that two claim.
        const nodes = records.map((each, index) =>
          node(
            index + 1,
            each.inputs,
            each.outputs.filter(
              (output) => !records.slice(index + 1).some((later) => later.outputs.includes(output)),
            ),
          ),
        );
        const isMissing = missing(...gone);
        const plan = planRecovery(buildGraph(nodes), wanted as InodeId[], isMissing);
        const best = smallestByTrying(nodes, wanted as InodeId[], isMissing);
        if (!plan.ok) {
          assert.equal(best, undefined, "there is a way, and the plan did not see it");
          assert(isMissing(plan.inode));
          assert(wanted.includes(plan.chain[0]!));
          return;
        }
        assert.equal(plan.steps.length, best, "as few jobs as possible");
        assert(
          works(
            plan.steps.map((step) => nodes[step.lineage - 1]!),
            wanted as InodeId[],
            isMissing,
          ),
        );
        const done = new Set<number>();
        for (const step of plan.steps) {
          const needs = nodes[step.lineage - 1]!.inputs.filter(isMissing);
          for (const input of needs) {
            const maker = nodes.find((each) => each.outputs.includes(input))!;
            assert(step.after.includes(maker.id), "waits for the maker of a missing input");
          }
          assert(
            step.after.every((id) => done.has(id)),
            "steps are in topological order",
          );
          done.add(step.lineage);
        }
      }),
      { numRuns: 500 },
    );
  });
});

/** Whether running `jobs` in this order finds all inputs and leaves all of `wanted`. */
function works(
  jobs: readonly LineageNode[],
  wanted: readonly InodeId[],
  isMissing: (inode: InodeId) => boolean,
): boolean {
  const made = new Set<InodeId>();
  const there = (inode: InodeId) => made.has(inode) || !isMissing(inode);
  for (const job of jobs) {
    if (!job.inputs.every(there)) return false;
    for (const output of job.outputs) made.add(output);
  }
  return wanted.every(there);
}

/** The size of the smallest set of jobs for which some order works. */
function smallestByTrying(
  nodes: readonly LineageNode[],
  wanted: readonly InodeId[],
  isMissing: (inode: InodeId) => boolean,
): number | undefined {
  let best: number | undefined;
  for (let bits = 0; bits < 1 << nodes.length; bits++) {
    const chosen = nodes.filter((_, index) => (bits & (1 << index)) !== 0);
    if (best !== undefined && chosen.length >= best) continue;
    // Greedy is enough to find an order: running a job never takes a file away.
    const order: LineageNode[] = [];
    const made = new Set<InodeId>();
    for (;;) {
      const next = chosen.find(
        (each) =>
          !order.includes(each) &&
          each.inputs.every((input) => made.has(input) || !isMissing(input)),
      );
      if (next === undefined) break;
      order.push(next);
      for (const output of next.outputs) made.add(output);
    }
    if (order.length === chosen.length && works(order, wanted, isMissing)) best = chosen.length;
  }
  return best;
}
