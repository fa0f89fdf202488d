/** Members that say, when they are connected to, that they do not know this node by its name. */
import assert from "node:assert/strict";
import { systemClock } from "../../src/lib/clock.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { spokenVersions } from "../../src/raft/host/handshake.ts";
import { Transport } from "../../src/raft/transport.ts";
import { eventually } from "../lib/eventually.ts";

/** A transport of a member that knows nobody's name. */
function listen(name: string): Promise<Transport> {
  return Transport.listen({
    listen: { host: "127.0.0.1", port: 0 },
    peers: [],
    ...{ clock: systemClock, logger: silentLogger, versions: spokenVersions },
    identity: () => ({
      ...{ name, clusterName: "test", stage: "member", nodeId: `node-${name}`, clusterId: "c" },
      members: [],
    }),
    roster: () => ({
      boundTo: () => undefined,
      ...{ wasRemoved: () => false, knownAt: undefined, isChanged: true },
    }),
    onMessage: () => undefined,
    onSnapshot: (socket) => socket.close(),
    onFormation: (socket) => socket.close(),
    onAdmission: (socket) => socket.close(),
    onGone: () => undefined,
    onRefused: () => undefined,
  });
}

describe("raft transport: members that do not know this node", function () {
  this.timeout(30_000);
  let own: Transport;
  let other: Transport;

  beforeEach(async () => {
    own = await listen("a");
    other = await listen("b");
    own.setLinks(new Map([["node-b", { name: "b", host: "127.0.0.1", port: other.port }]]));
    await eventually("the link", () => own.versionOf("node-b"));
    assert.deepEqual(own.disowning, ["b"]);
  });

  afterEach(async () => {
    await own.close();
    await other.close();
  });

  it("are forgotten when this node has become a member since", () => {
    own.forgetDisowning();
    assert.deepEqual(own.disowning, []);
  });

  it("count as long as they are there", async () => {
    await other.close();
    await eventually("the link to end", () => own.versionOf("node-b") === undefined);
    assert.deepEqual(own.disowning, []);
  });

  it("count no more when nobody is to be connected to them", () => {
    own.setLinks(new Map());
    assert.deepEqual(own.disowning, []);
  });
});
