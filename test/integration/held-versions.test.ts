/** Open files, while others overwrite and unlink them: what is read stays for as long as it is open, and no longer. */
import assert from "node:assert/strict";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { WeirClient } from "../../src/client/client.ts";
import type { FileHandle } from "../../src/client/file-system.ts";
import type { InodeId } from "../../src/lib/ids.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { eventually } from "../lib/eventually.ts";
import { LocalCluster } from "../lib/local-cluster.ts";

describe("Versions that are open", function () {
  this.timeout(120_000);
  let directory: string;
  let cluster: LocalCluster;
  let reader: WeirClient;
  let writer: WeirClient;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "weir-held-"));
    const master = { retiredGraceMs: 1500 };
    cluster = await LocalCluster.start({
      directory,
      masters: 1,
      workers: 1,
      overrides: { master },
    });
    const { config } = cluster;
    reader = await WeirClient.connect({ config, logger: silentLogger, name: "reader" });
    writer = await WeirClient.connect({ config, logger: silentLogger, name: "writer" });
  });
  after(async () => {
    await Promise.all([reader.close(), writer.close()]);
    await cluster.close();
    await rm(directory, { recursive: true, force: true });
  });

  /** Bytes that no store has, so that the worker's copy is the only one. */
  async function write(path: string, text: string): Promise<InodeId> {
    const status = await writer.writeFile(path, Buffer.from(text), { writeType: "MUST_CACHE" });
    return status.inode;
  }

  /** Containers of a file that the worker has. */
  async function containersOf(inode: InodeId): Promise<number> {
    const files = await readdir(join(directory, "worker-1"), { recursive: true });
    const own = files.map((file) => basename(file)).filter((name) => name.startsWith(`${inode}.`));
    return new Set(own.map((name) => name.split(".")[1])).size;
  }

  async function contentOf(handle: FileHandle): Promise<string> {
    return Buffer.from(await handle.read(0, 100)).toString();
  }

  it("are read on after they were overwritten and after the grace, and reclaimed once they are closed", async () => {
    const held = await write("/held", "the first content");
    const control = await write("/control", "the first content");
    const handle = await reader.open("/held");
    assert.equal((await handle.read(0, 3)).length, 3);
    for (const path of ["/held", "/control"]) await write(path, "another");
    await eventually("what nobody reads to be gone", async () =>
      (await containersOf(control)) === 1 ? true : undefined,
    );
    assert.equal(await containersOf(held), 2);
    assert.equal(await contentOf(handle), "the first content");
    await handle.close();
    await eventually("what was read to be gone", async () =>
      (await containersOf(held)) === 1 ? true : undefined,
    );
  });

  it("are read on after another client unlinked the file, and reclaimed once they are closed", async () => {
    const held = await write("/unlinked", "the content");
    const control = await write("/forgotten", "the content");
    const handle = await reader.open("/unlinked");
    for (const path of ["/unlinked", "/forgotten"]) await writer.remove(path);
    await eventually("what nobody reads to be gone", async () =>
      (await containersOf(control)) === 0 ? true : undefined,
    );
    assert.equal(await contentOf(handle), "the content");
    assert.equal(await containersOf(held), 1);
    await handle.close();
    await eventually("what was read to be gone", async () =>
      (await containersOf(held)) === 0 ? true : undefined,
    );
  });
});
