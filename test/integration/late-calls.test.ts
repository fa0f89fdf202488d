/** Calls that come late, come twice, or are longer than anything sensible, on a real master. */
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { rootInodeId, type SessionId } from "../../src/lib/ids.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { unfit } from "../../src/lib/msgpack.ts";
import type { Schema } from "../../src/lib/schema.ts";
import type { Request } from "../../src/rpc/commands.ts";
import { masterApi } from "../../src/rpc/master-api.ts";
import type { MasterConnection } from "../../src/rpc/master-connection.ts";
import { method } from "../../src/rpc/method.ts";
import { RpcServer } from "../../src/rpc/server.ts";
import { createCommand, ListingWorker, MasterCluster } from "./master-cluster.ts";
import { weir } from "./weir-command.ts";

const options = { deadlineMs: 15_000, idempotent: true };

describe("A master under late and long calls", function () {
  this.timeout(60_000);
  let directory: string;
  let cluster: MasterCluster;
  let connection: MasterConnection;
  let worker: ListingWorker | undefined;

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "weir-late-"));
    cluster = await MasterCluster.start(directory, { count: 1 });
    connection = cluster.connect();
    worker = await ListingWorker.start(cluster);
  });
  after(async () => {
    connection.close();
    await worker?.stop();
    await cluster.close();
    await rm(directory, { recursive: true, force: true });
  });

  const open = async () =>
    (await connection.call(masterApi.openSession, { clientName: "test" }, options)).session;
  const mutate = (request: Request) => connection.call(masterApi.mutate, request, options);
  const requestOf = (session: SessionId, sequence: number, command: object) =>
    ({
      ...{ session, sequence, acknowledgedBelow: 0, atomic: false },
      commands: [command],
    }) as unknown as Request;

  it("refuses a path of 3 MB with few words, and lives on", async () => {
    const path = `/${"\x01".repeat(3_000_000)}`;
    for (const consistency of ["linearizable", "stale"] as const) {
      const call = connection.call(masterApi.resolve, { path, consistency }, options);
      await assert.rejects(call, (thrown: Error & { code?: string }) => {
        assert.equal(thrown.code, "NameTooLong");
        assert(thrown.message.length <= 2048, `${thrown.message.length} characters`);
        return true;
      });
    }
    const name = "\x01".repeat(3_000_000);
    const lookup = { parent: rootInodeId, name, consistency: "stale" } as const;
    await assert.rejects(connection.call(masterApi.lookup, lookup, options), {
      code: "NameTooLong",
    });
    const root = { path: "/", consistency: "linearizable" } as const;
    assert.equal(
      (await connection.call(masterApi.resolve, root, options)).status.kind,
      "directory",
    );
    assert(cluster.masters[0]!.running);
  });

  it("refuses names that are no bytes, at the end that writes them and at the one that reads", async () => {
    const names = [
      "\u0101",
      "a\u0161",
      "\ud83d\ude00",
      "\u0161".repeat(100),
      `${"a".repeat(254)}\u0100`,
    ];
    for (const name of names) {
      const lookup = { parent: rootInodeId, name, consistency: "linearizable" } as const;
      const looked = connection.call(masterApi.lookup, lookup, options);
      await assert.rejects(looked, { code: "InvalidArgument" });
      const made = mutate(requestOf(await open(), 0, createCommand(rootInodeId, name)));
      await assert.rejects(
        made,
        /^WeirError: Cannot encode ".*": wanted a name with one character/,
      );
    }
    // Another program may send text, with any characters, or other things than bytes.
    const anything = (wire: unknown): Schema<unknown> => ({
      toWire: () => wire,
      fromWire: (value) => value,
      write: () => {
        throw unfit;
      },
      read: () => {
        throw unfit;
      },
      weigh: () => 0,
    });
    const hostile = [...names, "plain", 7, null, ["a"], { a: 1 }, new Date(0)];
    for (const name of hostile) {
      const session = await open();
      const create = ["create", [rootInodeId, name, "file", 0o644, 0, 0, null, false, true, null]];
      const calls: [string, unknown][] = [
        ["lookup", [rootInodeId, name, "linearizable"]],
        ["resolve", [name, "linearizable"]],
        ["mutate", [session, 0, 0, false, [create]]],
        ["mutate", [session, 0, 0, false, [["mount", [rootInodeId, name, "file:///", true, []]]]]],
      ];
      for (const [called, wire] of calls) {
        const raw = method(called, anything(wire), anything(undefined));
        await assert.rejects(connection.call(raw, undefined, options), (thrown: Error) => {
          assert.equal((thrown as Error & { code?: string }).code, "ProtocolError", called);
          assert.match(thrown.message, /wanted the bytes of a name/);
          return true;
        });
      }
    }
    const list = {
      directory: rootInodeId,
      after: undefined,
      limit: 10,
      consistency: "linearizable",
    } as const;
    assert.deepEqual((await connection.call(masterApi.list, list, options)).entries, []);
  });

  it("refuses a sequence so large that its window is not exact", async () => {
    const session = await open();
    const unmount = { kind: "unmount", parent: rootInodeId, name: "m" };
    await assert.rejects(mutate(requestOf(session, 2 ** 53 - 8192, unmount)), {
      code: "InvalidArgument",
    });
  });

  it("is not there to the CLI when none answers which leads: that is Unavailable, not a matter of time", async () => {
    const server = await RpcServer.listen({ host: "127.0.0.1", port: 0, logger: silentLogger });
    try {
      server.handle(masterApi.clusterMembers, () => new Promise(() => undefined));
      const path = join(directory, "silent.yaml");
      const port = String(server.port);
      await writeFile(
        path,
        `masters: [{name: master-1, host: 127.0.0.1, rpcPort: ${port}, raftPort: 1}]\n`,
      );
      const { status, stderr } = await weir(path, "cluster", "members");
      assert.match(stderr, /no master leads/);
      assert.equal(status, 69);
    } finally {
      await server.close();
    }
  });

  it("answers a copy of a refused mount as it was answered, after its store has come to be", async () => {
    const session = await open();
    const store = join(directory, "later");
    const mount = {
      ...{ kind: "mount", parent: rootInodeId, name: "later" },
      ...{ uri: `file://${store}`, readOnly: false, options: {} },
    };
    const request = requestOf(session, 0, mount);
    const first = await mutate(request);
    const [refusal] = first.results;
    assert(refusal?.ok === false && refusal.code === "NotFound", JSON.stringify(first));
    await mkdir(store);
    assert.deepEqual(await mutate(request), first);
    const made = createCommand(rootInodeId, "beside");
    const together = {
      ...requestOf(session, 1, made),
      commands: [made, { ...mount, uri: `${mount.uri}/not` }],
    };
    const second = await mutate(together as Request);
    assert.deepEqual(
      second.results.map((result) => !result.ok && result.code),
      ["Cancelled", "NotFound"],
    );
    const beside = { path: "/beside", consistency: "linearizable" } as const;
    await assert.rejects(connection.call(masterApi.resolve, beside, options), { code: "NotFound" });
    const again = await mutate(requestOf(session, 2, mount));
    assert.equal(again.results[0]!.ok, true, "a new one looks again");
  });

  it("answers a copy of a mount as it was answered, after the mount and its store have gone", async () => {
    const session = await open();
    const store = join(directory, "store");
    await mkdir(store);
    const mount = requestOf(session, 0, {
      ...{ kind: "mount", parent: rootInodeId, name: "m" },
      ...{ uri: `file://${store}`, readOnly: false, options: {} },
    });
    const first = await mutate(mount);
    assert.equal(first.results[0]!.ok, true);
    const other = await open();
    const unmount = { kind: "unmount", parent: rootInodeId, name: "m" };
    assert.equal((await mutate(requestOf(other, 0, unmount))).results[0]!.ok, true);
    await worker!.stop();
    worker = undefined;
    assert.deepEqual(await mutate(mount), first);
    const refused = await mutate({ ...mount, sequence: 1 });
    assert.equal(refused.results[0]!.ok, false, "a new one does look at the store");
  });
});
