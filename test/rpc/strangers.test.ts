/** What connects to an RPC port and is no client. */
import assert from "node:assert/strict";
import { connect, type Socket } from "node:net";
import { frameHeader, strangerFrameBytes } from "../../src/lib/framing.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { bytes, struct, unsigned } from "../../src/lib/schema.ts";
import { RpcClient } from "../../src/rpc/client.ts";
import { method } from "../../src/rpc/method.ts";
import { RpcServer } from "../../src/rpc/server.ts";
import { encodeFrame } from "../../src/rpc/wire.ts";
import { eventually } from "../lib/eventually.ts";

const length = method("length", struct({ body: bytes }), struct({ value: unsigned() }));

describe("RPC server among strangers", function () {
  this.timeout(30_000);
  let server: RpcServer;
  let said: string[];
  let sockets: Stranger[];

  beforeEach(async () => {
    said = [];
    sockets = [];
    const warn = (fields: object, message: string) => {
      said.push(`${message}: ${(fields as { error: string }).error}`);
    };
    const logger = { ...silentLogger, warn };
    server = await RpcServer.listen({ host: "127.0.0.1", port: 0, logger });
    server.handle(length, ({ body }) => ({ value: body.length }));
  });

  afterEach(async () => {
    for (const { socket } of sockets) socket.destroy();
    await server.close();
  });

  interface Stranger {
    readonly socket: Socket;
    isClosed: boolean;
  }

  function stranger(): Stranger {
    const socket = connect({ host: "127.0.0.1", port: server.port });
    const made = { socket, isClosed: false };
    socket.resume();
    socket.on("error", () => undefined);
    socket.on("close", () => {
      made.isClosed = true;
    });
    sockets.push(made);
    return made;
  }

  async function serves(body: Uint8Array): Promise<boolean> {
    const client = new RpcClient({ host: "127.0.0.1", port: server.port, logger: silentLogger });
    try {
      const { value } = await client.call(length, { body }, { deadlineMs: 20_000 });
      return value === body.length;
    } finally {
      client.close();
    }
  }

  it("closes on a first frame that announces more than 64 KiB, before its bytes, and says so", async () => {
    for (const announced of [2 ** 30, 2 ** 20, strangerFrameBytes + 1]) {
      said.length = 0;
      const header = Buffer.alloc(8);
      header.writeUInt32BE(announced, 0);
      const one = stranger();
      one.socket.write(header);
      await eventually("the connection to end", () => one.isClosed);
      const wanted = "wanted at most 65536 before it is known who sends it";
      assert.deepEqual(said, [
        `closed a connection: Cannot read a frame: it announces ${String(announced)} bytes, ${wanted}`,
      ]);
    }
  });

  it("closes on 1 MiB in a first frame that is whole", async () => {
    const payload = Buffer.alloc(2 ** 20, 0x90);
    const one = stranger();
    one.socket.write(Buffer.concat([frameHeader(payload), payload]));
    await eventually("the connection to end", () => one.isClosed);
    assert.match(said[0]!, /it announces 1048576 bytes, wanted at most 65536/);
  });

  it("takes a client whose first request has megabytes", async () => {
    assert(await serves(new Uint8Array(3 * 2 ** 20)));
    assert.deepEqual(said, []);
  });

  it("ends a connection that sends no whole frame in time, however busily it sends", async () => {
    const silent = stranger();
    const slow = stranger();
    const known = stranger();
    const payload = encodeFrame({ kind: "ping", id: 0 });
    known.socket.write(Buffer.concat([frameHeader(payload), payload]));
    slow.socket.write(Buffer.from([0, 0, 0xff, 0xff]));
    const drip = setInterval(() => slow.socket.write(Buffer.from([0])), 100);
    try {
      await eventually("both to end", () => silent.isClosed && slow.isClosed);
    } finally {
      clearInterval(drip);
    }
    assert(!known.isClosed);
    assert.equal(said.length, 2);
    assert.match(said[0]!, /it sent no whole frame within 5000 ms/);
  });

  it("drops the oldest of too many that say nothing, says so once, and serves its clients", async () => {
    const first = Array.from({ length: 256 }, stranger);
    await eventually("all to be connected", () => first.every(({ socket }) => !socket.connecting));
    assert(await serves(Buffer.from("a")));
    const more = Array.from({ length: 20 }, stranger);
    await eventually("the oldest to end", () => first.slice(0, 20).every((each) => each.isClosed));
    assert(await serves(Buffer.from("a")));
    assert(more.every((each) => !each.isClosed));
    assert.deepEqual(said, [
      "closed a connection: more than 256 connections have sent nothing yet",
    ]);
  });
});
