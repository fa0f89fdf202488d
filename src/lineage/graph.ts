/**
 * The graph that recorded lineages span: a file has at most one lineage that makes it, a lineage reads files and makes
 * files.
 *
 * Invariants
 * 1. Pure, and deterministic whatever the order of the records: ids are visited in ascending order.
 * 2. A file that several records claim as output belongs to the one with the highest id: a later record took it over.
 */
import type { InodeId, LineageId } from "../lib/ids.ts";

/** What the graph needs to know of a recorded lineage. */
export interface LineageNode {
  readonly id: LineageId;
  readonly inputs: readonly InodeId[];
  readonly outputs: readonly InodeId[];
}

export interface LineageGraph {
  /** In ascending order of their ids. */
  readonly nodes: ReadonlyMap<LineageId, LineageNode>;
  /** The lineage that makes a file. */
  readonly makerOf: ReadonlyMap<InodeId, LineageId>;
  /** The lineages that read a file, ascending. */
  readonly readersOf: ReadonlyMap<InodeId, readonly LineageId[]>;
}

export function buildGraph(records: Iterable<LineageNode>): LineageGraph {
  const sorted = [...records].sort((a, b) => a.id - b.id);
  const nodes = new Map(sorted.map((node) => [node.id, node]));
  const makerOf = new Map<InodeId, LineageId>();
  const readersOf = new Map<InodeId, LineageId[]>();
  for (const node of nodes.values()) {
    for (const output of node.outputs) makerOf.set(output, node.id);
    for (const input of new Set(node.inputs)) {
      const readers = readersOf.get(input);
      if (readers === undefined) readersOf.set(input, [node.id]);
      else readers.push(node.id);
    }
  }
  return { nodes, makerOf, readersOf };
}

/** The lineages that make inputs of `id`, ascending. */
export function parentsOf(graph: LineageGraph, id: LineageId): LineageId[] {
  const parents = new Set<LineageId>();
  for (const input of graph.nodes.get(id)?.inputs ?? []) {
    const maker = graph.makerOf.get(input);
    if (maker !== undefined) parents.add(maker);
  }
  return [...parents].sort((a, b) => a - b);
}

/** The lineages that read outputs of `id`, ascending. */
export function childrenOf(graph: LineageGraph, id: LineageId): LineageId[] {
  const children = new Set<LineageId>();
  for (const output of graph.nodes.get(id)?.outputs ?? []) {
    if (graph.makerOf.get(output) !== id) continue;
    for (const reader of graph.readersOf.get(output) ?? []) children.add(reader);
  }
  return [...children].sort((a, b) => a - b);
}

/** All lineages that `id` depends on, without itself (unless it is on a cycle), ascending. */
export function ancestorsOf(graph: LineageGraph, id: LineageId): LineageId[] {
  return reachable(id, (each) => parentsOf(graph, each));
}

/** All lineages that depend on `id`, without itself (unless it is on a cycle), ascending. */
export function descendantsOf(graph: LineageGraph, id: LineageId): LineageId[] {
  return reachable(id, (each) => childrenOf(graph, each));
}

function reachable(from: LineageId, next: (id: LineageId) => LineageId[]): LineageId[] {
  const seen = new Set<LineageId>();
  const open = next(from);
  while (open.length > 0) {
    const at = open.pop()!;
    if (seen.has(at)) continue;
    seen.add(at);
    open.push(...next(at));
  }
  return [...seen].sort((a, b) => a - b);
}

/**
 * Lineages in an order in which each comes behind those that make its inputs, the smallest id first where the order is
 * free; and those that lie on a cycle or behind one, which have no such order.
 */
export function topologicalOrder(graph: LineageGraph): {
  readonly order: readonly LineageId[];
  readonly cyclic: readonly LineageId[];
} {
  const waiting = new Map<LineageId, number>();
  for (const id of graph.nodes.keys()) waiting.set(id, parentsOf(graph, id).length);
  const order: LineageId[] = [];
  let ready = [...waiting.keys()].filter((id) => waiting.get(id) === 0);
  while (ready.length > 0) {
    const at = ready.shift()!;
    order.push(at);
    waiting.delete(at);
    const freed: LineageId[] = [];
    for (const child of childrenOf(graph, at)) {
      const left = waiting.get(child)! - 1;
      waiting.set(child, left);
      if (left === 0) freed.push(child);
    }
    if (freed.length > 0) ready = [...ready, ...freed].sort((a, b) => a - b);
  }
  return { order, cyclic: [...waiting.keys()] };
}

/** True when adding `node` would make a lineage depend on itself, directly or through others. */
export function wouldCycle(graph: LineageGraph, node: LineageNode): boolean {
  const changed = buildGraph([...graph.nodes.values(), node]);
  return ancestorsOf(changed, node.id).includes(node.id);
}
