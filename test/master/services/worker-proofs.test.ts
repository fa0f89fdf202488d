/** Who is taken for a worker: proofs over real connections. */
import assert from "node:assert/strict";
import { createSecretKey } from "node:crypto";
import { hasCode, WeirError } from "../../../src/lib/errors.ts";
import { silentLogger } from "../../../src/lib/logger.ts";
import { serveWorkerProofs, WorkerProofs } from "../../../src/master/services/worker-proofs.ts";
import { type Introduce, RpcClient } from "../../../src/rpc/client.ts";
import { masterApi } from "../../../src/rpc/master-api.ts";
import { RpcServer } from "../../../src/rpc/server.ts";
import { proofOf, proveWorker } from "../../../src/rpc/worker-proof.ts";
import { eventually } from "../../lib/eventually.ts";

const secret = createSecretKey(Buffer.from("s".repeat(32)));
const other = createSecretKey(Buffer.from("t".repeat(32)));
const within = { deadlineMs: 5000 };

describe("Proofs of workers", () => {
  let server: RpcServer;
  let clients: RpcClient[];

  const serve = async (of: typeof secret | undefined, port = 0) => {
    server = await RpcServer.listen({ host: "127.0.0.1", port, logger: silentLogger });
    const proofs = new WorkerProofs(of);
    serveWorkerProofs(server, proofs);
    server.handle(
      masterApi.mountTargets,
      proofs.only("mountTargets", () => ({ mounts: [] })),
    );
  };
  const connect = (introduce?: Introduce) => {
    const { port } = server;
    const client = new RpcClient({ host: "127.0.0.1", port, logger: silentLogger, introduce });
    clients.push(client);
    return client;
  };
  const targets = (client: RpcClient) => client.call(masterApi.mountTargets, {}, within);
  const challenge = async (client: RpcClient) =>
    (await client.call(masterApi.workerChallenge, {}, within)).nonce!;
  const prove = (client: RpcClient, proof: string) =>
    client.call(masterApi.workerProof, { proof }, within);
  const denied = (call: Promise<unknown>) =>
    assert.rejects(call, (thrown) => {
      assert(hasCode(thrown, "PermissionDenied"), String(thrown));
      assert.match(thrown.message, /Cure: .*security\.secretFile/);
      return true;
    });

  beforeEach(async () => {
    clients = [];
    await serve(secret);
  });
  afterEach(async () => {
    for (const client of clients) client.close();
    await server.close();
  });

  it("let in who has the secret, and nobody who gives none or a wrong one", async () => {
    const client = connect();
    await denied(targets(client));
    await denied(prove(client, proofOf(secret, "")));
    for (const wrong of ["", "00", "z".repeat(64), proofOf(other, await challenge(client))]) {
      await challenge(client);
      await denied(prove(client, wrong));
      await denied(targets(client));
    }
    await prove(client, proofOf(secret, await challenge(client)));
    assert.deepEqual(await targets(client), { mounts: [] });
    await denied(targets(connect()));
  });

  it("are worth nothing on another connection, nor a second time", async () => {
    const [first, second] = [connect(), connect()];
    const proof = proofOf(secret, await challenge(first));
    await denied(prove(second, proof));
    await challenge(second);
    await denied(prove(second, proof));
    await prove(first, proof);
    await denied(prove(first, proof));
    await denied(targets(second));
    // A nonce goes with a wrong proof.
    const third = connect();
    const nonce = await challenge(third);
    await denied(prove(third, "wrong"));
    await denied(prove(third, proofOf(secret, nonce)));
  });

  it("differ from connection to connection", async () => {
    const nonces = await Promise.all([1, 2, 3].map(() => challenge(connect())));
    assert.equal(new Set(nonces).size, 3);
    for (const nonce of nonces) assert.match(nonce, /^[0-9a-f]{64}$/);
  });

  it("are given by a worker on each connection before anything else", async () => {
    const worker = connect(proveWorker(secret));
    const both = await Promise.all([targets(worker), targets(worker)]);
    assert.deepEqual(both, [{ mounts: [] }, { mounts: [] }]);
    const { port } = server;
    await server.close();
    await eventually("the end of the connection to be noticed", () =>
      targets(worker).then(
        () => false,
        (thrown: unknown) => hasCode(thrown, "Unavailable"),
      ),
    );
    await serve(secret, port);
    assert.deepEqual(await targets(worker), { mounts: [] });
  });

  it("fail the calls of a worker with another secret, with the cure", async () => {
    const worker = connect(proveWorker(other));
    await denied(targets(worker));
    await denied(targets(worker));
  });

  it("are not asked for without a secret, nor by masters that do not know of them", async () => {
    await server.close();
    await serve(undefined);
    assert.deepEqual(await targets(connect()), { mounts: [] });
    assert.deepEqual(await targets(connect(proveWorker(secret))), { mounts: [] });
    await server.close();
    server = await RpcServer.listen({ host: "127.0.0.1", port: 0, logger: silentLogger });
    server.handle(masterApi.mountTargets, () => ({ mounts: [] }));
    assert.deepEqual(await targets(connect(proveWorker(secret))), { mounts: [] });
  });

  it("hold a call up no longer than its deadline, and one that was cancelled is never sent", async () => {
    let letGo: () => void = () => undefined;
    const held = new Promise<void>((resolve) => {
      letGo = resolve;
    });
    const worker = connect(async (call) => {
      await held;
      await proveWorker(secret)(call);
    });
    let asked = 0;
    server.handle(masterApi.mountTargets, () => {
      asked++;
      return { mounts: [] };
    });
    const late = worker.call(masterApi.mountTargets, {}, { deadlineMs: 30 });
    await assert.rejects(late, (thrown) => hasCode(thrown, "DeadlineExceeded"));
    const stopping = new AbortController();
    const { signal } = stopping;
    const cancelled = worker.call(masterApi.mountTargets, {}, { deadlineMs: 5000, signal });
    stopping.abort(new WeirError("Cancelled", "The test cancels"));
    await assert.rejects(cancelled, (thrown) => hasCode(thrown, "Cancelled"));
    const last = targets(worker);
    letGo();
    await last;
    assert.equal(asked, 1);
  });
});
