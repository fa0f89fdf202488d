/** The end of a master that cannot write its journal any more, while calls of all kinds wait there. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { hasCode } from "../../src/lib/errors.ts";
import { rootInodeId } from "../../src/lib/ids.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { RpcClient } from "../../src/rpc/client.ts";
import { masterApi } from "../../src/rpc/master-api.ts";
import { createCommand, ListingWorker, MasterCluster, TestSession } from "./master-cluster.ts";

/** Far beyond the test: nothing here ends by its deadline. */
const deadlineMs = 600_000;

describe("A master whose journal fails under it", function () {
  this.timeout(60_000);
  let directory: string;
  let cluster: MasterCluster;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), "weir-fatal-"));
  });
  afterEach(async () => {
    await cluster.close();
    await rm(directory, { recursive: true, force: true });
  });

  /**
   * From now on the process cannot write to a file behind its first `fileBytes` (EFBIG). With 128 KiB that is its journal,
   * not its log.
   */
  async function failJournal(session: TestSession, fileBytes = 131_072): Promise<void> {
    for (let round = 0; round < 10; round++) {
      const names = Array.from({ length: 100 }, (_, i) => `${round}-${i}`.padEnd(250, "-"));
      await session.send(names.map((name) => createCommand(rootInodeId, name)));
    }
    const { pid } = cluster.masters[0]!;
    await promisify(execFile)("prlimit", ["--pid", String(pid), `--fsize=${fileBytes}`]);
  }

  it("exits with a status at once, and leaves no call without an answer", async () => {
    cluster = await MasterCluster.start(directory, { count: 1 });
    const connection = cluster.connect();
    const worker = await ListingWorker.start(cluster);
    const { host, rpcPort: port } = cluster.configs[0]!;
    const client = new RpcClient({ host, port, logger: silentLogger });
    try {
      const session = await TestSession.open(connection);
      const gone = cluster.masters[0]!.gone();
      await failJournal(session);

      // A feed, and commands that come to be in the entry that fails, behind it and after it.
      const feed = client.stream(masterApi.subscribe, { after: 0 }, new AbortController());
      const held: Promise<unknown>[] = [feed[Symbol.asyncIterator]().next()];
      for (let sequence = 1000; sequence < 1200; sequence++) {
        const commands = [createCommand(rootInodeId, `f${sequence}`)];
        const request = { session: session.id, sequence, acknowledgedBelow: 0, atomic: false };
        held.push(client.call(masterApi.mutate, { ...request, commands }, { deadlineMs }));
      }
      const read = { path: "/", consistency: "linearizable" } as const;
      held.push(client.call(masterApi.resolve, read, { deadlineMs }));
      const ends = await Promise.allSettled(held);

      const commands = ends.slice(1, -1);
      for (const end of commands) {
        assert(end.status === "rejected");
        assert(hasCode(end.reason, "Unavailable", "NotLeader", "DiskFull"), String(end.reason));
        // Nothing was on the disk, but a commit may be on its way from there: only who knows may say so.
        if (hasCode(end.reason, "Unavailable")) assert.equal(end.reason.outcome, "unknown");
      }
      assert(
        commands.some((end) => end.status === "rejected" && hasCode(end.reason, "Unavailable")),
      );
      assert.equal(ends[0]!.status, "rejected");
      const status = await gone;
      assert(status !== null && status !== 0, `status ${String(status)}`);
      assert.match(await cluster.log(0), /Cannot write to the journal in .*; it takes no more\n/);
    } finally {
      client.close();
      connection.close();
      await worker.stop();
    }
  });

  it("exits with a status even if it cannot say why, as its log has no room either", async () => {
    cluster = await MasterCluster.start(directory, { count: 1 });
    const connection = cluster.connect();
    const worker = await ListingWorker.start(cluster);
    try {
      const session = await TestSession.open(connection);
      const gone = cluster.masters[0]!.gone();
      await failJournal(session, 16);
      await assert.rejects(session.send([createCommand(rootInodeId, "more")], 5000));
      const status = await gone;
      assert(status !== null && status !== 0, `status ${String(status)}`);
    } finally {
      connection.close();
      await worker.stop();
    }
  });
});
