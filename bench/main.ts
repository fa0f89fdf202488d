/**
 * `npm run bench -- NAME [--json] [options of the bench]`: runs one bench and prints its figures, as a table or as one
 * JSON object per line. Exit status 1 when it, or its peer, could not be run.
 */
import { parseArgs } from "node:util";
import { type Figure, table } from "./figure.ts";

/** Each bench is a module with `run(options)`; loaded only when asked for. */
const benches: Readonly<
  Record<string, () => Promise<{ run: (options: BenchOptions) => Promise<Figure[]> }>>
> = {
  "raft-core": () => import("./raft-core.ts"),
  metadata: () => import("./metadata.ts"),
  fuse: () => import("./fuse.ts"),
};

export interface BenchOptions {
  /** Length of one measurement in seconds. */
  readonly seconds: number;
}

const known = Object.keys(benches).join(", ");
const usage = `Usage: npm run bench -- NAME [--json] [--seconds N]
  NAME          one of ${known}
  --json        one JSON object per line instead of a table
  --seconds N   length of one measurement (default: 10)
`;

function refuse(message: string): never {
  process.stderr.write(`${message}\n`);
  process.exit(64);
}

function argumentsGiven() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        json: { type: "boolean", default: false },
        seconds: { type: "string" },
        help: { type: "boolean", short: "h", default: false },
      },
    });
  } catch (error) {
    return refuse(
      `Cannot run a bench: ${(error as Error).message.split(". ")[0]} (see npm run bench -- --help)`,
    );
  }
}

const { values, positionals } = argumentsGiven();
if (values.help) {
  process.stdout.write(usage);
  process.exit(0);
}
const name = positionals[0] ?? "";
const load = benches[name];
if (load === undefined) refuse(`Cannot run bench "${name}": wanted one of ${known}`);
const seconds = Number(values.seconds ?? 10);
if (!(seconds > 0 && seconds <= 3600)) {
  refuse(`Cannot run for "${values.seconds ?? ""}" seconds: wanted 1 to 3600`);
}
try {
  const figures = await (await load()).run({ seconds });
  const lines = values.json ? figures.map((row) => JSON.stringify(row)) : [table(figures)];
  process.stdout.write(`${lines.join("\n")}\n`);
} catch (error) {
  process.stderr.write(`Cannot finish bench "${name}": ${(error as Error).message}\n`);
  process.exitCode = 1;
}
