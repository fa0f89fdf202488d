/**
 * The model of the "creates" workload: clients create files of unique names in one directory and list it, page by page.
 * A page shows every file of its range of names whose create has an earlier position, none of a later one, each once; a
 * file of unknown outcome may appear, and then stays.
 */
import type { Model } from "../witness-order.ts";

export type CreatesInput =
  | { readonly kind: "create"; readonly name: string }
  /** The page of names behind `after`, in byte order; without it the first one. */
  | { readonly kind: "list"; readonly after?: string | undefined };

export type CreatesOutput =
  | { readonly kind: "created"; readonly inode: number }
  /** `more`: the page ends at its last name, and others may follow. */
  | { readonly kind: "listed"; readonly names: readonly string[]; readonly more?: boolean };

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
  read: (state, input, output, maybe) => {
    if (input.kind !== "list" || output.kind !== "listed") return "a list was answered as a create";
    const { after = "" } = input;
    const { names, more = false } = output;
    const last = names.at(-1);
    if (more && last === undefined) return "a page without a name says that more follow";
    const isInPage = (name: string) => name > after && (!more || name <= last!);
    const listed = new Set(names);
    if (listed.size !== names.length) return `a name is listed twice: ${twice(names)}`;
    const stray = names.find((name) => !isInPage(name));
    if (stray !== undefined) return `"${stray}" is listed in a page that it is not of`;
    for (const name of state.names) {
      if (isInPage(name) && !listed.has(name)) return `"${name}" was created and is missing`;
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
