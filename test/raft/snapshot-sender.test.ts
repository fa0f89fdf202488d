import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer, type Server } from "node:net";
import { sleep } from "../../src/lib/clock.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { encode } from "../../src/lib/schema.ts";
import { FramedSocket } from "../../src/raft/host/framed-socket.ts";
import { done, end, keepMs, snapshotResume } from "../../src/raft/host/snapshot-protocol.ts";
import {
  besideCommandsBytesPerSecond,
  SnapshotSender,
} from "../../src/raft/host/snapshot-sender.ts";
import type { Transport } from "../../src/raft/transport.ts";
import type { Index } from "../../src/raft/types.ts";
import { eventually } from "../lib/eventually.ts";
import { ManualClock } from "../master/services/manual-clock.ts";

const nobody = Number.POSITIVE_INFINITY;

/** A connection that tells how long its reader would wait. */
class WatchedSocket extends FramedSocket {
  readonly waits: number[] = [];

  override next(timeoutMs: number): Promise<Buffer> {
    this.waits.push(timeoutMs);
    return super.next(timeoutMs);
  }
}

describe("raft: sender of snapshots", () => {
  let server: Server;
  let clock: ManualClock;
  let sender: SnapshotSender;
  /** The state that the next snapshot is of. */
  let applied: number;
  let match: number | undefined;
  let over: number;
  let chunkBytes: number;
  let lastIndex: number;
  /** The log grows with each chunk. */
  let isBusy: boolean;
  let isUrgent: boolean;
  /** What the follower does once it has read the header. */
  let follow: (socket: FramedSocket) => Promise<void>;
  const sockets = new Set<FramedSocket>();
  let own: WatchedSocket;

  beforeEach(async () => {
    clock = new ManualClock();
    applied = 100;
    match = 0;
    over = 0;
    chunkBytes = 1000;
    lastIndex = 100;
    isBusy = isUrgent = false;
    server = createServer((raw) => {
      const socket = new FramedSocket(raw);
      sockets.add(socket);
      void socket
        .next(5000)
        .then(() => follow(socket))
        .catch(() => undefined)
        .finally(() => socket.close());
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as { port: number };
    const transport: Pick<Transport, "peerOf" | "connect"> = {
      peerOf: () => ({ name: "follower", host: "127.0.0.1", port }),
      connect: async () => {
        const raw = connect(port, "127.0.0.1");
        await once(raw, "connect");
        const accepted = { kind: "accepted", nodeId: "f", clusterId: "c", version: 2 };
        own = new WatchedSocket(raw);
        return { socket: own, accepted } as never;
      },
    };
    sender = new SnapshotSender({
      take: async () => ({
        meta: { index: applied, term: 1 },
        async *chunks() {
          for (let place = 0; place < 4; place++) yield Buffer.alloc(chunkBytes, place);
        },
        close: async () => undefined,
      }),
      transport: transport as Transport,
      clock,
      logger: silentLogger,
      term: () => 1,
      matchOf: () => match as Index | undefined,
      lastIndex: () => (isBusy ? ++lastIndex : lastIndex) as Index,
      isUrgent: () => isUrgent,
      onOver: () => over++,
    });
  });

  afterEach(async () => {
    await sender.stop();
    for (const socket of sockets) socket.close();
    sockets.clear();
    server.close();
  });

  async function attempt() {
    const before = over;
    sender.send("f");
    await eventually("the end of the attempt", () => over > before);
  }

  async function takeAll(socket: FramedSocket) {
    socket.write([encode(snapshotResume, { chunks: 0, crc: 0 })]);
    while ((await socket.next(5000)).length > 0);
  }

  async function installAll(socket: FramedSocket) {
    await takeAll(socket);
    socket.write([done]);
    await socket.next(5000);
  }

  it("does not hold the log for ever for a follower that breaks every transfer", async () => {
    follow = async (socket) => {
      await takeAll(socket);
      socket.close();
    };
    const floors: number[] = [];
    for (let minute = 1; minute <= 5; minute++) {
      for (let i = 0; i < 6; i++) {
        await attempt();
        clock.advance(keepMs / 6);
        applied += 10;
      }
      floors.push(sender.floor(nobody));
    }
    for (const [minute, floor] of floors.entries()) {
      // What is held is not older than the time that a transfer may stand still, and the attempt after it.
      assert.ok(floor >= applied - (floors.length - minute + 2) * 60, `${floor} of ${applied}`);
    }
  });

  it("holds the log for a follower that has installed one until that one has caught up", async () => {
    follow = installAll;
    await attempt();
    // What it says of itself is on its way.
    assert.equal(sender.floor(500), 100);
    match = 100;
    assert.equal(sender.floor(500), 100);
    for (let step = 0; step < 10; step++) {
      clock.advance(keepMs / 2);
      match += 30;
      assert.equal(sender.floor(500), match);
    }
    clock.advance(keepMs / 2);
    match = 500;
    assert.equal(sender.floor(500), nobody);
    match = 0;
    assert.equal(sender.floor(500), nobody, "it was told once that it has caught up");
  });

  it("does not hold it for one that gets no further, nor when this node leads no more", async () => {
    follow = installAll;
    await attempt();
    assert.equal(sender.floor(500), 100);
    clock.advance(keepMs - 1);
    assert.equal(sender.floor(500), 100);
    clock.advance(1);
    assert.equal(sender.floor(500), nobody);
    await attempt();
    assert.equal(sender.floor(500), 100);
    match = undefined;
    assert.equal(sender.floor(500), nobody);
  });

  it("waits for a follower that installs as long as it says that it is there", async () => {
    follow = async (socket) => {
      await takeAll(socket);
      for (let beat = 0; beat < 3; beat++) {
        socket.write([end]);
        await sleep(5);
      }
      assert.equal(over, 0);
      socket.write([done]);
      await socket.next(5000);
    };
    await attempt();
    assert.notEqual(sender.floor(500), nobody, "it was not heard to the end");
    // A machine without power says nothing: that shows in seconds.
    assert.ok(Math.max(...own.waits) <= 30_000, String(own.waits));
  });

  describe("beside commands", () => {
    let arrived: number;

    beforeEach(() => {
      chunkBytes = besideCommandsBytesPerSecond / 10;
      arrived = 0;
      follow = async (socket) => {
        socket.write([encode(snapshotResume, { chunks: 0, crc: 0 })]);
        while ((await socket.next(5000)).length > 0) arrived++;
        socket.write([done]);
        await socket.next(5000);
      };
    });

    /** What has arrived once nothing more does. */
    async function settled(): Promise<number> {
      for (let before = -1, quiet = 0; quiet < 20; quiet++) {
        if (arrived !== before) quiet = 0;
        before = arrived;
        await sleep(1);
      }
      return arrived;
    }

    it("sends so many bytes in a second, and no more", async () => {
      isBusy = true;
      sender.send("f");
      for (let chunks = 0; chunks < 4; chunks++) {
        await eventually("a chunk that waits", () => clock.waiting === 1);
        assert.equal(await settled(), chunks);
        clock.advance(99);
        assert.equal(await settled(), chunks);
        clock.advance(1);
      }
      await eventually("the end", () => over === 1);
      assert.equal(arrived, 4);
    });

    it("sends at once when none come in", async () => {
      await attempt();
      assert.equal(arrived, 4);
    });

    it("sends at once when the log behind the snapshot is about to be forgotten", async () => {
      isBusy = isUrgent = true;
      await attempt();
      assert.equal(arrived, 4);
    });

    it("ends at once when it is stopped", async () => {
      isBusy = true;
      sender.send("f");
      await eventually("a chunk that waits", () => clock.waiting === 1);
      await sender.stop();
    });
  });
});
