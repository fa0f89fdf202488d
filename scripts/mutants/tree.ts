/** Throw-away copies of the tree. Nothing installs in them, so they share the dependencies. */
import { cpSync, mkdirSync, symlinkSync } from "node:fs";
import { join } from "node:path";

const copied = [
  "src",
  "test",
  "scripts",
  "bench",
  "jepsen-like",
  "docs",
  "package.json",
  "tsconfig.json",
];

export function copyTree(root: string, to: string): void {
  mkdirSync(to, { recursive: true });
  for (const each of copied) cpSync(join(root, each), join(to, each), { recursive: true });
  symlinkSync(join(root, "node_modules"), join(to, "node_modules"));
}
