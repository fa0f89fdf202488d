/**
 * What to run to have files again.
 *
 * A file has at most one lineage that makes it, so the smallest set is unique: the makers of the wanted files that are
 * missing, the makers of their missing inputs, and so on. An input counts as missing whether its keepers died, it was
 * evicted, freed, or never made.
 */
import type { InodeId, LineageId } from "../lib/ids.ts";
import {
  buildGraph,
  type LineageGraph,
  type LineageNode,
  parentsOf,
  topologicalOrder,
} from "./graph.ts";

export interface PlanStep {
  readonly lineage: LineageId;
  /** Steps of this plan that must be done before, ascending. Steps that do not wait for each other may run at once. */
  readonly after: readonly LineageId[];
}

export type Plan =
  | { readonly ok: true /** In topological order. */; readonly steps: readonly PlanStep[] }
  | {
      readonly ok: false;
      /** What cannot be made again. */
      readonly inode: InodeId;
      /** `noMaker`: no lineage makes it. `cycle`: making it would need itself. */
      readonly reason: "noMaker" | "cycle";
      /** From the wanted file to the one that cannot be made, both included. */
      readonly chain: readonly InodeId[];
    };

/** The smallest set of jobs that restores `wanted`; no steps when nothing of it is missing. */
export function planRecovery(
  graph: LineageGraph,
  wanted: readonly InodeId[],
  isMissing: (inode: InodeId) => boolean,
): Plan {
  const needed = new Set<LineageId>();
  /** For whom a file is needed; undefined: for the caller. */
  const neededFor = new Map<InodeId, InodeId | undefined>();
  const open = wanted.map((inode) => ({ inode, parent: undefined as InodeId | undefined }));
  for (let next = open.shift(); next !== undefined; next = open.shift()) {
    const { inode, parent } = next;
    if (neededFor.has(inode) || !isMissing(inode)) continue;
    neededFor.set(inode, parent);
    const maker = graph.makerOf.get(inode);
    if (maker === undefined) {
      return { ok: false, inode, reason: "noMaker", chain: chainTo(inode, neededFor) };
    }
    if (needed.has(maker)) continue;
    needed.add(maker);
    for (const input of graph.nodes.get(maker)!.inputs) open.push({ inode: input, parent: inode });
  }
  const part = buildGraph([...needed].map((id) => missingPart(graph, id, isMissing)));
  const { order, cyclic } = topologicalOrder(part);
  if (cyclic.length > 0) {
    const inode = part.nodes.get(cyclic[0]!)!.outputs.find((each) => neededFor.has(each))!;
    return { ok: false, inode, reason: "cycle", chain: chainTo(inode, neededFor) };
  }
  return { ok: true, steps: order.map((id) => ({ lineage: id, after: parentsOf(part, id) })) };
}

/**
 * A lineage with only those inputs that make it wait: one that is not missing was made by a lineage that need not run, or
 * that runs for another of its outputs and leaves equal bytes. Outputs that another lineage took over are left out.
 */
function missingPart(
  graph: LineageGraph,
  id: LineageId,
  isMissing: (inode: InodeId) => boolean,
): LineageNode {
  const { inputs, outputs } = graph.nodes.get(id)!;
  return {
    id,
    inputs: inputs.filter(isMissing),
    outputs: outputs.filter((output) => graph.makerOf.get(output) === id),
  };
}

function chainTo(
  inode: InodeId,
  neededFor: ReadonlyMap<InodeId, InodeId | undefined>,
): readonly InodeId[] {
  const chain: InodeId[] = [];
  for (let at: InodeId | undefined = inode; at !== undefined; at = neededFor.get(at)) {
    chain.unshift(at);
  }
  return chain;
}
