import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, createServer } from "node:net";
import { silentLogger } from "../../src/lib/logger.ts";
import { decode, encode } from "../../src/lib/schema.ts";
import { Forming } from "../../src/raft/host/formation.ts";
import { FramedSocket } from "../../src/raft/host/framed-socket.ts";
import { admitted, formation } from "../../src/raft/host/handshake.ts";
import type { Term } from "../../src/raft/types.ts";
import { MemoryJournal } from "../lib/memory-journal.ts";

const members = [{ name: "master-4", nodeId: "d" }];

/** Asks a master whose data is of node "d" to be admitted to its own cluster. */
async function admit(wasMember: boolean | undefined) {
  const before = new MemoryJournal();
  await before.initialize({ nodeId: "d", clusterId: "c", members, admittedAt: 7 });
  await before.append({ hardState: { term: 1 as Term, vote: undefined }, entries: [] });
  const journal = before.crash();
  const forming = new Forming({
    ...{ name: "master-4", clusterName: "weir", peers: [], journal, logger: silentLogger },
    onProspect: () => undefined,
    wasMember: () => wasMember,
  });
  const server = createServer((raw) => void forming.serveAdmission(new FramedSocket(raw)));
  await once(server.listen(0, "127.0.0.1"), "listening");
  const { port } = server.address() as { port: number };
  const leader = new FramedSocket(connect(port, "127.0.0.1"));
  try {
    leader.write([encode(formation, { clusterId: "c", members, lastIndex: 9 })]);
    return decode(admitted, await leader.next(5000), "admitted");
  } finally {
    leader.close();
    server.close();
  }
}

describe("raft: a master that is asked for its past", () => {
  it("says what its log tells", async () => {
    assert.deepEqual(await admit(true), { nodeId: "d", wasMember: true });
    assert.deepEqual(await admit(false), { nodeId: "d", wasMember: false });
  });

  it("says nothing before its log is read, rather than that it was a member", async () => {
    await assert.rejects(admit(undefined), { code: "Unavailable" });
  });
});
