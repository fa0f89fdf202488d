import assert from "node:assert/strict";
import { mkdtemp, readdir, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { rootInodeId } from "../../src/lib/ids.ts";
import { eventually } from "../lib/eventually.ts";
import { createCommand, ListingWorker, MasterCluster, TestSession } from "./master-cluster.ts";

const retainedEntries = 20;
const segmentBytes = 256 * 1024;

async function bytesIn(directory: string): Promise<number> {
  let total = 0;
  for (const name of await readdir(directory)) {
    // A segment that is removed meanwhile takes no room.
    total += await stat(join(directory, name)).then(
      ({ size }) => size,
      () => 0,
    );
  }
  return total;
}

describe("The journal of a single master", function () {
  this.timeout(120_000);
  let cluster: MasterCluster;

  beforeEach(async () => {
    const directory = await mkdtemp(join(tmpdir(), "weir-journal-size-"));
    const master = { retainedEntries, segmentBytes };
    cluster = await MasterCluster.start(directory, { count: 1, master });
  });
  afterEach(() => cluster.close());

  it("A5: stays bounded under constant writes, and opens again with everything", async () => {
    const journal = (await findJournals(cluster.directory))[0]!;
    const connection = cluster.connect();
    const session = await TestSession.open(connection);
    const worker = await ListingWorker.start(cluster);
    const { inode } = (await session.create(rootInodeId, "data", "directory")).status!;
    await worker.stop();
    const long = "x".repeat(230);
    let [written, largest] = [0, 0];
    for (let round = 0; round < 480; round++) {
      await Promise.all(
        Array.from({ length: 4 }, (_, lane) => {
          const commands = Array.from({ length: 40 }, (_each, i) =>
            createCommand(
              inode,
              `${String(lane)}-${String(i)}-${String(round % 10)}-${long}`,
              "file",
            ),
          );
          written += commands.length * (long.length + 8);
          return session.send(commands);
        }),
      );
      largest = Math.max(largest, await bytesIn(journal));
    }
    // What is retained, what the store has not synced yet (half a second of writes, and the flush under way), and three
    // segments: the active one, the next one, and one that is still needed in part.
    const bound = 8 * 1024 * 1024;
    assert.ok(written > 2 * bound, `${String(written)} bytes written`);
    assert.ok(largest < bound, `${String(largest)} bytes on disk`);
    const states = await cluster.settled(connection);
    const [master] = cluster.masters;
    await master!.kill();
    master!.start();
    await eventually("all to be applied again", async () => {
      const [again] = await cluster.settled(connection);
      return again!.appliedIndex >= states[0]!.appliedIndex;
    });
    const { results } = await session.send([createCommand(inode, `3-39-9-${long}`, "file")]);
    assert.deepEqual(
      results.map((each) => each.ok || each.code),
      ["AlreadyExists"],
    );
    connection.close();
  });
});

async function findJournals(directory: string): Promise<string[]> {
  const found: string[] = [];
  for (const entry of await readdir(directory, { withFileTypes: true, recursive: true })) {
    if (entry.isDirectory() && entry.name === "journal") {
      found.push(join(entry.parentPath, entry.name));
    }
  }
  return found;
}
