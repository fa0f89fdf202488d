import assert from "node:assert/strict";
import { connect, createServer, type Server, type Socket } from "node:net";
import { pack } from "msgpackr";
import { hasCode, WeirError } from "../../src/lib/errors.ts";
import { frameHeader, FrameReader } from "../../src/lib/framing.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { bytes, struct, text, unsigned } from "../../src/lib/schema.ts";
import { RpcClient } from "../../src/rpc/client.ts";
import { method, streamMethod } from "../../src/rpc/method.ts";
import { type CallContext, RpcServer } from "../../src/rpc/server.ts";
import {
  decodeFrame,
  encodeFrame,
  leaderAddressOf,
  maxMessageBytes,
  notLeader,
} from "../../src/rpc/wire.ts";
import { seededRandom } from "../../src/lib/clock.ts";
import { eventually } from "../lib/eventually.ts";

const double = method("double", struct({ value: unsigned() }), struct({ value: unsigned() }));
const refuse = method("refuse", struct({ kind: text }), struct({}));
const hang = method("hang", struct({}), struct({}));
const echo = method("echo", struct({ body: bytes }), struct({ body: bytes }));
const count = streamMethod("count", struct({ to: unsigned() }), struct({ value: unsigned() }));

describe("RPC", () => {
  let server: RpcServer;
  let client: RpcClient;
  let hanging: CallContext[];
  let produced: number;

  beforeEach(async () => {
    hanging = [];
    produced = 0;
    server = await RpcServer.listen({ host: "127.0.0.1", port: 0, logger: silentLogger });
    server.handle(double, async ({ value }) => ({ value: value * 2 }));
    server.handle(echo, async ({ body }) => ({ body }));
    server.handle(refuse, async ({ kind }) => {
      if (kind === "notLeader") throw notLeader("10.0.0.1:19998");
      if (kind === "bug") throw new TypeError("a bug");
      throw new WeirError("VersionConflict", "Cannot commit: version 3", { outcome: "unknown" });
    });
    server.handle(hang, (_request, context) => {
      hanging.push(context);
      return new Promise((_resolve, reject) => {
        context.signal.addEventListener("abort", () => reject(context.signal.reason as Error));
      });
    });
    server.handleStream(count, async function* ({ to }) {
      for (let value = 0; value < to; value++) {
        produced++;
        yield { value };
      }
    });
    client = new RpcClient({ host: "127.0.0.1", port: server.port, logger: silentLogger });
  });

  afterEach(async () => {
    client.close();
    await server.close();
  });

  it("answers calls, and many at once", async () => {
    const answers = await Promise.all(
      Array.from({ length: 200 }, (_, value) =>
        client.call(double, { value }, { deadlineMs: 5000 }),
      ),
    );
    assert.deepEqual(
      answers.map(({ value }) => value),
      Array.from({ length: 200 }, (_, value) => value * 2),
    );
  });

  it("carries an error with its code, outcome and leader's address", async () => {
    await assert.rejects(
      client.call(refuse, { kind: "notLeader" }, { deadlineMs: 5000 }),
      (error) => {
        assert(hasCode(error, "NotLeader"));
        assert.equal(error.outcome, "notApplied");
        assert.equal(leaderAddressOf(error), "10.0.0.1:19998");
        return true;
      },
    );
    await assert.rejects(client.call(refuse, { kind: "other" }, { deadlineMs: 5000 }), (error) => {
      assert(hasCode(error, "VersionConflict"));
      assert.equal(error.outcome, "unknown");
      return true;
    });
    await assert.rejects(client.call(refuse, { kind: "bug" }, { deadlineMs: 5000 }), (error) =>
      hasCode(error, "Internal"),
    );
  });

  it("serves 64 parallel clients", async () => {
    const clients = Array.from(
      { length: 64 },
      () => new RpcClient({ host: "127.0.0.1", port: server.port, logger: silentLogger }),
    );
    try {
      const body = Buffer.alloc(100_000, 7);
      await Promise.all(
        clients.map(async (each, value) => {
          for (let round = 0; round < 10; round++) {
            assert.equal(
              (await each.call(double, { value }, { deadlineMs: 20_000 })).value,
              value * 2,
            );
            const back = await each.call(echo, { body }, { deadlineMs: 20_000 });
            assert.equal(Buffer.compare(back.body, body), 0);
          }
        }),
      );
    } finally {
      for (const each of clients) each.close();
    }
  });

  it("ends a call at its deadline on both ends", async () => {
    await assert.rejects(client.call(hang, {}, { deadlineMs: 50 }), (error) => {
      assert(hasCode(error, "DeadlineExceeded"));
      assert.equal(error.outcome, "unknown");
      return true;
    });
    await eventually("the handler to be aborted", () => hanging[0]?.signal.aborted === true);
  });

  it("ends many calls with deadlines of their own", async () => {
    const ended: number[] = [];
    const deadlines = [400, 40, 250, 90, 150];
    const calls = deadlines.map((deadlineMs) =>
      client.call(hang, {}, { deadlineMs }).catch((error: unknown) => {
        assert(hasCode(error, "DeadlineExceeded"));
        ended.push(deadlineMs);
      }),
    );
    await Promise.all(calls);
    assert.deepEqual(
      ended.toSorted((a, b) => a - b),
      [40, 90, 150, 250, 400],
    );
  });

  it("gives an aborted signal to a handler that asks for it when the call is over", async () => {
    const late: CallContext[] = [];
    server.handle(double, (_request, context) => {
      late.push(context);
      return new Promise(() => undefined);
    });
    await assert.rejects(client.call(double, { value: 1 }, { deadlineMs: 30 }));
    await eventually("the server to see it", () => late[0]?.aborted === true);
    assert.ok(late[0]!.signal.aborted);
    // Either end may see first that time is over.
    assert(hasCode(late[0]!.signal.reason, "DeadlineExceeded", "Cancelled"));
  });

  it("answers at once from handlers that need not wait, and with what they throw", async () => {
    server.handle(double, ({ value }) => {
      if (value === 0) throw new WeirError("NotFound", "Cannot double nothing");
      return { value: value * 2 };
    });
    assert.equal((await client.call(double, { value: 4 }, { deadlineMs: 5000 })).value, 8);
    await assert.rejects(client.call(double, { value: 0 }, { deadlineMs: 5000 }), (error) =>
      hasCode(error, "NotFound"),
    );
  });

  it("aborts the handler when the client cancels", async () => {
    const controller = new AbortController();
    const call = client.call(hang, {}, { deadlineMs: 60_000, signal: controller.signal });
    await eventually("the call to arrive", () => hanging.length === 1);
    controller.abort();
    await assert.rejects(call, (error) => hasCode(error, "Cancelled"));
    await eventually("the handler to be aborted", () => hanging[0]!.signal.aborted);
  });

  it("aborts the handler and tells the connection's owner when the client is gone", async () => {
    const call = client.call(hang, {}, { deadlineMs: 60_000 });
    await eventually("the call to arrive", () => hanging.length === 1);
    let closed = false;
    hanging[0]!.connection.onClose(() => {
      closed = true;
    });
    client.close();
    await assert.rejects(call, (error) => hasCode(error, "Unavailable"));
    await eventually("the handler to be aborted", () => hanging[0]!.signal.aborted && closed);
  });

  it("streams in order, at most a window ahead of the consumer", async () => {
    const controller = new AbortController();
    const seen: number[] = [];
    for await (const { value } of client.stream(
      count,
      { to: 2000 },
      { signal: controller.signal },
    )) {
      seen.push(value);
      if (value === 10) {
        await new Promise((resolve) => setTimeout(resolve, 20));
        assert(produced <= 300, `${String(produced)} were produced`);
      }
    }
    assert.deepEqual(
      seen,
      Array.from({ length: 2000 }, (_, value) => value),
    );
  });

  it("stops a stream that its consumer leaves", async () => {
    const controller = new AbortController();
    for await (const { value } of client.stream(
      count,
      { to: 1e9 },
      { signal: controller.signal },
    )) {
      if (value === 5) break;
    }
    const before = produced;
    assert.equal((await client.call(double, { value: 1 }, { deadlineMs: 5000 })).value, 2);
    assert.equal(produced, before);
  });

  it("says notApplied when nobody listens, and unknown when the connection is lost under a call", async () => {
    const nobody = new RpcClient({ host: "127.0.0.1", port: 1, logger: silentLogger });
    await assert.rejects(nobody.call(double, { value: 1 }, { deadlineMs: 5000 }), (error) => {
      assert(hasCode(error, "Unavailable"));
      assert.equal(error.outcome, "notApplied");
      return true;
    });
    nobody.close();
    const call = client.call(hang, {}, { deadlineMs: 60_000 });
    await eventually("the call to arrive", () => hanging.length === 1);
    await Promise.all([
      assert.rejects(call, (error) => {
        assert(hasCode(error, "Unavailable"));
        assert.equal(error.outcome, "unknown");
        return true;
      }),
      server.close(),
    ]);
  });

  it("connects again at the next call after the connection was lost", async () => {
    assert.equal((await client.call(double, { value: 1 }, { deadlineMs: 5000 })).value, 2);
    const { port } = server;
    await server.close();
    await assert.rejects(client.call(double, { value: 1 }, { deadlineMs: 5000 }));
    server = await RpcServer.listen({ host: "127.0.0.1", port, logger: silentLogger });
    server.handle(double, async ({ value }) => ({ value: value * 2 }));
    assert.equal((await client.call(double, { value: 3 }, { deadlineMs: 5000 })).value, 6);
  });

  it("answers Busy beyond the bound of calls under way", async () => {
    const refused: unknown[] = [];
    const calls = Array.from({ length: 1030 }, () =>
      client
        .call(hang, {}, { deadlineMs: 60_000 })
        .catch((error: unknown) => hasCode(error, "Busy") && refused.push(error)),
    );
    await eventually("the refusals", () => refused.length === 6);
    assert.equal(hanging.length, 1024);
    client.close();
    await Promise.all(calls);
  });

  it("names the port that is taken", async () => {
    await assert.rejects(
      RpcServer.listen({ host: "127.0.0.1", port: server.port, logger: silentLogger }),
      /the port is in use by another process/,
    );
  });
});

describe("RPC with a half-open peer", () => {
  let silent: Server;
  const sockets = new Set<Socket>();
  let port: number;

  beforeEach(async () => {
    silent = createServer((socket) => {
      sockets.add(socket);
      socket.on("error", () => undefined);
    });
    await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
    port = (silent.address() as { port: number }).port;
  });

  afterEach(async () => {
    for (const socket of sockets) socket.destroy();
    sockets.clear();
    await new Promise((resolve) => silent.close(resolve));
  });

  it("ends the call at its deadline with outcome unknown", async () => {
    const client = new RpcClient({ host: "127.0.0.1", port, logger: silentLogger });
    await assert.rejects(client.call(double, { value: 1 }, { deadlineMs: 100 }), (error) => {
      assert(hasCode(error, "DeadlineExceeded"));
      assert.equal(error.outcome, "unknown");
      return true;
    });
    client.close();
  });

  it("gives the connection up when its probes stay unanswered", async function () {
    this.timeout(15_000);
    const client = new RpcClient({ host: "127.0.0.1", port, logger: silentLogger });
    await assert.rejects(client.call(double, { value: 1 }, { deadlineMs: 60_000 }), (error) => {
      assert(hasCode(error, "Unavailable"));
      assert.equal(error.outcome, "unknown");
      return true;
    });
    client.close();
  });
});

describe("RPC server under hostile input", () => {
  let server: RpcServer;

  beforeEach(async () => {
    server = await RpcServer.listen({ host: "127.0.0.1", port: 0, logger: silentLogger });
    server.handle(double, async ({ value }) => ({ value: value * 2 }));
  });

  afterEach(async () => {
    await server.close();
  });

  /** Sends raw bytes; resolves with the payloads answered before the server closed, or after `wanted` of them. */
  function send(raw: Uint8Array, wanted = Infinity): Promise<Buffer[]> {
    return new Promise((resolve) => {
      const socket = connect({ host: "127.0.0.1", port: server.port });
      const reader = new FrameReader();
      const answers: Buffer[] = [];
      const done = () => {
        socket.destroy();
        resolve(answers);
      };
      socket.on("data", (chunk) => {
        answers.push(...reader.push(chunk));
        if (answers.length >= wanted) done();
      });
      socket.on("error", () => undefined);
      socket.on("close", done);
      socket.end(raw);
    });
  }

  const framed = (payload: Uint8Array) => Buffer.concat([frameHeader(payload), payload]);

  async function assertAlive() {
    const client = new RpcClient({ host: "127.0.0.1", port: server.port, logger: silentLogger });
    assert.equal((await client.call(double, { value: 4 }, { deadlineMs: 5000 })).value, 8);
    client.close();
  }

  it("survives random bytes, framed and bare", async () => {
    const random = seededRandom(1);
    for (let round = 0; round < 100; round++) {
      const noise = Buffer.from(
        Array.from({ length: random.below(200) + 1 }, () => random.below(256)),
      );
      await send(round % 2 === 0 ? noise : framed(noise));
    }
    await assertAlive();
  });

  it("refuses a frame of a huge length without reading it", async () => {
    assert.deepEqual(await send(Buffer.from([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0])), []);
    assert.deepEqual(await send(Buffer.from([0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0])), []);
    await assertAlive();
  });

  it("answers ProtocolError to fields of wrong types", async () => {
    for (const body of [null, "text", 7, ["text"], [-1], [1.5], [[1]], { value: 1 }]) {
      const head = { kind: "request", id: 1, method: "double", deadlineMs: 1000 } as const;
      const request = encodeFrame({ ...head, body: pack(body) });
      const [answer] = await send(framed(request), 1);
      const frame = decodeFrame(answer!, "server");
      assert(frame.kind === "error" && frame.error.code === "ProtocolError", frame.kind);
    }
    await assertAlive();
  });

  it("answers NotSupported to an unknown method, also to names of every object", async () => {
    for (const name of ["nothing", "constructor", "__proto__"]) {
      const head = { kind: "request", id: 1, method: name, deadlineMs: 0 } as const;
      const request = encodeFrame({ ...head, body: pack([]) });
      const [answer] = await send(framed(request), 1);
      const frame = decodeFrame(answer!, "server");
      assert(frame.kind === "error" && frame.error.code === "NotSupported", frame.kind);
    }
  });

  it("cuts an error that is larger than a message, in a call and in a stream, and goes on", async () => {
    const long = "\x01".repeat(maxMessageBytes);
    const fail = () => {
      throw new WeirError("NotFound", `Cannot find "${long}": no such file or directory`);
    };
    const atOnce = method("atOnce", struct({}), struct({}));
    const later = method("later", struct({}), struct({}));
    const items = streamMethod("items", struct({}), struct({}));
    server.handle(atOnce, fail);
    server.handle(later, async () => fail());
    server.handleStream(items, async function* () {
      fail();
    });
    const client = new RpcClient({ host: "127.0.0.1", port: server.port, logger: silentLogger });
    const isCut = (thrown: unknown) => {
      assert(hasCode(thrown, "NotFound"));
      assert(thrown.message.length <= 1024, String(thrown.message.length));
      assert.match(thrown.message, /^Cannot find "[^]*": no such file or directory$/);
      return true;
    };
    await assert.rejects(client.call(atOnce, {}, { deadlineMs: 5000 }), isCut);
    await assert.rejects(client.call(later, {}, { deadlineMs: 5000 }), isCut);
    const { signal } = new AbortController();
    await assert.rejects(
      client.stream(items, {}, { signal })[Symbol.asyncIterator]().next(),
      isCut,
    );
    client.close();
    await assertAlive();
  });

  it("answers with an error for that call alone when an answer or an item is too large", async () => {
    const big = method("big", struct({}), struct({ body: bytes }));
    const bigItems = streamMethod("bigItems", struct({}), struct({ body: bytes }));
    const answer = { body: new Uint8Array(maxMessageBytes) };
    server.handle(big, async () => answer);
    server.handleStream(bigItems, async function* () {
      yield answer;
    });
    const client = new RpcClient({ host: "127.0.0.1", port: server.port, logger: silentLogger });
    const isTooLarge = (thrown: unknown) => {
      assert(hasCode(thrown, "InvalidArgument"));
      assert.match(thrown.message, /^Cannot send a message of \d+ bytes: wanted at most \d+$/);
      return true;
    };
    const beside = client.call(double, { value: 2 }, { deadlineMs: 5000 });
    await assert.rejects(client.call(big, {}, { deadlineMs: 5000 }), isTooLarge);
    const { signal } = new AbortController();
    const stream = client.stream(bigItems, {}, { signal })[Symbol.asyncIterator]();
    await assert.rejects(stream.next(), isTooLarge);
    assert.equal((await beside).value, 4);
    assert.equal((await client.call(double, { value: 3 }, { deadlineMs: 5000 })).value, 6);
    client.close();
  });

  it("quotes little of a hostile field in the error", async () => {
    for (const body of [["\x01".repeat(3_000_000)], [Array(100_000).fill("x")]]) {
      const head = { kind: "request", id: 1, method: "double", deadlineMs: 1000 } as const;
      const [payload] = await send(framed(encodeFrame({ ...head, body: pack(body) })), 1);
      const frame = decodeFrame(payload!, "server");
      assert(frame.kind === "error" && frame.error.code === "ProtocolError", frame.kind);
      assert(payload!.length < 2000, String(payload!.length));
    }
    await assertAlive();
  });

  it("closes on frames that only a server sends", async () => {
    assert.deepEqual(await send(framed(encodeFrame({ kind: "reply", id: 1, body: pack([]) }))), []);
    await assertAlive();
  });

  it("ignores credit and cancels of calls that do not exist", async () => {
    await send(
      Buffer.concat([
        framed(encodeFrame({ kind: "cancel", id: 99 })),
        framed(encodeFrame({ kind: "credit", id: 99, count: 1e9 })),
      ]),
    );
    await assertAlive();
  });
});
