/** What is wrong with a data policy's layers. Pure. */
import type { Migration } from "../../rpc/namespace.ts";
import type { Mount } from "./model.ts";

/** What is wrong with the way of a migration on a mount, with what would be right; undefined when nothing is. */
export function flawOfWay(
  of: Mount | undefined,
  { from, to, keep }: Migration,
): string | undefined {
  const layers = of?.layers;
  if (of === undefined || layers === undefined) {
    return "it is not on a union mount, wanted a mount with layers";
  }
  const names = layers.map(({ name }) => name).join(", ");
  for (const wanted of [from, to]) {
    const layer = layers.find(({ name }) => name === wanted);
    if (layer === undefined) return `"${wanted}" is no layer of it, wanted one of ${names}`;
    const isWritten = wanted === to || !keep;
    if (isWritten && (layer.readOnly || of.readOnly)) return `layer "${wanted}" is read-only`;
  }
  return from === to ? `"${from}" is both layers, wanted two` : undefined;
}

/** The layer that shows the object of a union that has the fingerprint: its first part, see ufs/union.ts. */
export function layerOf(fingerprint: string): string {
  return fingerprint.slice(0, Math.max(0, fingerprint.indexOf(":")));
}
