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

export interface MountChanges {
  readonly readOnly?: boolean | undefined;
  readonly shared?: boolean | undefined;
  readonly overlap?: boolean | undefined;
  /** Options of the store that get a value, and those that are taken away. */
  readonly set?: Readonly<Record<string, string>>;
  readonly unset?: readonly string[];
}

type Of<K extends Command["kind"]> = Extract<Command, { kind: K }>;

export function mountFields(
  uri: string,
  { readOnly = false, options = {}, shared, owner, overlap }: MountOptions,
): Omit<Of<"mount">, "kind" | "parent" | "name"> {
  return {
    ...{ uri, readOnly, options },
    // What is as it always was need not be said, also to masters that do not know it yet.
    ...(shared === false ? { shared, ...(owner === undefined ? {} : { owner }) } : {}),
    ...(overlap === true ? { overlap } : {}),
  };
}

export function changeFields(changes: MountChanges): Omit<Of<"updateMount">, "kind" | "mount"> {
  const { readOnly, shared, overlap, set = {}, unset = [] } = changes;
  return { readOnly, shared, overlap, set, unset };
}
