import assert from "node:assert/strict";
import { connect, createServer, type Server, type Socket } from "node:net";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { Session } from "../../src/client/session.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { WeirError } from "../../src/lib/errors.ts";
import type { InodeId, Position, SessionId } from "../../src/lib/ids.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import type { ClientCommand, CommandResult } from "../../src/rpc/commands.ts";
import { masterApi } from "../../src/rpc/master-api.ts";
import { MasterConnection } from "../../src/rpc/master-connection.ts";
import { RpcServer } from "../../src/rpc/server.ts";

const inode = 3 as InodeId;
const release: ClientCommand = { kind: "release", inode };

/** A master with sessions that are exact about sequences, behind a wire that can be cut. */
class FakeMaster {
  readonly executed: { session: number; sequence: number }[] = [];
  readonly acknowledged: number[] = [];
  timeoutMs = 60_000;
  /** Called between executing a request and answering it. */
  beforeAnswer: () => Promise<void> | void = () => undefined;
  #session = 0;
  readonly #results = new Map<string, Position>();
  readonly #sockets = new Set<Socket>();
  #rpc!: RpcServer;
  #wire!: Server;

  async start(): Promise<number> {
    this.#rpc = await RpcServer.listen({ host: "127.0.0.1", port: 0, logger: silentLogger });
    this.#rpc.handle(masterApi.openSession, async () => ({
      session: ++this.#session as SessionId,
      timeoutMs: this.timeoutMs,
    }));
    this.#rpc.handle(masterApi.keepSession, async ({ session }) => this.#check(session));
    this.#rpc.handle(masterApi.closeSession, async () => ({}));
    this.#rpc.handle(
      masterApi.mutate,
      async ({ session, sequence, acknowledgedBelow, commands }) => {
        this.#check(session);
        this.acknowledged.push(acknowledgedBelow);
        const key = `${session}/${sequence}`;
        const known = this.#results.get(key);
        const results: CommandResult[] = commands.map(() => ({ ok: true }));
        if (known !== undefined) return { position: known, results };
        this.executed.push({ session, sequence });
        const position = (this.executed.length * 1024) as Position;
        this.#results.set(key, position);
        await this.beforeAnswer();
        return { position, results };
      },
    );
    this.#wire = createServer((from) => {
      const to = connect(this.#rpc.port, "127.0.0.1");
      for (const socket of [from, to]) {
        this.#sockets.add(socket);
        socket.on("error", () => undefined);
        socket.on("close", () => this.#sockets.delete(socket));
      }
      from.pipe(to).pipe(from);
    });
    this.#wire.listen(0, "127.0.0.1");
    await once(this.#wire, "listening");
    return (this.#wire.address() as AddressInfo).port;
  }

  expireAll(): void {
    this.#session++;
  }

  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async stop(): Promise<void> {
    this.cut();
    this.#wire.close();
    await this.#rpc.close();
  }

  #check(session: number): Record<string, never> {
    if (session === this.#session) return {};
    throw new WeirError("SessionExpired", `Cannot use session ${session}: it is gone`);
  }
}

describe("a client session", () => {
  let master: FakeMaster;
  let masters: MasterConnection;
  let session: Session;

  beforeEach(async () => {
    master = new FakeMaster();
    const port = await master.start();
    masters = new MasterConnection({
      masters: [{ host: "127.0.0.1", port }],
      logger: silentLogger,
      clock: systemClock,
    });
    session = new Session({
      masters,
      clock: systemClock,
      logger: silentLogger,
      clientName: "test",
      operationTimeoutMs: 5000,
    });
  });

  afterEach(async () => {
    await session.close();
    masters.close();
    await master.stop();
  });

  it("R12: executes a command once although its answer is lost", async () => {
    let cuts = 2;
    master.beforeAnswer = () => {
      if (cuts-- > 0) master.cut();
    };
    const first = await session.mutate([release]);
    assert.equal(first.index, 1);
    const second = await session.mutate([release]);
    assert.equal(second.index, 2);
    assert.deepEqual(
      master.executed.map((each) => each.sequence),
      [1, 2],
    );
  });

  it("tells the masters below which sequence it has all answers, also while several are open", async () => {
    let open: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    master.beforeAnswer = () => (master.executed.length === 1 ? gate : undefined);
    const slow = session.mutate([release]);
    await session.mutate([release]);
    await session.mutate([release]);
    open();
    await slow;
    await session.mutate([release]);
    assert.deepEqual(master.acknowledged, [1, 1, 1, 4]);
  });

  it("opens anew after it expired, and runs the command that found out", async () => {
    await session.mutate([release]);
    const before = session.current;
    master.expireAll();
    await session.mutate([release]);
    assert.notEqual(session.current, before);
    assert.equal(master.executed.length, 2);
  });

  it("refuses what belongs to a session that expired", async () => {
    const before = await session.ensure();
    master.expireAll();
    await assert.rejects(session.mutate([release], { session: before }), {
      code: "SessionExpired",
    });
    await session.mutate([release]);
    await assert.rejects(session.mutate([release], { session: before }), {
      code: "SessionExpired",
    });
    assert.equal(master.executed.length, 1);
  });

  it("does not run a command again under a new session when it may have been applied", async () => {
    await session.mutate([release]);
    master.beforeAnswer = () => {
      master.expireAll();
      master.cut();
    };
    await assert.rejects(session.mutate([release]), { code: "SessionExpired", outcome: "unknown" });
    assert.equal(master.executed.length, 2);
  });

  it("asks after a long silence whether it still lives, before it sends a command", async () => {
    master.timeoutMs = 40;
    await session.mutate([release]);
    master.expireAll();
    await new Promise((resolve) => setTimeout(resolve, 60));
    await session.mutate([release]);
    assert.equal(master.executed.length, 2);
  });
});
