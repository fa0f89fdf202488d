/**
 * Step 2: a real directory tree as under storage, compared with its source by `diff -r`; and a file over 100 MB by
 * `sha256sum`, cold (nothing cached) and again warm.
 */
import { copyFile, link, mkdir, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { bytesText, countText, durationText, rateText } from "../../output.ts";
import { fileUri } from "../../start/layout.ts";
import { removeTree } from "../../start/remove-tree.ts";
import { measureTree } from "../data.ts";
import type { Ran } from "../run.ts";
import { expectEqual, type Step, type TourContext } from "../step.ts";

const largeBytes = 100_000_000;

export const realTree: Step = {
  title: "A real tree, read back",
  async run(tour) {
    const { runner, data, mount, scratch } = tour;
    const size = await measureTree(data);
    await runner.weir(["fs", "mount", "/tree", fileUri(data), "--read-only"]);
    let compared: Ran;
    if (mount === undefined) {
      const copy = join(scratch, "tree");
      const fetched = await runner.weir(["fs", "get", "--recursive", "/tree", copy]);
      await runner.run("diff", ["-r", "--no-dereference", data, copy]);
      removeTree(copy);
      compared = fetched;
    } else {
      compared = await runner.run("diff", ["-r", "--no-dereference", data, join(mount, "tree")]);
    }

    const large = await largeFile(tour);
    await runner.weir(["fs", "mount", "/large", fileUri(dirname(large)), "--read-only"]);
    const inside = `/large/${basename(large)}`;
    await runner.weir(["fs", "free", inside]);
    const expected = hashOf(await runner.run("sha256sum", [large]));
    const cold = await hashThrough(tour, inside);
    expectEqual(`sha256 of ${inside}, cold`, hashOf(cold), expected);
    const warm = await hashThrough(tour, inside);
    expectEqual(`sha256 of ${inside}, warm`, hashOf(warm), expected);
    const { size: largeSize } = await stat(large);
    return [
      `${countText(size.files)} files, ${countText(size.links)} links, ${bytesText(size.bytes)}: no difference (${durationText(compared.durationMs)})`,
      `${basename(large)}, ${bytesText(largeSize)}: sha256 equal, cold ${rateText(largeSize, cold.durationMs)}, warm ${rateText(largeSize, warm.durationMs)}`,
    ];
  },
};

/** Node itself; where it is under 100 MB, in an archive with what surrounds it until it is not. */
async function largeFile({ scratch, runner, data }: TourContext): Promise<string> {
  const directory = join(scratch, "large");
  await mkdir(directory, { recursive: true });
  const node = process.execPath;
  if ((await stat(node)).size > largeBytes) {
    const file = join(directory, "node");
    await link(node, file).catch(() => copyFile(node, file));
    return file;
  }
  const file = join(directory, "node.tar");
  const parts = ["-C", dirname(node), basename(node), "-C", dirname(data), basename(data)];
  await runner.run("tar", ["-cf", file, ...parts]);
  while ((await stat(file)).size <= largeBytes) {
    await runner.run("tar", ["-rf", file, "-C", dirname(node), basename(node)]);
  }
  return file;
}

async function hashThrough({ runner, mount }: TourContext, path: string): Promise<Ran> {
  if (mount !== undefined) return runner.run("sha256sum", [join(mount, path)]);
  return runner.weir(["fs", "checksum", path]);
}

function hashOf({ stdout }: Ran): string {
  return stdout.split(" ")[0]!.trim();
}
