import assert from "node:assert/strict";
import { systemClock } from "../../src/lib/clock.ts";
import { hasCode, WeirError } from "../../src/lib/errors.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { struct, text } from "../../src/lib/schema.ts";
import { MasterConnection } from "../../src/rpc/master-connection.ts";
import { method } from "../../src/rpc/method.ts";
import { RpcServer } from "../../src/rpc/server.ts";
import { notLeader } from "../../src/rpc/wire.ts";

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
