import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { setMaxListeners } from "node:events";
import { crc32 } from "node:zlib";
import { connect } from "nats";
import { createBlockClient } from "../../src/blocks/client.ts";
import { type BlockConnection, connectBlocks } from "../../src/blocks/connection.ts";
import { encodeMessage, workerSubject } from "../../src/blocks/messages.ts";
import { serveBlocks } from "../../src/blocks/server.ts";
import type { BlockClient, BlockRead, ContainerId } from "../../src/blocks/types.ts";
import { sleep } from "../../src/lib/clock.ts";
import { hasCode } from "../../src/lib/errors.ts";
import type { InodeId, WorkerId, WriteId } from "../../src/lib/ids.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { startNatsServer, type TestNatsServer } from "../lib/nats-server.ts";
import { MemoryBlockService } from "./memory-service.ts";

const clusterName = "test";
const container: ContainerId = { inode: 5 as InodeId, writeId: 77 as WriteId };
const w1 = 1 as WorkerId;
const w2 = 2 as WorkerId;
const deadlineMs = 2000;

function readOf(length: number, offset = 0): BlockRead {
  return { container, blockIndex: 0, blockLength: offset + length, offset, length, cache: false };
}

async function collect(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of source) parts.push(part);
  return Buffer.concat(parts);
}

async function until(condition: () => boolean, what: string): Promise<void> {
  const end = performance.now() + 10_000;
  while (!condition()) {
    assert.ok(performance.now() < end, `waited in vain: ${what}`);
    await sleep(5);
  }
}

/** Waits until a count stands still. */
async function settled(count: () => number): Promise<number> {
  for (let last = -1, same = 0; ; ) {
    const now = count();
    same = now === last ? same + 1 : 0;
    if (same >= 30) return now;
    last = now;
    await sleep(10);
  }
}

const never = new AbortController().signal;
setMaxListeners(0, never);

describe("block streams over NATS", () => {
  let nats: TestNatsServer;
  const opened: { close(): Promise<void> }[] = [];
  let client: BlockClient;
  let clientConnection: BlockConnection;

  const connection = async (name: string): Promise<BlockConnection> => {
    const made = await connectBlocks({ urls: [nats.url], name, logger: silentLogger });
    opened.push(made);
    return made;
  };
  const serve = async (worker: WorkerId, service: MemoryBlockService) => {
    const own = await connection(`worker-${worker}`);
    const options = { clusterName, worker, service, logger: silentLogger, deadlineMs };
    const served = serveBlocks(own, options);
    opened.push(served);
    await own.ready(5000);
    return own;
  };

  beforeEach(async () => {
    nats = await startNatsServer();
    clientConnection = await connection("client");
    client = createBlockClient(clientConnection, { clusterName, logger: silentLogger, deadlineMs });
    await clientConnection.ready(5000);
  });
  afterEach(async () => {
    for (const each of opened.splice(0).reverse()) await each.close();
    await nats.stop();
  });

  it("carries 100 MB to a worker and back without a wrong byte", async () => {
    const service = new MemoryBlockService();
    await serve(w1, service);
    const bytes = randomBytes(100_000_000);
    const writer = await client.openContainer([w1], container, { resumeAt: 0, signal: never });
    for (let at = 0; at < bytes.length; at += 1_000_003) {
      await writer.write(bytes.subarray(at, at + 1_000_003));
    }
    assert.equal(writer.length, bytes.length);
    await writer.flush({ sync: true });
    await writer.close({ keep: true });
    const back = await collect(client.read(w1, readOf(bytes.length), { signal: never }));
    assert.ok(back.equals(bytes));
    const part = await collect(client.read(w1, readOf(1234, 4321), { signal: never }));
    assert.ok(part.equals(bytes.subarray(4321, 4321 + 1234)));
    assert.equal(clientConnection.credit.heldBytes, 0);
  });

  it("sends a slow consumer no more than the credit it gave", async () => {
    const service = new MemoryBlockService();
    await serve(w1, service);
    service.put(container, Buffer.alloc(64 * 1024 * 1024, 7));
    const reader = client.read(w1, readOf(64 * 1024 * 1024), { signal: never });
    const iterator = reader[Symbol.asyncIterator]();
    await iterator.next();
    await settled(() => service.yieldedBytes);
    assert.ok(clientConnection.credit.heldBytes <= 16 * 1024 * 1024);
    assert.ok(service.yieldedBytes <= 18 * 1024 * 1024, `sent ${service.yieldedBytes}`);
    let received = 0;
    for (let next = await iterator.next(); next.done !== true; next = await iterator.next()) {
      received += next.value.length;
    }
    assert.ok(received > 63 * 1024 * 1024);
  });

  it("A1: serves 64 readers at once, and they all end while others stall", async () => {
    const service = new MemoryBlockService();
    await serve(w1, service);
    const bytes = randomBytes(3_000_000);
    service.put(container, bytes);
    const stalled = Array.from({ length: 32 }, () =>
      client.read(w1, readOf(bytes.length), { signal: never })[Symbol.asyncIterator](),
    );
    await Promise.all(stalled.map((each) => each.next()));
    const all = await Promise.all(
      Array.from({ length: 64 }, () =>
        collect(client.read(w1, readOf(bytes.length), { signal: never })),
      ),
    );
    for (const each of all) assert.ok(each.equals(bytes));
    for (const each of stalled) await each.return!();
    await until(() => service.active === 0, "the worker lets go of stalled streams");
  });

  it("tells of a flipped byte instead of handing it on", async () => {
    const raw = await connect({ servers: nats.url });
    raw.subscribe(`weir.${clusterName}.w.${w1}.read`, {
      callback: (_, message) => {
        const payload = Buffer.alloc(1000, 1);
        const header = { kind: "chunk", offset: 0, crc: crc32(payload), last: true } as const;
        const body = encodeMessage(header, payload);
        body[body.length - 10]! ^= 1;
        message.respond(body);
      },
    });
    await raw.flush();
    await assert.rejects(collect(client.read(w1, readOf(1000), { signal: never })), (error) =>
      hasCode(error, "Corrupt"),
    );
    await raw.close();
  });

  it("says at once that a worker is not there", async () => {
    await assert.rejects(collect(client.read(w2, readOf(10), { signal: never })), (error) => {
      assert.ok(hasCode(error, "Unavailable"));
      assert.match(error.message, /worker 2/);
      return true;
    });
    await assert.rejects(
      client.openContainer([w2], container, { resumeAt: 0, signal: never }),
      (error) => hasCode(error, "Unavailable"),
    );
  });

  it("passes on the worker's own error", async () => {
    await serve(w1, new MemoryBlockService());
    await assert.rejects(collect(client.read(w1, readOf(10), { signal: never })), (error) =>
      hasCode(error, "NotFound"),
    );
  });

  it("ends with Unavailable when a worker dies in the middle, and what came before is right", async () => {
    const service = new MemoryBlockService();
    const own = await serve(w1, service);
    const bytes = randomBytes(40_000_000);
    service.put(container, bytes);
    let received = 0;
    await assert.rejects(
      (async () => {
        for await (const chunk of client.read(w1, readOf(bytes.length), { signal: never })) {
          assert.ok(bytes.subarray(received, received + chunk.length).equals(chunk));
          received += chunk.length;
          if (received > 5_000_000) await own.close();
        }
      })(),
      (error) => hasCode(error, "Unavailable"),
    );
    assert.ok(received > 5_000_000 && received < bytes.length);
    const other = new MemoryBlockService();
    other.put(container, bytes);
    await serve(w2, other);
    const rest = readOf(bytes.length - received, received);
    assert.ok(
      (await collect(client.read(w2, rest, { signal: never }))).equals(bytes.subarray(received)),
    );
  });

  it("notices a worker that hangs by its silence", async () => {
    const raw = await connect({ servers: nats.url });
    raw.subscribe(`weir.${clusterName}.w.${w1}.>`, { callback: () => undefined });
    await raw.flush();
    await assert.rejects(collect(client.read(w1, readOf(10), { signal: never })), (error) => {
      assert.ok(hasCode(error, "Unavailable"));
      assert.match(error.message, /silent/);
      return true;
    });
    await raw.close();
  });

  it("frees the sender when the consumer stops or its signal is aborted", async () => {
    const service = new MemoryBlockService();
    await serve(w1, service);
    service.put(container, Buffer.alloc(50_000_000));
    const reader = client.read(w1, readOf(50_000_000), { signal: never });
    const iterator = reader[Symbol.asyncIterator]();
    await iterator.next();
    await iterator.return!();
    await until(() => service.active === 0, "the worker saw the end of the loop");
    const stop = new AbortController();
    const reading = collect(client.read(w1, readOf(50_000_000), { signal: stop.signal }));
    await until(() => service.active === 1, "the worker started");
    stop.abort(new Error("enough"));
    await assert.rejects(reading, /enough/);
    await until(() => service.active === 0, "the worker saw the abort");
    assert.equal(clientConnection.credit.heldBytes, 0);
  });

  it("writes to a chain of two, both hold all after a flush", async () => {
    const [first, second] = [new MemoryBlockService(), new MemoryBlockService()];
    await serve(w1, first);
    await serve(w2, second);
    const bytes = randomBytes(9_999_999);
    const writer = await client.openContainer([w1, w2], container, { resumeAt: 0, signal: never });
    await writer.write(bytes);
    await writer.flush({ sync: false });
    assert.deepEqual(writer.workers, [w1, w2]);
    for (const { containers } of [first, second]) {
      assert.ok(containers.get("5.77")!.bytes.equals(bytes));
    }
    await writer.close({ keep: true });
    await assert.rejects(writer.write(bytes), (error) => hasCode(error, "InvalidArgument"));
  });

  it("names the worker of the chain that died", async () => {
    const [first, second] = [new MemoryBlockService(), new MemoryBlockService()];
    await serve(w1, first);
    const own = await serve(w2, second);
    const writer = await client.openContainer([w1, w2], container, { resumeAt: 0, signal: never });
    await writer.write(randomBytes(1_000_000));
    await own.close();
    await assert.rejects(
      (async () => {
        await writer.write(randomBytes(1_000_000));
        await writer.flush({ sync: false });
      })(),
      (error) => {
        assert.ok(hasCode(error, "Unavailable"));
        assert.match(error.message, /worker 2/);
        return true;
      },
    );
    assert.deepEqual(writer.workers, [w1]);
    await writer.close({ keep: false });
  });

  it("goes on with the rest of the chain when that was asked", async () => {
    const [first, second] = [new MemoryBlockService(), new MemoryBlockService()];
    await serve(w1, first);
    const own = await serve(w2, second);
    const bytes = randomBytes(3_000_000);
    const options = { resumeAt: 0, signal: never, degrade: true };
    const writer = await client.openContainer([w1, w2], container, options);
    await writer.write(bytes.subarray(0, 1_000_000));
    await own.close();
    await writer.write(bytes.subarray(1_000_000));
    await writer.flush({ sync: false });
    assert.deepEqual(writer.workers, [w1]);
    assert.ok(first.containers.get("5.77")!.bytes.equals(bytes));
    await writer.close({ keep: true });
  });

  it("gives a slow writer's peer no more than its window", async () => {
    const service = new MemoryBlockService();
    await serve(w1, service);
    let release = (): void => undefined;
    service.appendDelay = new Promise((resolve) => {
      release = resolve;
    });
    const writer = await client.openContainer([w1], container, { resumeAt: 0, signal: never });
    const chunk = Buffer.alloc(512 * 1024);
    const writing = (async () => {
      for (let i = 0; i < 40; i++) await writer.write(chunk);
    })();
    await settled(() => writer.length);
    assert.ok(writer.length <= 4 * 1024 * 1024, `${writer.length} under way`);
    release();
    await writing;
    await writer.close({ keep: true });
    assert.equal(service.containers.get("5.77")!.bytes.length, 40 * chunk.length);
  });

  it("does not call a message without a subject an outage, and answers none that wants no answer", async () => {
    const warned: unknown[] = [];
    const logger = { ...silentLogger, warn: (...of: unknown[]) => warned.push(of) };
    const own = await connection(`worker-${w1}`);
    const service = new MemoryBlockService();
    opened.push(serveBlocks(own, { clusterName, worker: w1, service, logger, deadlineMs }));
    await own.subscribed(5000);
    const cancel = encodeMessage({ kind: "cancel" });
    clientConnection.send(`${workerSubject(clusterName, w1)}.flow.gone.1`, cancel);
    await assert.rejects(collect(client.read(w1, readOf(10), { signal: never })));
    assert.deepEqual(warned, []);
    for (const reply of [undefined, ""]) {
      const send = () => clientConnection.send(reply ?? "", cancel, reply);
      assert.throws(send, (error) => hasCode(error, "InvalidArgument"));
    }
    assert.throws(
      () => clientConnection.send("a b", cancel),
      (error) => !hasCode(error, "Unavailable"),
    );
  });

  it("fails with Unavailable while NATS is down, and recovers by itself", async () => {
    const service = new MemoryBlockService();
    const own = await serve(w1, service);
    const bytes = randomBytes(30_000_000);
    service.put(container, bytes);
    const reader = client.read(w1, readOf(bytes.length), { signal: never })[Symbol.asyncIterator]();
    await reader.next();
    const writer = await client.openContainer(
      [w1],
      { ...container, writeId: 78 as WriteId },
      {
        resumeAt: 0,
        signal: never,
      },
    );
    await writer.write(bytes.subarray(0, 1000));
    await nats.kill();
    await assert.rejects(
      (async () => {
        for (;;) if ((await reader.next()).done === true) return;
      })(),
      (error) => hasCode(error, "Unavailable"),
    );
    await assert.rejects(writer.flush({ sync: false }), (error) => hasCode(error, "Unavailable"));
    await writer.close({ keep: false });
    await assert.rejects(collect(client.read(w1, readOf(10), { signal: never })), (error) => {
      assert.ok(hasCode(error, "Unavailable"));
      assert.ok(error.message.includes(`NATS at ${nats.url} cannot be reached`), error.message);
      return true;
    });
    await nats.start();
    await own.ready(10_000);
    await clientConnection.ready(10_000);
    const back = await collect(client.read(w1, readOf(bytes.length), { signal: never }));
    assert.ok(back.equals(bytes));
  });
});
