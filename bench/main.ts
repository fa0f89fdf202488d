/**
 * `npm run bench -- NAME [--json] [options of the bench]`: runs one bench and prints its figures, as a table or as one
 * JSON object per line. Exit status 1 when it, or its peer, could not be run.
 */
import { readCommandLine, refuse } from "../scripts/command-line.ts";
import { type Figure, table } from "./figure.ts";

/** Each bench is a module with `run(options)`; loaded only when asked for. */
const benches: Readonly<
  Record<string, () => Promise<{ run: (options: BenchOptions) => Promise<Figure[]> }>>
> = {
  "raft-core": () => import("./raft-core.ts"),
  apply: () => import("./apply.ts"),
  metadata: () => import("./metadata.ts"),
  failover: () => import("./failover.ts"),
  scale: () => import("./scale.ts"),
  fuse: () => import("./fuse.ts"),
};

export interface BenchOptions {
  /** Length of one measurement in seconds. */
  readonly seconds: number;
  /** Names of the operations to measure; all when it is empty. Benches without a choice ignore it. */
  readonly only: readonly string[];
  /** Where to write CPU profiles; the peer is not measured then. Benches without profiles ignore it. */
  readonly profile: string | undefined;
  /** Leaders that `failover` kills; for every four, one more goes in each of the other ways: SIGTERM, transfer, silence. */
  readonly kills: number;
  /** Files that `scale` makes. */
  readonly files: number;
  /** Masters of `scale`. */
  readonly masters: 1 | 3;
}

const known = Object.keys(benches).join(", ");
const usage = `Usage: npm run bench -- NAME [--json] [--seconds N] [--kills N] [--files N] [--masters N]
                                [--only LIST] [--profile DIR]
  NAME          one of ${known}
  --json        one JSON object per line instead of a table
  --seconds N   length of one measurement (default: 10)
  --kills N     leaders that failover kills (default: 60)
  --files N     files that scale makes (default: 1000000)
  --masters N   masters of scale, 1 or 3 (default: 3)
  --only LIST   metadata: only these of alone, create, batched, stat, stale, any, stale-any, list, rename, delete; without the peer
  --profile DIR metadata: write CPU profiles of the client and of the masters there; without the peer
`;

const { values, positionals } = readCommandLine("run a bench", usage, {
  allowPositionals: true,
  options: {
    json: { type: "boolean", default: false },
    seconds: { type: "string" },
    only: { type: "string" },
    profile: { type: "string" },
    kills: { type: "string" },
    files: { type: "string" },
    masters: { type: "string" },
  },
});
const name = positionals[0] ?? "";
const load = benches[name];
if (load === undefined) refuse(`Cannot run bench "${name}": wanted one of ${known}`, usage);
const seconds = Number(values.seconds ?? 10);
if (!(seconds > 0 && seconds <= 3600)) {
  refuse(`Cannot run for "${values.seconds ?? ""}" seconds: wanted 1 to 3600`, usage);
}
const kills = Number(values.kills ?? 60);
if (!(Number.isInteger(kills) && kills >= 1 && kills <= 10_000)) {
  refuse(`Cannot kill "${values.kills ?? ""}" leaders: wanted 1 to 10000`, usage);
}
const files = Number(values.files ?? 1_000_000);
if (!(Number.isInteger(files) && files >= 10_000 && files <= 1e9)) {
  refuse(`Cannot make "${values.files ?? ""}" files: wanted 10000 to 1000000000`, usage);
}
const masters = Number(values.masters ?? 3);
if (masters !== 1 && masters !== 3) {
  refuse(`Cannot run "${values.masters ?? ""}" masters: wanted 1 or 3`, usage);
}
try {
  const figures = await (await load()).run({
    seconds,
    kills,
    files,
    masters,
    only: values.only?.split(",") ?? [],
    profile: values.profile,
  });
  const lines = values.json ? figures.map((row) => JSON.stringify(row)) : [table(figures)];
  process.stdout.write(`${lines.join("\n")}\n`);
} catch (error) {
  process.stderr.write(`Cannot finish bench "${name}": ${(error as Error).message}\n`);
  process.exitCode = 1;
}
