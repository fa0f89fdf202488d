/**
 * The stores of a mount: one, or the layers of a union. What they become by a change, what is wrong with them, and whether
 * they overlap with others. Pure: the state machine decides by it, and the leader looks at the same stores before.
 */
import type { Command } from "../../rpc/commands.ts";
import { type MountLayer, syncIntervalOption } from "../../rpc/namespace.ts";
import type { Mount } from "./model.ts";
import { flawOfStore, isInside, placeOfStore } from "./store-address.ts";

type Of<K extends Command["kind"]> = Extract<Command, { kind: K }>;

/** What of a mount says which stores it has. */
export type Stores = Pick<Mount, "uri" | "readOnly" | "options" | "layers" | "writeLayer">;

type OneStore = Pick<Mount, "uri" | "readOnly" | "options">;

/** A list of layers with more of them is refused: each is asked for each name. */
const maxLayers = 16;

/** The stores that a `mount` names. */
export function storesOfMount({ uri, readOnly, options, layers, writeLayer }: Of<"mount">): Stores {
  if (layers === undefined) return { uri, readOnly, options };
  return { uri: uriOfLayers(layers), readOnly, options, layers, writeLayer };
}

/** The stores of a mount as they are. */
export function storesOf({ uri, readOnly, options, layers, writeLayer }: Stores): Stores {
  return { uri, readOnly, options, ...(layers === undefined ? {} : { layers, writeLayer }) };
}

/** The stores of a mount as an update leaves them. */
export function storesAfter(of: Stores, command: Of<"updateMount">): Stores {
  const readOnly = command.readOnly ?? of.readOnly;
  const options = optionsAfter(of.options, command);
  const { writeLayer } = of;
  if (of.layers === undefined || command.layers === undefined) {
    return { ...storesOf(of), readOnly, options };
  }
  const known = new Map(of.layers.map((layer) => [layer.name, layer]));
  const layers = command.layers.map((change): MountLayer => {
    const before = known.get(change.name);
    return {
      name: change.name,
      uri: change.uri ?? before?.uri ?? "",
      readOnly: change.readOnly ?? before?.readOnly ?? false,
      options: optionsAfter(before?.options ?? {}, change),
    };
  });
  return { uri: uriOfLayers(layers), readOnly, options, layers, writeLayer };
}

function optionsAfter(
  before: Mount["options"],
  { set, unset }: Pick<Of<"updateMount">, "set" | "unset">,
): Record<string, string> {
  const gone = new Set(unset);
  return Object.fromEntries(
    Object.entries({ ...before, ...set }).filter(([key]) => !gone.has(key)),
  );
}

/** What is wrong with stores, with what would be right; undefined when nothing is. */
export function flawOfStores({
  uri,
  readOnly,
  options,
  layers,
  writeLayer,
}: Stores): string | undefined {
  if (layers === undefined) return flawOfStore(uri);
  if (layers.length < 2 || layers.length > maxLayers) {
    return `it has ${layers.length} layers, wanted 2 to ${maxLayers}`;
  }
  if (Object.keys(options).some((key) => key !== syncIntervalOption)) {
    return `options belong to its layers, but for ${syncIntervalOption}: wanted NAME.KEY=VALUE`;
  }
  const names = layers.map(({ name }) => name);
  const bad = names.find((name) => !/^[a-z0-9-]{1,32}$/.test(name));
  if (bad !== undefined) {
    return `"${bad}" is no name of a layer, wanted 1 to 32 of a to z, 0 to 9 and "-"`;
  }
  const twice = names.find((name, place) => names.indexOf(name) !== place);
  if (twice !== undefined) return `it has two layers "${twice}"`;
  for (const layer of layers) {
    const flaw = flawOfStore(layer.uri);
    if (flaw !== undefined) return `of layer "${layer.name}": ${flaw}`;
  }
  if (readOnly && writeLayer === undefined) return undefined;
  const write = layers.find(({ name }) => name === writeLayer);
  if (write === undefined) {
    return `it has no layer "${writeLayer ?? ""}" to write to, wanted one of ${names.join(", ")}`;
  }
  return write.readOnly ? `layer "${write.name}" is to be written and is read-only` : undefined;
}

/** How a union of layers is called. */
function uriOfLayers(layers: readonly MountLayer[]): string {
  return `union://${layers.map(({ name }) => name).join("+")}`;
}

/** Each store by itself. */
function each({ uri, readOnly, options, layers }: Stores): readonly OneStore[] {
  if (layers === undefined) return [{ uri, readOnly, options }];
  return layers.map((layer) => ({ ...layer, readOnly: readOnly || layer.readOnly }));
}

/** Whether stores reach a place that those before did not, or may write where those could only read. */
export function reachFurther(stores: Stores, before: Stores): boolean {
  const known = new Set<string>();
  for (const { uri, readOnly, options } of each(before)) {
    const place = placeOfStore(uri, options);
    known.add(`r ${place}`);
    if (!readOnly) known.add(`w ${place}`);
  }
  return each(stores).some(
    ({ uri, readOnly, options }) =>
      !known.has(`${readOnly ? "r" : "w"} ${placeOfStore(uri, options)}`),
  );
}

/** How the first of two mounts' stores overlap, of which one may be written; undefined when they do not. */
export function overlapOf(a: Stores, b: Stores): string | undefined {
  for (const one of each(a)) {
    for (const other of each(b)) {
      const how = overlapOfTwo(one, other);
      if (how !== undefined) return how;
    }
  }
  return undefined;
}

/** As `overlapOf`, among the layers of one union. */
export function overlapWithin(stores: Stores): string | undefined {
  const all = each(stores);
  for (const [place, one] of all.entries()) {
    for (const other of all.slice(place + 1)) {
      const how = overlapOfTwo(one, other);
      if (how !== undefined) return how;
    }
  }
  return undefined;
}

function overlapOfTwo(one: OneStore, other: OneStore): string | undefined {
  if (one.readOnly && other.readOnly) return undefined;
  const [place, otherPlace] = [one, other].map(({ uri, options }) =>
    placeOfStore(uri, options),
  ) as [string, string];
  if (place === otherPlace) return `"${one.uri}" is "${other.uri}"`;
  if (isInside(place, otherPlace)) return `"${one.uri}" lies in "${other.uri}"`;
  return isInside(otherPlace, place) ? `"${one.uri}" has in it "${other.uri}"` : undefined;
}
