/** The phases of a full run, in order: the cheap and telling ones first. */
import { readdirSync } from "node:fs";
import { join } from "node:path";

export interface Phase {
  readonly name: string;
  readonly budgetMs: number;
  /** Folders of mocha tests, for phases that have no command. */
  readonly folders: readonly string[];
  readonly command: readonly string[] | undefined;
  /** The phase is passed over while this file does not exist. */
  readonly requires?: string;
}

const minute = 60_000;

export const phases: readonly Phase[] = [
  { name: "check", budgetMs: 4 * minute, folders: [], command: ["sh", "scripts/check.sh"] },
  {
    name: "unit",
    budgetMs: 9 * minute,
    folders: foldersOfTests().filter((folder) => folder !== "sim" && folder !== "integration"),
    command: undefined,
  },
  { name: "simulation", budgetMs: 3 * minute, folders: ["sim"], command: undefined },
  { name: "integration", budgetMs: 13 * minute, folders: ["integration"], command: undefined },
  {
    name: "jepsen",
    budgetMs: 4 * minute,
    folders: [],
    command: ["node", "--import", "tsx", "jepsen-like/main.ts"],
    requires: "jepsen-like/main.ts",
  },
];

/** The test files of a phase, sorted. */
export function testFilesOf(phase: Phase): string[] {
  return phase.folders.flatMap((folder) => testFilesBelow(join("test", folder))).sort();
}

function foldersOfTests(): string[] {
  return readdirSync("test", { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map((entry) => entry.name);
}

function testFilesBelow(directory: string): string[] {
  try {
    return readdirSync(directory, { recursive: true, encoding: "utf8" })
      .filter((file) => file.endsWith(".test.ts"))
      .map((file) => join(directory, file));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}
