/**
 * The listings of layers as one, in pages.
 *
 * Invariant: a page has all names up to the one that it ends at. Each layer's page is whole up to its own end, so the least
 * of these is how far all of them go. A bucket gives an escaped name where its key sorts, not where the name does: such a
 * name may come in two pages, but never in none, and which layer has it is to be asked.
 */
import { isEscaped } from "../lib/escaped-names.ts";
import { placeOf } from "./s3-names.ts";
import type { UfsListEntry } from "./types.ts";
import { inUnion, namingLayer, type UnionLayer } from "./union-layers.ts";

export interface MergedNames {
  readonly names: readonly {
    readonly name: string;
    /** Undefined: to be looked up. */
    readonly shown: UfsListEntry | undefined;
  }[];
  /** Where the next page begins; undefined: these were the last. */
  readonly upTo: string | undefined;
}

/** The names behind `after`, each of the first layer that `counts`, at most `limit` beside escaped ones. */
export async function mergedNames(
  layers: readonly UnionLayer[],
  path: string,
  options: {
    after: string | undefined;
    limit: number;
    signal?: AbortSignal;
    counts: (name: string, layer: UnionLayer) => boolean;
  },
): Promise<MergedNames> {
  const { counts, ...range } = options;
  const pages = await Promise.all(
    layers.map(async (layer) => {
      const page = await namingLayer(layer, layer.store.list(path, range));
      return { layer, ...page, after: page.after ?? page.entries.at(-1)?.name };
    }),
  );
  const ends = pages.flatMap(({ last, after }) => (last || after === undefined ? [] : [after]));
  const shown = new Map<string, UfsListEntry>();
  for (const { layer, entries } of pages) {
    for (const entry of entries) {
      if (!counts(entry.name, layer) || shown.has(entry.name)) continue;
      shown.set(entry.name, inUnion(layer, entry));
    }
  }
  const ordinary = [...shown.keys()].filter((name) => !isEscaped(name)).sort();
  if (ordinary.length > options.limit) ends.push(ordinary[options.limit - 1]!);
  const upTo = ends.length === 0 ? undefined : ends.reduce((a, b) => (a < b ? a : b));
  const isWithin = (name: string) =>
    upTo === undefined || name <= upTo || (isEscaped(name) && placeOf(name) <= upTo);
  const names = [...shown.keys()].filter(isWithin).sort();
  const isAsked = (name: string) => isEscaped(name) && layers.length > 1;
  return {
    names: names.map((name) => ({ name, shown: isAsked(name) ? undefined : shown.get(name) })),
    upTo,
  };
}
