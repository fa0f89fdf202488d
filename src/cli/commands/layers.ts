/** The layers of a union as flags of the command line say them. Options of a layer are typed as NAME.KEY=VALUE. */
import { WeirError } from "../../lib/errors.ts";
import type { Layer, LayerChange } from "../../client/mounts.ts";
import type { MountInfo } from "../../rpc/namespace.ts";

type Options = Readonly<Record<string, string>>;

export interface LayerFlags {
  /** Addresses by name, in the order in which they were typed. */
  readonly layers: Options;
  /** Names of those that nothing is to be changed in. */
  readonly readOnly: readonly string[];
}

export interface LayerChangeFlags {
  readonly added: Options;
  readonly removed: readonly string[];
  /** Names, those that it leaves out behind the others. */
  readonly order: readonly string[];
  readonly set: Options;
  readonly unset: readonly string[];
}

/** Those options that are of the mount itself, and those of its layers. */
export function splitOptions(options: Options): { own: Options; layered: Options } {
  const all = Object.entries(options);
  return {
    own: Object.fromEntries(all.filter(([key]) => !key.includes("."))),
    layered: Object.fromEntries(all.filter(([key]) => key.includes("."))),
  };
}

/** The layers of a new union. @throws WeirError `InvalidArgument` for a name that is no layer */
export function layersFrom({ layers, readOnly }: LayerFlags, options: Options): Layer[] {
  const names = Object.keys(layers);
  for (const name of readOnly) needKnown(name, names);
  const byLayer = optionsByLayer(options, names);
  return Object.entries(layers).map(([name, uri]) => ({
    ...{ name, uri, readOnly: readOnly.includes(name), options: byLayer.get(name) ?? {} },
  }));
}

/** The layers of a union as they are to be; undefined when no flag is about them. */
export function layerChangesFrom(
  { layers: known = [] }: Pick<MountInfo, "layers">,
  flags: LayerChangeFlags,
): LayerChange[] | undefined {
  const { added, removed, order, set, unset } = flags;
  const isChanged = [Object.keys(added), removed, order, Object.keys(set), unset].some(
    ({ length }) => length > 0,
  );
  if (!isChanged) return undefined;
  const before = known.map(({ name }) => name);
  for (const name of removed) needKnown(name, before);
  const names = [
    ...before.filter((name) => !removed.includes(name)),
    ...Object.keys(added).filter((name) => !before.includes(name)),
  ];
  for (const name of order) needKnown(name, names);
  const sets = optionsByLayer(set, names);
  const unsets = optionsByLayer(Object.fromEntries(unset.map((key) => [key, ""])), names);
  return [...new Set([...order, ...names])].map((name) => ({
    name,
    uri: added[name],
    set: sets.get(name) ?? {},
    unset: Object.keys(unsets.get(name) ?? {}),
  }));
}

function optionsByLayer(options: Options, names: readonly string[]): Map<string, Options> {
  const byLayer = new Map<string, Record<string, string>>();
  for (const [key, value] of Object.entries(options)) {
    const dot = key.indexOf(".");
    const name = key.slice(0, Math.max(0, dot));
    if (!names.includes(name)) {
      throw new WeirError(
        "InvalidArgument",
        `Cannot use the option "${key}": wanted LAYER.${key.slice(dot + 1)}, of one of the layers ${names.join(", ")}`,
      );
    }
    byLayer.set(name, { ...byLayer.get(name), [key.slice(dot + 1)]: value });
  }
  return byLayer;
}

function needKnown(name: string, names: readonly string[]): void {
  if (names.includes(name)) return;
  throw new WeirError(
    "InvalidArgument",
    `Cannot use the layer "${name}": wanted one of ${names.join(", ")}`,
  );
}
