import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { sleep, systemClock } from "../../src/lib/clock.ts";
import { hasCode, WeirError } from "../../src/lib/errors.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { struct, text } from "../../src/lib/schema.ts";
import { masterApi } from "../../src/rpc/master-api.ts";
import { MasterConnection } from "../../src/rpc/master-connection.ts";
import { method } from "../../src/rpc/method.ts";
import { RpcServer } from "../../src/rpc/server.ts";
import { notLeader } from "../../src/rpc/wire.ts";
import { eventually } from "../lib/eventually.ts";

const who = method("who", struct({}), struct({ name: text }));

describe("MasterConnection", () => {
  let servers: RpcServer[];
  let connection: MasterConnection;
  let calls: number[];
  let leader: number | undefined;
  let behave: ((place: number) => Promise<{ name: string }>) | undefined;

  beforeEach(async () => {
    servers = [];
    calls = [0, 0, 0];
    leader = 2;
    behave = undefined;
    for (let place = 0; place < 3; place++) {
      const server = await RpcServer.listen({ host: "127.0.0.1", port: 0, logger: silentLogger });
      server.handle(who, async () => {
        calls[place]!++;
        if (behave !== undefined) return behave(place);
        if (place === leader) return { name: String(place) };
        throw notLeader(
          leader === undefined ? undefined : `127.0.0.1:${String(servers[leader]!.port)}`,
        );
      });
      servers.push(server);
    }
    connection = new MasterConnection({
      masters: servers.map(({ port }) => ({ host: "127.0.0.1", port })),
      logger: silentLogger,
      clock: systemClock,
    });
  });

  afterEach(async () => {
    connection.close();
    await Promise.all(servers.map((server) => server.close()));
  });

  it("follows the hint to the leader, and remembers it", async () => {
    const options = { deadlineMs: 5000, idempotent: false };
    assert.equal((await connection.call(who, {}, options)).name, "2");
    assert.deepEqual(calls, [1, 0, 1]);
    assert.equal((await connection.call(who, {}, options)).name, "2");
    assert.deepEqual(calls, [1, 0, 2]);
  });

  it("goes on looking while there is no leader", async () => {
    leader = undefined;
    const call = connection.call(who, {}, { deadlineMs: 5000, idempotent: false });
    setTimeout(() => {
      leader = 1;
    }, 50);
    assert.equal((await call).name, "1");
  });

  it("passes over masters that are down", async () => {
    await servers[0]!.close();
    leader = 1;
    assert.equal(
      (await connection.call(who, {}, { deadlineMs: 5000, idempotent: false })).name,
      "1",
    );
  });

  it("does not send a call again whose outcome is unknown, unless it is idempotent", async () => {
    behave = async (place) => {
      if (place === 0) {
        await servers[0]!.close();
        return { name: "late" };
      }
      return { name: String(place) };
    };
    await assert.rejects(
      connection.call(who, {}, { deadlineMs: 5000, idempotent: false }),
      (error) => {
        assert(hasCode(error, "Unavailable"));
        assert.equal(error.outcome, "unknown");
        return true;
      },
    );
    assert.deepEqual(calls, [1, 0, 0]);
    assert.equal(
      (await connection.call(who, {}, { deadlineMs: 5000, idempotent: true })).name,
      "1",
    );
  });

  it("tries again when the leader is busy, and says so at the deadline", async () => {
    behave = async () => {
      if (calls[0]! < 3) throw new WeirError("Busy", "the quota is exceeded");
      return { name: "0" };
    };
    assert.equal(
      (await connection.call(who, {}, { deadlineMs: 5000, idempotent: false })).name,
      "0",
    );
    behave = async () => {
      throw new WeirError("Busy", "the quota is exceeded");
    };
    await assert.rejects(
      connection.call(who, {}, { deadlineMs: 100, idempotent: false }),
      (error) => {
        assert(hasCode(error, "Busy"));
        assert.equal(error.outcome, "notApplied");
        return true;
      },
    );
  });

  it("says that nobody led, whichever end sees first that time is over", async () => {
    behave = async (place) => {
      if (place === 0) throw notLeader(undefined);
      throw new WeirError("DeadlineExceeded", "time is over", { outcome: "unknown" });
    };
    await assert.rejects(
      connection.call(who, {}, { deadlineMs: 5000, idempotent: false }),
      (error) => hasCode(error, "Unavailable") && /knows no leader/.test(error.message),
    );
  });

  it("asks again what became of an idempotent call when the lead was lost under it", async () => {
    behave = async (place) => {
      if (place === 1) return { name: "1" };
      throw new WeirError("Unavailable", "who knows", { outcome: "unknown" });
    };
    const options = { deadlineMs: 5000, idempotent: true };
    assert.equal((await connection.call(who, {}, options)).name, "1");
    connection.close();
  });

  it("passes on at once what the leader answered", async () => {
    behave = async () => {
      throw new WeirError("Unavailable", "no worker is registered: start one with: weir worker");
    };
    await assert.rejects(
      connection.call(who, {}, { deadlineMs: 60_000, idempotent: true }),
      /no worker/,
    );
    assert.deepEqual(calls, [1, 0, 0]);
  });

  it("ends with Unavailable at the deadline when all are down", async () => {
    await Promise.all(servers.map((server) => server.close()));
    await assert.rejects(connection.call(who, {}, { deadlineMs: 200, idempotent: true }), (error) =>
      hasCode(error, "Unavailable"),
    );
  });

  describe("with a leader that falls silent", () => {
    /** Stands before the first master; while `isStopped` it takes what comes, as a stopped process does, and passes it on later. */
    let relay: Relay;
    let silent: MasterConnection;
    /** Whom the other masters follow, how often they were asked, and how many of these questions are over. */
    let followed: string;
    let asked: number;
    let over: number;
    const options = { deadlineMs: 2000, idempotent: true };

    beforeEach(async () => {
      relay = await Relay.listen(servers[0]!.port);
      followed = relay.address;
      asked = 0;
      over = 0;
      for (const server of servers.slice(1)) {
        server.handle(masterApi.otherLeader, async ({ than, waitMs }, { signal }) => {
          asked++;
          try {
            const untilMs = performance.now() + waitMs;
            while (followed === than && performance.now() < untilMs) await sleep(10, signal);
            return { leaderAddress: followed };
          } finally {
            // Once one has answered, the other is asked no more.
            over++;
          }
        });
      }
      silent = new MasterConnection({
        masters: [relay.port, servers[1]!.port, servers[2]!.port].map((port) => ({
          host: "127.0.0.1",
          port,
        })),
        logger: silentLogger,
        clock: systemClock,
      });
      behave = (place) => Promise.resolve({ name: String(place) });
      assert.equal((await silent.call(who, {}, options)).name, "0");
      relay.isStopped = true;
    });

    afterEach(async () => {
      silent.close();
      await relay.close();
    });

    it("sends again to the leader that the others elect, what may be sent again", async () => {
      // The deadline comes long before the connection would be given up for its silence alone.
      const call = silent.call(who, {}, options);
      const other = silent.call(who, {}, { ...options, idempotent: false });
      const refused = assert.rejects(other, (error) => {
        assert(hasCode(error, "Unavailable"));
        assert.equal(error.outcome, "unknown");
        assert.match(error.message, /it is silent, and others follow/);
        return true;
      });
      await eventually("the others to be asked", () => asked >= 2);
      followed = `127.0.0.1:${String(servers[2]!.port)}`;
      assert.equal((await call).name, "2");
      await refused;
      assert.equal(calls[1], 0);
    });

    it("goes to who was elected while nobody called", async () => {
      followed = `127.0.0.1:${String(servers[1]!.port)}`;
      assert.equal((await silent.call(who, {}, options)).name, "1");
    });

    it("waits for it as long as the others follow it", async () => {
      const call = silent.call(who, {}, { deadlineMs: 10_000, idempotent: false });
      await eventually("the others to be asked", () => asked >= 2);
      relay.isStopped = false;
      assert.equal((await call).name, "0");
      assert.deepEqual(calls, [2, 0, 0]);
    });

    it("is not left when the news of another one comes after a sign of life", async () => {
      const call = silent.call(who, {}, { deadlineMs: 10_000, idempotent: true });
      await eventually("the others to be asked", () => asked >= 2);
      relay.isStopped = false;
      assert.equal((await call).name, "0");
      followed = `127.0.0.1:${String(servers[2]!.port)}`;
      await eventually("the questions to be over", () => over === asked);
      // Their answers came before these, on the same connections.
      for (const other of silent.each.slice(1)) await other.call(who, {}, { deadlineMs: 10_000 });
      assert.equal(silent.leader.address, relay.address);
      // On a busy machine it may seem silent again; then the others are asked anew.
      followed = relay.address;
      assert.equal((await silent.call(who, {}, { ...options, deadlineMs: 10_000 })).name, "0");
    });
  });

  describe("with reads from any master", () => {
    const options = { deadlineMs: 5000, idempotent: true, from: "any" } as const;
    let reading: MasterConnection;

    beforeEach(() => {
      reading = new MasterConnection({
        masters: servers.map(({ port }) => ({ host: "127.0.0.1", port })),
        logger: silentLogger,
        clock: systemClock,
        reader: 1,
      });
    });

    afterEach(() => reading.close());

    it("asks its own one for reads, and the leader for all else", async () => {
      behave = (place) => Promise.resolve({ name: String(place) });
      assert.equal((await reading.call(who, {}, options)).name, "1");
      assert.equal((await reading.call(who, {}, { ...options, from: "leader" })).name, "0");
      assert.equal((await reading.call(who, {}, options)).name, "1");
    });

    it("asks the leader what its own one does not answer", async () => {
      assert.equal((await reading.call(who, {}, options)).name, "2");
      assert.deepEqual(calls, [1, 1, 1]);
      assert.equal((await reading.call(who, {}, options)).name, "2");
      assert.deepEqual(calls, [1, 2, 2]);
    });

    it("takes another one when its own one is away", async () => {
      await servers[1]!.close();
      behave = (place) => Promise.resolve({ name: String(place) });
      assert.equal((await reading.call(who, {}, options)).name, "0");
      assert.equal((await reading.call(who, {}, options)).name, "2");
    });
  });
});

/** A TCP relay to a port of this machine that can stand still. */
class Relay {
  readonly port: number;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #isStopped = false;

  static async listen(target: number): Promise<Relay> {
    const server = createServer();
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return new Relay(server, target);
  }

  private constructor(server: Server, target: number) {
    this.#server = server;
    this.port = (server.address() as AddressInfo).port;
    server.on("connection", (near) => {
      const far = connect(target, "127.0.0.1");
      this.#join(near, far);
      this.#join(far, near);
    });
  }

  get address(): string {
    return `127.0.0.1:${String(this.port)}`;
  }

  set isStopped(isStopped: boolean) {
    this.#isStopped = isStopped;
    for (const socket of this.#sockets) {
      if (isStopped) socket.pause();
      else socket.resume();
    }
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, "close");
  }

  #join(from: Socket, to: Socket): void {
    this.#sockets.add(from);
    if (this.#isStopped) from.pause();
    from.on("data", (chunk) => to.write(chunk));
    from.on("error", () => from.destroy());
    from.on("close", () => to.destroy());
  }
}
