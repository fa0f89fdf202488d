import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLogger } from "../../src/lib/logger.ts";
import { encode } from "../../src/lib/schema.ts";
import type { Driver } from "../../src/raft/host/driver.ts";
import { FramedSocket } from "../../src/raft/host/framed-socket.ts";
import { done, end, installBeatMs, snapshotHeader } from "../../src/raft/host/snapshot-protocol.ts";
import { SnapshotReceiver } from "../../src/raft/host/snapshot-receiver.ts";
import { eventually } from "../lib/eventually.ts";
import { ManualClock } from "../master/services/manual-clock.ts";
import { makeCore } from "./lib/core-cluster.ts";
import { ListMachine } from "./lib/list-machine.ts";

describe("raft: receiver of snapshots", () => {
  it("says now and then that it is there while it installs", async () => {
    const directory = await mkdtemp(join(tmpdir(), "weir-receiver-"));
    const clock = new ManualClock();
    const machine = new ListMachine();
    let isInstalling = false;
    let finish: () => void = () => undefined;
    machine.install = async (meta) => {
      isInstalling = true;
      await new Promise<void>((resolve) => {
        finish = resolve;
      });
      machine.appliedIndex = meta.index;
    };
    let installed = false;
    const driver: Pick<Driver, "core" | "betweenApplies" | "step"> = {
      core: makeCore({ voters: ["n1", "n2"], id: "n2" }),
      betweenApplies: (task) => void task(),
      step: ({ kind }) => {
        installed ||= kind === "installed";
      },
    };
    const receiver = new SnapshotReceiver({
      machine,
      directory,
      driver: driver as Driver,
      clock,
      logger: silentLogger,
      onFatal: (error) => assert.fail(String(error)),
    });
    const server = createServer((raw) => receiver.receive(new FramedSocket(raw), "n1", 2));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const socket = new FramedSocket(connect((server.address() as { port: number }).port));
    try {
      const header = { term: 1, index: 5, indexTerm: 1, id: "a", hash: undefined };
      socket.write([encode(snapshotHeader, header)]);
      assert.ok((await socket.next(5000)).length > 0);
      socket.write([Buffer.from("chunk"), end]);
      await eventually("the installation", () => isInstalling);
      for (let beat = 0; beat < 3; beat++) {
        clock.advance(installBeatMs);
        assert.equal((await socket.next(5000)).length, 0);
      }
      finish();
      assert.deepEqual(await socket.next(5000), done);
      assert.ok(installed);
      clock.advance(installBeatMs);
    } finally {
      socket.close();
      await receiver.stop();
      server.close();
      await rm(directory, { recursive: true, force: true });
    }
  });
});
