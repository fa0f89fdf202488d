/** What can be said of a mount, as people say it, and as commands have it. */
import type { Command } from "../rpc/commands.ts";

export interface MountOptions {
  /** Every change below is refused. */
  readonly readOnly?: boolean;
  /** Of the store. Credentials among them are never shown again. */
  readonly options?: Readonly<Record<string, string>>;
  /** False: only who mounts it and the superuser may enter. */
  readonly shared?: boolean;
  /** Who that is. */
  readonly owner?: { readonly uid: number; readonly gid: number };
  /** Another mount may have the same store, or a part of it, though neither sees what changes through the other. */
  readonly overlap?: boolean;
}

/** One of several stores under one path. */
export interface Layer {
  readonly name: string;
  readonly uri: string;
  readonly readOnly?: boolean;
  readonly options?: Readonly<Record<string, string>>;
}

export interface UnionOptions extends MountOptions {
  /** In order of priority: of a name that several have, the first one is shown. */
  readonly layers: readonly Layer[];
  /** Name of the layer that takes what is written; not needed by a read-only mount. */
  readonly writeLayer?: string | undefined;
}

export interface MountChanges {
  readonly readOnly?: boolean | undefined;
  readonly shared?: boolean | undefined;
  readonly overlap?: boolean | undefined;
  /** Options of the store that get a value, and those that are taken away. */
  readonly set?: Readonly<Record<string, string>>;
  readonly unset?: readonly string[];
  /** Of a union: all layers in the order that they are to have; of a known name what is not given stays. */
  readonly layers?: readonly LayerChange[] | undefined;
}

export interface LayerChange {
  readonly name: string;
  /** Of a layer that is new. */
  readonly uri?: string | undefined;
  readonly readOnly?: boolean | undefined;
  readonly set?: Readonly<Record<string, string>>;
  readonly unset?: readonly string[];
}

type Of<K extends Command["kind"]> = Extract<Command, { kind: K }>;

type Fields = Omit<Of<"mount">, "kind" | "parent" | "name">;

export function mountFields(uri: string, of: MountOptions): Fields {
  const { readOnly = false, options = {} } = of;
  return { uri, readOnly, options, ...rightsOf(of) };
}

export function unionFields({ layers, writeLayer, ...of }: UnionOptions): Fields {
  return {
    ...mountFields("", of),
    layers: layers.map(({ name, uri, readOnly = false, options = {} }) => ({
      ...{ name, uri, readOnly, options },
    })),
    ...(writeLayer === undefined ? {} : { writeLayer }),
  };
}

/** What is as it always was need not be said, also to masters that do not know it yet. */
function rightsOf({ shared, owner, overlap }: MountOptions): Partial<Fields> {
  return {
    ...(shared === false ? { shared, ...(owner === undefined ? {} : { owner }) } : {}),
    ...(overlap === true ? { overlap } : {}),
  };
}

export function changeFields(changes: MountChanges): Omit<Of<"updateMount">, "kind" | "mount"> {
  const { readOnly, shared, overlap, set = {}, unset = [], layers } = changes;
  const fields = { readOnly, shared, overlap, set, unset };
  if (layers === undefined) return fields;
  return {
    ...fields,
    layers: layers.map((layer) => ({
      name: layer.name,
      uri: layer.uri,
      readOnly: layer.readOnly,
      set: layer.set ?? {},
      unset: layer.unset ?? [],
    })),
  };
}
