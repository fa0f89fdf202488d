import assert from "node:assert/strict";
import fc from "fast-check";
import type { InodeId, LineageId } from "../../src/lib/ids.ts";
import {
  ancestorsOf,
  buildGraph,
  childrenOf,
  descendantsOf,
  type LineageNode,
  parentsOf,
  topologicalOrder,
  wouldCycle,
} from "../../src/lineage/graph.ts";

const node = (id: number, inputs: number[], outputs: number[]): LineageNode => ({
  id: id as LineageId,
  inputs: inputs as InodeId[],
  outputs: outputs as InodeId[],
});

describe("the graph of lineages", () => {
  // 10 → (1) → 11, 12; 11 → (2) → 13; 12 → (3) → 14; 13, 14 → (4) → 15
  const diamond = buildGraph([
    node(4, [13, 14], [15]),
    node(2, [11], [13]),
    node(1, [10], [11, 12]),
    node(3, [12], [14]),
  ]);

  it("knows parents, children, ancestors and descendants", () => {
    assert.deepEqual(parentsOf(diamond, 4 as LineageId), [2, 3]);
    assert.deepEqual(parentsOf(diamond, 1 as LineageId), []);
    assert.deepEqual(childrenOf(diamond, 1 as LineageId), [2, 3]);
    assert.deepEqual(ancestorsOf(diamond, 4 as LineageId), [1, 2, 3]);
    assert.deepEqual(descendantsOf(diamond, 1 as LineageId), [2, 3, 4]);
    assert.deepEqual(descendantsOf(diamond, 4 as LineageId), []);
  });

  it("puts every lineage behind those that make its inputs", () => {
    assert.deepEqual(topologicalOrder(diamond), { order: [1, 2, 3, 4], cyclic: [] });
  });

  it("finds cycles, also those of one lineage with itself", () => {
    assert.equal(wouldCycle(diamond, node(5, [15], [10])), true);
    assert.equal(wouldCycle(diamond, node(5, [15], [16])), false);
    assert.equal(wouldCycle(diamond, node(5, [16], [16])), true);
    const cyclic = buildGraph([node(1, [1], [2]), node(2, [2], [1]), node(3, [], [9])]);
    assert.deepEqual(topologicalOrder(cyclic), { order: [3], cyclic: [1, 2] });
    assert.deepEqual(ancestorsOf(cyclic, 1 as LineageId), [1, 2]);
  });

  it("gives a file to the lineage that was recorded last", () => {
    const graph = buildGraph([node(2, [], [7]), node(1, [], [7]), node(3, [7], [8])]);
    assert.deepEqual(parentsOf(graph, 3 as LineageId), [2]);
    assert.deepEqual(childrenOf(graph, 1 as LineageId), []);
  });

  it("is the same whatever the order of the records", () => {
    fc.assert(
      fc.property(
        fc.uniqueArray(
          fc.record({
            id: fc.integer({ min: 1, max: 12 }),
            inputs: fc.array(fc.integer({ min: 1, max: 12 }), { maxLength: 3 }),
            outputs: fc.array(fc.integer({ min: 1, max: 12 }), { maxLength: 3 }),
          }),
          { selector: (each) => each.id, maxLength: 10 },
        ),
        fc.nat(),
        (records, seed) => {
          const nodes = records.map((each) => node(each.id, each.inputs, each.outputs));
          const turned = nodes.map((_, index) => nodes[(index + seed) % nodes.length]!).reverse();
          const [a, b] = [buildGraph(nodes), buildGraph(turned)];
          assert.deepEqual(topologicalOrder(a), topologicalOrder(b));
          for (const { id } of nodes) {
            assert.deepEqual(ancestorsOf(a, id), ancestorsOf(b, id));
            for (const below of descendantsOf(a, id)) {
              assert(
                ancestorsOf(a, below).includes(id),
                "descendants are the reverse of ancestors",
              );
            }
          }
        },
      ),
    );
  });
});
