/** Moving and copying objects between the layers of a union: what policies on data are made of. */
import { WeirError } from "../lib/errors.ts";
import { shown, splitPath } from "./paths.ts";
import type { Going, UfsStat } from "./types.ts";
import { prefixesOf, printIn, type UnionLayer, type UnionLayers } from "./union-layers.ts";
import { dropMask, dropProvenance, isCopyOf } from "./union-marks.ts";

export interface Relocation extends Going {
  /** Names of layers. */
  readonly from: string;
  readonly to: string;
  /** Leaves the object where it was, too. */
  readonly keep?: boolean | undefined;
  /** Only the object that is known by it goes: another one was put there by somebody else. */
  readonly fingerprint?: string | undefined;
}

/**
 * Copies the file or link that the layer `from` shows to the layer `to`, whole and durable, and then takes it away from
 * `from`, unless `keep`. It is shown all the time; readers by the former fingerprint go on. May be repeated. Resolves with
 * the fingerprint that it is shown with then.
 * @throws WeirError `NotFound` when another layer or none shows it; `ReadOnly`; `InvalidArgument` for layers that are not
 *   there, a directory, or a place where something else would be shown; `Stale` when it is changed meanwhile, or another
 *   object than the one with the fingerprint
 */
export async function relocate(
  layers: UnionLayers,
  path: string,
  { from, to, keep = false, fingerprint, ...going }: Relocation,
): Promise<string> {
  const doing = `Cannot move ${shown(path)} from layer "${from}" to "${to}"`;
  const [source, target] = [layers.named(from), layers.named(to)];
  if (source === target) throw new WeirError("InvalidArgument", `${doing}: it is one layer`);
  if (target.store.readOnly || (source.store.readOnly && !keep)) {
    const readOnly = target.store.readOnly ? to : from;
    throw new WeirError("ReadOnly", `${doing}: layer "${readOnly}" is read-only`);
  }
  const found = await layers.find(path, doing);
  const stat = await layers.statIn(source, path);
  if (found?.layer === target) await layers.mendCopy(path, target, found.stat, going);
  const isOther =
    found !== undefined &&
    fingerprint !== undefined &&
    !(await layers.isKnownAs(path, fingerprint, found.layer, found.stat));
  if (isOther) throw new WeirError("Stale", `${doing}: another object lies there by now`);
  const isThere =
    found?.layer === target &&
    (stat === undefined || (await isCopy(path, [source, stat], [target, found.stat])));
  if (isThere) {
    // An earlier attempt came as far as this.
    if (!keep && stat !== undefined) await remove(source, path, stat, going);
    return printIn(target, found.stat.fingerprint);
  }
  if (stat === undefined || found?.layer !== source) {
    const place = found === undefined ? "it is not there" : `"${found.layer.name}" shows it`;
    throw new WeirError("NotFound", `${doing}: ${place}`);
  }
  if (stat.kind === "directory") {
    throw new WeirError("InvalidArgument", `${doing}: it is a directory, wanted what is below it`);
  }
  if (keep) {
    const copy = await layers.statIn(target, path);
    const isCopied = copy !== undefined && (await isCopy(path, [source, stat], [target, copy]));
    if (isCopied) return printIn(source, stat.fingerprint);
  }
  await needShownIn(layers, path, { source, target, keep }, doing);
  await layers.copy(path, { source, stat, target }, going);
  // Both layers have the same now: whichever is shown, it is the right one.
  if (target !== layers.write && !layers.write.store.readOnly) {
    await dropMask(layers.write.store, path, going);
  }
  if (!keep) await remove(source, path, stat, going);
  const after = await layers.find(path, doing);
  const isIt =
    after !== undefined &&
    (stat.kind !== "file" ||
      (await layers.isKnownAs(path, printIn(source, stat.fingerprint), after.layer, after.stat)));
  if (!isIt) throw new WeirError("Stale", `${doing}: it was removed or replaced meanwhile`);
  return printIn(after.layer, after.stat.fingerprint);
}

/** Exactly the object that was copied. */
async function remove(
  layer: UnionLayer,
  path: string,
  { fingerprint }: UfsStat,
  going: Going,
): Promise<void> {
  await layer.store.delete(path, { of: "file", fingerprint, ...going });
  await dropProvenance(layer.store, path, going);
}

/** Whether what the second layer has is a copy of what the first one has. */
async function isCopy(
  path: string,
  [source, stat]: readonly [UnionLayer, UfsStat],
  [target, copy]: readonly [UnionLayer, UfsStat],
): Promise<boolean> {
  if (copy.kind === "symlink") return stat.target === copy.target;
  const former = printIn(source, stat.fingerprint);
  return await isCopyOf(target.store, path, { former, now: copy.fingerprint });
}

/** Refuses a move after which something else would be shown at the path than what was moved. */
async function needShownIn(
  layers: UnionLayers,
  path: string,
  { source, target, keep }: { source: UnionLayer; target: UnionLayer; keep: boolean },
  doing: string,
): Promise<void> {
  if (target !== layers.write) {
    const { parent } = splitPath(path);
    for (const prefix of parent === "" ? [] : prefixesOf(parent)) {
      if (!(await layers.hasMask(prefix))) continue;
      throw new WeirError(
        "InvalidArgument",
        `${doing}: of a directory above it, layer "${layers.write.name}" alone is shown`,
      );
    }
  }
  for (const layer of layers.all) {
    if (layer === target || (layer === source && keep)) return;
    if (layer === source || (await layers.statIn(layer, path)) === undefined) continue;
    throw new WeirError(
      "InvalidArgument",
      `${doing}: layer "${layer.name}", which comes before it, has something else there`,
    );
  }
}
