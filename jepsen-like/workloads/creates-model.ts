/**
 * The model of the "creates" workload: clients create files of unique names in one directory and list it. A listing
 * shows every file whose create has an earlier position, none of a later one, each once; a file of unknown outcome may
 * appear, and then stays.
 */
import type { Model } from "../witness-order.ts";

export type CreatesInput =
  | { readonly kind: "create"; readonly name: string }
  | { readonly kind: "list" };

export type CreatesOutput =
  | { readonly kind: "created"; readonly inode: number }
  | { readonly kind: "listed"; readonly names: readonly string[] };

interface State {
  readonly names: Set<string>;
  readonly inodes: Set<number>;
}

export const createsModel: Model<State, CreatesInput, CreatesOutput> = {
  init: () => ({ names: new Set(), inodes: new Set() }),
  isWrite: (input) => input.kind === "create",
  write: (state, input, output) => {
    if (input.kind !== "create" || output.kind !== "created")
      return "a create was answered as a list";
    if (state.names.has(input.name)) return `"${input.name}" was created twice`;
    if (state.inodes.has(output.inode)) return `inode ${output.inode} was given out twice`;
    state.names.add(input.name);
    state.inodes.add(output.inode);
    return undefined;
  },
  read: (state, _input, output, maybe) => {
    if (output.kind !== "listed") return "a list was answered as a create";
    const listed = new Set(output.names);
    if (listed.size !== output.names.length)
      return `a name is listed twice: ${twice(output.names)}`;
    for (const name of state.names) {
      if (!listed.has(name)) return `"${name}" was created and is missing`;
    }
    const possible = new Set(
      maybe.flatMap((input) => (input.kind === "create" ? [input.name] : [])),
    );
    for (const name of listed) {
      if (state.names.has(name)) continue;
      if (!possible.has(name)) return `"${name}" is listed, though nobody had created it`;
      state.names.add(name);
    }
    return undefined;
  },
};

function twice(names: readonly string[]): string {
  const seen = new Set<string>();
  const again = names.find((name) => seen.size === seen.add(name).size);
  return JSON.stringify(again);
}
