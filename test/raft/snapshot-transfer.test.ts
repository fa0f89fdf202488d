import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import type { Clock } from "../../src/lib/clock.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import type { Driver } from "../../src/raft/host/driver.ts";
import { FramedSocket } from "../../src/raft/host/framed-socket.ts";
import type { HeldSnapshot, SnapshotMachine } from "../../src/raft/host/snapshot-protocol.ts";
import { SnapshotReceiver } from "../../src/raft/host/snapshot-receiver.ts";
import { SnapshotSender } from "../../src/raft/host/snapshot-sender.ts";
import type { Transport } from "../../src/raft/transport.ts";
import { zeroIndex } from "../../src/raft/types.ts";
import { withTempDir } from "../lib/temp-dir.ts";
import { wire, type WireFault } from "./lib/wire.ts";

/** What is done, or goes wrong, before and during one transfer. */
interface Attempt {
  /** The state moves on. */
  readonly isNewer: boolean;
  readonly restarts: "nobody" | "sender" | "receiver";
  /** Both sides have waited for so long that they keep nothing. */
  readonly isLate: boolean;
  /** A byte of what the receiver has spooled changes on its disk. */
  readonly rotsAt: number | undefined;
  readonly fault: WireFault | undefined;
  /** The pieces that the state comes in: those of one snapshot should be the same ones each time. */
  readonly chunkBytes: number;
}

const version = 2;
const usualChunkBytes = 40;
const attempt: fc.Arbitrary<Attempt> = fc.record({
  isNewer: fc.boolean(),
  restarts: fc.constantFrom("nobody", "nobody", "nobody", "sender", "receiver"),
  isLate: fc.integer({ min: 0, max: 5 }).map((drawn) => drawn === 5),
  rotsAt: fc.oneof(
    { weight: 3, arbitrary: fc.constant(undefined) },
    { weight: 1, arbitrary: fc.nat(400) },
  ),
  fault: fc.option(
    fc.record({
      kind: fc.constantFrom("cut", "cut", "hang", "flip"),
      way: fc.constantFrom("there", "there", "there", "back"),
      afterBytes: fc.nat(600),
    }),
    { freq: 5, nil: undefined },
  ),
  chunkBytes: fc.constantFrom(usualChunkBytes, usualChunkBytes, usualChunkBytes, 25),
});
const clean: Attempt = {
  isNewer: false,
  restarts: "nobody",
  isLate: false,
  rotsAt: undefined,
  fault: undefined,
  chunkBytes: usualChunkBytes,
};

/** The state at an index: no two have a piece in common. */
function stateAt(index: number): Buffer {
  return Buffer.from(`${index} `.repeat(100));
}

class Transfers {
  /** Of the sender's state. */
  index = 10;
  /** Of the receiver's. */
  appliedIndex = 0;
  /** Snapshots that are held. */
  held = 0;
  attempt = clean;
  readonly #directory: string;
  readonly #timers = new Set<() => void>();
  #sender: SnapshotSender;
  #receiver: SnapshotReceiver;
  #whenOver: () => void = () => undefined;

  constructor(directory: string) {
    this.#directory = directory;
    this.#sender = this.#makeSender();
    this.#receiver = this.#makeReceiver();
  }

  async run(attempt: Attempt): Promise<void> {
    this.attempt = attempt;
    if (attempt.isNewer) this.index += 10;
    if (attempt.restarts === "sender") {
      await this.#sender.stop();
      this.#sender = this.#makeSender();
    }
    if (attempt.restarts === "receiver") {
      await this.#receiver.stop();
      await writeFile(this.#spoolPath, "left by who was killed");
      this.#receiver = this.#makeReceiver();
      await this.#receiver.clear();
    }
    if (attempt.isLate) for (const fire of [...this.#timers]) fire();
    if (attempt.rotsAt !== undefined) await this.#rot(attempt.rotsAt);
    const over = new Promise<void>((resolve) => {
      this.#whenOver = resolve;
    });
    this.#sender.send("b");
    // A second call changes nothing while the first is at work.
    this.#sender.send("b");
    // A length that arrives changed makes the other side wait for what never comes.
    if (attempt.fault === undefined || attempt.fault.kind === "cut") await over;
    else await this.#givenUp(over);
  }

  async stopReceiver(): Promise<void> {
    await this.#receiver.stop();
  }

  async stop(): Promise<void> {
    await this.#sender.stop();
    await this.#receiver.stop();
  }

  /** Nobody is told that a connection hangs: who sends is restarted, as after a long time. */
  async #givenUp(over: Promise<void>): Promise<void> {
    for (let turn = 0; turn < 50; turn++) {
      await new Promise((resolve) => {
        setImmediate(resolve);
      });
    }
    await Promise.race([over, this.#sender.stop()]);
    await this.#sender.stop();
    this.#sender = this.#makeSender();
  }

  get #spoolPath(): string {
    return join(this.#directory, "snapshot.part");
  }

  async #rot(at: number): Promise<void> {
    const bytes = await readFile(this.#spoolPath).catch(() => Buffer.alloc(0));
    if (bytes.length === 0) return;
    bytes[at % bytes.length] = bytes[at % bytes.length]! ^ 4;
    // It may be gone meanwhile.
    await writeFile(this.#spoolPath, bytes, { flag: "r+" }).catch(() => undefined);
  }

  get #clock(): Clock {
    return {
      monotonicMs: () => 0,
      wallMs: () => 0,
      after: (_delayMs, callback) => {
        const fire = () => {
          this.#timers.delete(fire);
          callback();
        };
        this.#timers.add(fire);
        return () => this.#timers.delete(fire);
      },
    };
  }

  #makeSender(): SnapshotSender {
    const connect: Transport["connect"] = () => {
      const { fault } = this.attempt;
      const [near, far] = wire(fault);
      this.#receiver.receive(new FramedSocket(far), "a", version);
      return Promise.resolve({
        socket: new FramedSocket(near),
        accepted: { version },
      } as Awaited<ReturnType<Transport["connect"]>>);
    };
    return new SnapshotSender({
      take: () => Promise.resolve(this.#take()),
      transport: { peerOf: (id: string) => ({ id }), connect } as unknown as Transport,
      clock: this.#clock,
      logger: silentLogger,
      term: () => 1,
      matchOf: () => undefined,
      lastIndex: () => zeroIndex,
      isUrgent: () => false,
      onOver: () => this.#whenOver(),
    });
  }

  #take(): HeldSnapshot {
    const { index } = this;
    const chunkBytes = () => this.attempt.chunkBytes;
    this.held++;
    return {
      meta: { index, term: 1 },
      async *chunks() {
        const size = chunkBytes();
        const state = stateAt(index);
        for (let at = 0; at < state.length; at += size) yield state.subarray(at, at + size);
      },
      close: () => {
        this.held--;
        return Promise.resolve();
      },
    };
  }

  #makeReceiver(): SnapshotReceiver {
    const appliedIndex = () => this.appliedIndex;
    const machine: SnapshotMachine = {
      get appliedIndex() {
        return appliedIndex();
      },
      snapshot: () => Promise.reject(new Error("not asked for")),
      install: async ({ index }, chunks) => {
        const pieces: Uint8Array[] = [];
        for await (const chunk of chunks) pieces.push(chunk);
        assert.equal(Buffer.concat(pieces).toString(), stateAt(index).toString());
        assert.ok(index > this.appliedIndex);
        this.appliedIndex = index;
      },
      configuration: () => undefined,
    };
    const driver = {
      core: { term: 1 },
      betweenApplies: (work: () => Promise<void>) => void work(),
      step: (input: { readonly index: number }) => {
        assert.ok(input.index <= this.appliedIndex, "tells of a state that is not there");
      },
    };
    return new SnapshotReceiver({
      machine,
      directory: this.#directory,
      driver: driver as unknown as Driver,
      clock: this.#clock,
      logger: silentLogger,
      onFatal: (error) => {
        this.failure = error;
      },
    });
  }

  /** What would have ended the receiver's process. */
  failure: unknown;
}

describe("a snapshot's transfer", function () {
  this.timeout(60_000);

  it("brings the whole state or nothing, through cuts, flips, restarts and rot, and ends when they do", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(attempt, { maxLength: 8 }), (attempts) =>
        withTempDir(async (directory) => {
          const transfers = new Transfers(directory);
          try {
            for (const each of attempts) await transfers.run(each);
            for (let i = 0; i < 5; i++) await transfers.run(clean);
            assert.equal(transfers.failure, undefined);
            assert.equal(transfers.appliedIndex, transfers.index);
          } finally {
            await transfers.stop();
          }
          assert.equal(transfers.held, 0);
        }),
      ),
      { numRuns: 150, endOnFailure: true },
    );
  });

  it("begins anew when the receiver's disk has changed what it spooled", async () => {
    for (const rotsAt of [0, 7, 8, 50, 100]) {
      await withTempDir(async (directory) => {
        const transfers = new Transfers(directory);
        try {
          await transfers.run({ ...clean, fault: { kind: "cut", way: "there", afterBytes: 300 } });
          await transfers.run({ ...clean, rotsAt });
          assert.equal(transfers.appliedIndex, 0);
          await transfers.run(clean);
          assert.equal(transfers.appliedIndex, transfers.index);
        } finally {
          await transfers.stop();
        }
      });
    }
  });

  it("ends with the node at whatever moment that stops, also when all is there and not installed", async () => {
    for (let turns = 0; turns < 60; turns++) {
      await withTempDir(async (directory) => {
        const transfers = new Transfers(directory);
        const over = transfers.run(clean);
        for (let turn = 0; turn < turns; turn++) {
          await new Promise((resolve) => {
            setImmediate(resolve);
          });
        }
        await transfers.stopReceiver();
        await over;
        await transfers.stop();
      });
    }
  });
});
