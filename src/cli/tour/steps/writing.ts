/**
 * Step 3: files written by `cp -a` and `tar`, listed, renamed, read back, persisted, and found in the under storage by
 * the same programs.
 */
import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { countText, durationText, rateText } from "../../output.ts";
import { chooseSample, measureTree } from "../data.ts";
import { expectEqual, type Step, StepFailure, type TourContext } from "../step.ts";

const sampleFiles = 400;
/** Names, kinds, modes, sizes and link targets, one line each; and with times. */
const listing = "%P %y %m %s %l\\n";
const listingWithTimes = "%P %y %m %s %Ts %l\\n";

export const writing: Step = {
  title: "Written, renamed, persisted",
  async run(tour) {
    const { runner, mount, scratch, data, cluster } = tour;
    const sample = join(scratch, "sample");
    await mkdir(sample, { recursive: true });
    const names = await chooseSample(data, sampleFiles);
    await runner.run("cp", ["-a", "--", ...names, sample], { cwd: data });
    const size = await measureTree(sample);
    const writtenMs =
      mount === undefined
        ? await writeByCli(tour, sample)
        : await writeByMount(tour, sample, mount);

    const persisted = await runner.weir(["fs", "persist", "--wait", "/tour/kept"]);
    const below = join(cluster.layout.root, "tour", "kept");
    await runner.run("diff", ["-r", "--no-dereference", sample, below]);
    const writtenBytes = mount === undefined ? size.bytes : 2 * size.bytes;
    return [
      `${countText(size.files)} files by ${mount === undefined ? "weir fs put" : "cp -a and by tar"} (${rateText(writtenBytes, writtenMs)}), renamed, read back: equal`,
      `persisted in ${durationText(persisted.durationMs)}: equal in the under storage`,
    ];
  },
};

async function writeByMount(tour: TourContext, sample: string, mount: string): Promise<number> {
  const { runner } = tour;
  const home = join(mount, "tour");
  await mkdir(join(home, "unpacked"), { recursive: true });
  const copied = await runner.run("cp", ["-a", sample, join(home, "copy")]);
  const unpacked = await runner.run("sh", [
    "-c",
    'tar -C "$1" -cf - . | tar -C "$2" -xf -',
    "tar",
    ...[sample, join(home, "unpacked")],
  ]);
  // tar sets the time of change alone, which libfuse 2 drops without a word; cp sets both.
  const checks = [
    { copy: "copy", format: listingWithTimes },
    { copy: "unpacked", format: listing },
  ];
  for (const { copy, format } of checks) {
    const wanted = await sortedListing(tour, sample, format);
    expectSameListing(wanted, await sortedListing(tour, join(home, copy), format), copy);
    await runner.run("diff", ["-r", "--no-dereference", sample, join(home, copy)]);
  }
  await runner.run("mv", [join(home, "copy"), join(home, "kept")]);
  expectEqual("names in /tour", (await readdir(home)).sort().join(" "), "kept unpacked");
  await runner.run("diff", ["-r", "--no-dereference", sample, join(home, "kept")]);
  return copied.durationMs + unpacked.durationMs;
}

async function writeByCli(tour: TourContext, sample: string): Promise<number> {
  const { runner, scratch } = tour;
  await runner.weir(["fs", "mkdir", "--parents", "/tour"]);
  const put = await runner.weir(["fs", "put", "--recursive", sample, "/tour/copy"]);
  await runner.weir(["fs", "mv", "/tour/copy", "/tour/kept"]);
  const names = await runner.weirJson<{ name: string }[]>(["fs", "ls", "/tour"]);
  expectEqual("names in /tour", names.map(({ name }) => name).join(" "), "kept");
  const back = join(scratch, "back");
  await runner.weir(["fs", "get", "--recursive", "/tour/kept", back]);
  await runner.run("diff", ["-r", "--no-dereference", sample, back]);
  return put.durationMs;
}

async function sortedListing(
  { runner }: TourContext,
  directory: string,
  format: string,
): Promise<string[]> {
  const { stdout } = await runner.run("find", [directory, "-mindepth", "1", "-printf", format]);
  // The size of a directory is its store's own affair.
  return stdout
    .split("\n")
    .map((line) => line.replace(/^(.*) d (\d+) \d+ /, "$1 d $2 - "))
    .sort();
}

function expectSameListing(wanted: readonly string[], got: readonly string[], copy: string): void {
  const place = wanted.findIndex((line, index) => line !== got[index]);
  if (place === -1 && wanted.length === got.length) return;
  const at = place === -1 ? wanted.length : place;
  throw new StepFailure(
    `in ${copy}: "${wanted[at] ?? "no more names"}"`,
    `"${got[at] ?? "no more names"}"`,
  );
}
