/**
 * `fuse`: files through the mount beside the same operations on the tier's own directory. The MEM tier lies on tmpfs,
 * files are written `MUST_CACHE` with one keeper, writes end with fsync, and cold reads follow a remount, which drops
 * the kernel's caches.
 */
import { mkdtemp, mkdir, open, readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { type ControlledProcess, LocalCluster } from "../test/lib/local-cluster.ts";
import { compare, type Figure, figure } from "./figure.ts";
import type { BenchOptions } from "./main.ts";

const fileBytes = 256 * 1024 * 1024;
const requestBytes = 1024 * 1024;
const randomReads = 10_000;
const smallFiles = 1000;
const smallBytes = 4096;
const lanes = 8;

export async function run(_options: BenchOptions): Promise<Figure[]> {
  const directory = await mkdtemp("/dev/shm/weir-bench-fuse-");
  const cluster = await LocalCluster.start({
    directory,
    masters: 3,
    workers: 1,
    overrides: { client: { writeType: "MUST_CACHE", keepers: 1 } },
  });
  const mount = cluster.config.fuse.mountPoint;
  const daemon = cluster.process("fuse", "fuse", []);
  const remount = async () => {
    await daemon.stop();
    await start(daemon);
  };
  try {
    await mkdir(mount, { recursive: true });
    await start(daemon);
    const tier = join(directory, "peer");
    await mkdir(tier);
    const ours = await measure("native", mount, remount);
    const peers = await measure("native", tier, () => Promise.resolve());
    return ours.map((row, i) => {
      const lowerIsBetter = row.unit === "ms";
      return compare(row, { name: "the tier's tmpfs", value: peers[i]!.value, lowerIsBetter });
    });
  } finally {
    await daemon.stop();
    await cluster.close();
    await rm(directory, { recursive: true, force: true });
  }
}

async function start(daemon: ControlledProcess): Promise<void> {
  daemon.start();
  await daemon.ready();
}

async function measure(
  transport: string,
  directory: string,
  dropCaches: () => Promise<void>,
): Promise<Figure[]> {
  const rows: Figure[] = [];
  const add = (name: string, value: number, unit: string, setup: string) =>
    rows.push(figure("fuse", `${transport}-${name}`, value, unit, setup));
  const megabytes = fileBytes / 1e6;
  const large = join(directory, "large");
  const set = `MEM tier, MUST_CACHE, 1 keeper, ${fileBytes / 2 ** 20} MiB in 1 MiB requests`;

  add("seq-write", megabytes / (await timed(() => writeFile(large))), "MB/s", `${set}, fsync`);
  await dropCaches();
  add("seq-read", megabytes / (await timed(() => readFile(large))), "MB/s", `${set}, cold`);
  add("warm-read", megabytes / (await timed(() => readFile(large))), "MB/s", `${set}, warm`);
  await dropCaches();
  const random = await timed(() => readRandomly(large));
  add("rand-read-4k", randomReads / random, "1/s", `cold, ${lanes} outstanding`);

  const small = join(directory, "small");
  await mkdir(small);
  const created = await timed(() => createSmall(small));
  add("small-create", smallFiles / created, "1/s", `4 KiB, ${lanes} outstanding, no fsync`);
  const names = await readdir(small);
  const statted = await timed(() =>
    parallel(names.length, async (i) => {
      await stat(join(small, names[i]!));
    }),
  );
  add("stat", names.length / statted, "1/s", `${lanes} outstanding, after readdir`);
  await dropCaches();
  const found = await timed(async () => {
    for (const name of await readdir(small)) await stat(join(small, name));
  });
  add("find", found * 1000, "ms", `readdir and stat of ${smallFiles} files, cold`);
  return rows;
}

/** Seconds that `work` takes. */
async function timed(work: () => Promise<void>): Promise<number> {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
}

async function writeFile(path: string): Promise<void> {
  const file = await open(path, "w");
  const chunk = Buffer.alloc(requestBytes, "weir");
  for (let at = 0; at < fileBytes; at += requestBytes) await file.write(chunk);
  await file.sync();
  await file.close();
}

async function readFile(path: string): Promise<void> {
  const file = await open(path, "r");
  const buffer = Buffer.allocUnsafe(requestBytes);
  let total = 0;
  for (;;) {
    const { bytesRead } = await file.read(buffer, 0, requestBytes, total);
    if (bytesRead === 0) break;
    total += bytesRead;
  }
  await file.close();
  if (total !== fileBytes) throw new Error(`"${path}" has ${total} bytes, wanted ${fileBytes}`);
}

async function readRandomly(path: string): Promise<void> {
  const file = await open(path, "r");
  // A fixed stride through the file visits its blocks in no order that a read-ahead could guess.
  const blocks = fileBytes / smallBytes;
  await parallel(randomReads, async (i) => {
    const at = ((i * 7919) % blocks) * smallBytes;
    await file.read(Buffer.allocUnsafe(smallBytes), 0, smallBytes, at);
  });
  await file.close();
}

async function createSmall(directory: string): Promise<void> {
  const content = Buffer.alloc(smallBytes, 1);
  await parallel(smallFiles, async (i) => {
    const file = await open(join(directory, `f${i}`), "w");
    await file.write(content);
    await file.close();
  });
}

/** Calls `work` for 0 … count - 1, `lanes` at a time. */
async function parallel(count: number, work: (i: number) => Promise<void>): Promise<void> {
  let next = 0;
  const lane = async () => {
    while (next < count) await work(next++);
  };
  await Promise.all(Array.from({ length: lanes }, lane));
}
