/** A planted bug: what it is, where it goes, and who should notice. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export interface Mutant {
  /** What the bug does, as a clause: `commits an entry of an earlier term by counting`. */
  readonly name: string;
  readonly file: string;
  /** What stands in the file, exactly once. */
  readonly find: string;
  readonly replace: string;
  /** Test files or simulations that are to catch it, in order; the first that fails ends it. */
  readonly suites: readonly string[];
}

/** A mutant in a tree, to be taken out again. */
export interface Planted {
  undo(): void;
}

/** Why a mutant does not fit the tree any more; nothing when it does. */
export function misplaced(root: string, { name, file, find, suites }: Mutant): string[] {
  const tests = suites.filter((suite) => !suite.startsWith("sim ")).flatMap((s) => s.split(" "));
  const missing = tests.filter((test) => !existsSync(join(root, test)));
  if (missing.length > 0) return [`Cannot judge "${name}": there is no "${missing.join(" ")}"`];
  const path = join(root, file);
  if (!existsSync(path)) return [`Cannot plant "${name}": there is no "${file}"`];
  const count = readFileSync(path, "utf8").split(find).length - 1;
  if (count === 1) return [];
  return [`Cannot plant "${name}": its text is ${count} times in "${file}", wanted once: ${find}`];
}

export function plant(tree: string, { file, find, replace }: Mutant): Planted {
  const path = join(tree, file);
  const source = readFileSync(path, "utf8");
  writeFileSync(
    path,
    source.replace(find, () => replace),
  );
  return { undo: () => writeFileSync(path, source) };
}
