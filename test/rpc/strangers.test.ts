/** What connects to an RPC port and is no client. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { sleep } from "../../src/lib/clock.ts";
import { frameHeader } from "../../src/lib/framing.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { bytes, struct, unsigned } from "../../src/lib/schema.ts";
import { RpcClient } from "../../src/rpc/client.ts";
import { method } from "../../src/rpc/method.ts";
import { RpcServer } from "../../src/rpc/server.ts";
import { encodeBody, encodeFrame, maxMessageBytes } from "../../src/rpc/wire.ts";
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

  const framed = (payload: Uint8Array) => Buffer.concat([frameHeader(payload), payload]);
  const announcing = (bytes: number) => {
    const header = Buffer.alloc(8);
    header.writeUInt32BE(bytes, 0);
    return header;
  };

  it("closes on a first frame that announces more than a message may have, before its bytes, and says so", async () => {
    for (const announced of [2 ** 30, maxMessageBytes + 1]) {
      said.length = 0;
      const one = stranger();
      one.socket.write(announcing(announced));
      await eventually("the connection to end", () => one.isClosed);
      const wanted = `wanted at most ${String(maxMessageBytes)}`;
      assert.deepEqual(said, [
        `closed a connection: Cannot read a frame: it announces ${String(announced)} bytes, ${wanted}`,
      ]);
    }
  });

  it("takes a client whose first frame is a request of megabytes", async () => {
    for (const size of [2 ** 17, maxMessageBytes - 2 ** 10]) {
      assert(await serves(new Uint8Array(size)));
    }
    assert.deepEqual(said, []);
  });

  it("takes one whose first frame comes slowly, as long as it comes", async () => {
    const body = encodeBody(length.request, { body: Buffer.alloc(2 ** 20) });
    const request = { kind: "request", id: 1, method: "length", deadlineMs: 20_000, body } as const;
    const bytes = framed(encodeFrame(request));
    const slow = stranger();
    // Longer altogether than a connection may be silent.
    for (let at = 0; at < bytes.length; at += 2 ** 17) {
      slow.socket.write(bytes.subarray(at, at + 2 ** 17));
      await sleep(800);
    }
    await eventually("the answer", () => slow.socket.bytesRead > 0);
    assert(!slow.isClosed);
  });

  it("holds a bounded part of first frames: the oldest of too many go, said once, and clients are served", async () => {
    const part = Buffer.concat([announcing(maxMessageBytes), Buffer.alloc(2 ** 20)]);
    const crowd: Stranger[] = [];
    for (let i = 0; i < 90; i++) {
      const one = stranger();
      one.socket.write(part);
      crowd.push(one);
      // One after the other, so that it is known who is oldest.
      await once(one.socket, "drain");
      if (i % 30 === 29) assert(await serves(new Uint8Array(2 ** 20)));
    }
    // 64 MiB have room: of 90, the first 26 at least are too many.
    await eventually("the oldest to end", () => crowd.slice(0, 26).every((each) => each.isClosed));
    assert(await serves(new Uint8Array(2 ** 20)));
    assert(crowd.slice(-60).every((each) => !each.isClosed));
    assert.deepEqual(said, ["closed a connection: first frames take more than 67108864 bytes"]);
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
