import assert from "node:assert/strict";
import { decode, encode, optional, struct, text, unsigned, word } from "../../src/lib/schema.ts";
import {
  agreedVersion,
  answerHello,
  type Hello,
  hello,
  helloOf,
  type Identity,
  type Roster,
  spokenVersions,
} from "../../src/raft/host/handshake.ts";

const self: Identity = {
  name: "master-1",
  clusterName: "test",
  stage: "member",
  nodeId: "node-1",
  clusterId: "cluster-1",
  members: [],
};
/** Knows node-2 as master-2, and that a configuration at 40 has neither node-3 nor node-4. */
const roster: Roster = {
  boundTo: (name) => (name === "master-2" ? "node-2" : undefined),
  wasRemoved: (id, knownAt) => id !== "node-2" && knownAt !== undefined && knownAt < 40,
  knownAt: 40,
  isChanged: false,
};
const caller: Hello = {
  version: 1,
  newest: 2,
  purpose: "messages",
  clusterName: "test",
  clusterId: "cluster-1",
  nodeId: "node-2",
  name: "master-2",
  to: "master-1",
  knownAt: 40,
  place: undefined,
};

function answer(changed: Partial<Hello>, who: Partial<Identity> = {}) {
  const names = ["master-1", "master-2"];
  const identity = { ...self, ...who };
  return answerHello(
    identity,
    { names, roster, versions: spokenVersions },
    { ...caller, ...changed },
  );
}
function refusal(changed: Partial<Hello>, who: Partial<Identity> = {}) {
  const reply = answer(changed, who);
  assert.equal(reply.kind, "refused");
  return reply;
}

describe("raft handshake", () => {
  it("agrees on the newest version that both speak, if there is one", () => {
    const versions = (oldest: number, newest: number) => ({ oldest, newest });
    assert.equal(agreedVersion(versions(1, 2), versions(1, 3)), 2);
    assert.equal(agreedVersion(versions(1, 2), versions(1, 1)), 1);
    assert.equal(agreedVersion(versions(2, 3), versions(1, 2)), 2);
    assert.equal(agreedVersion(versions(1, 2), versions(3, 4)), undefined);
  });

  it("shows itself to who looks for a member, itself too", () => {
    const shown = answer({ purpose: "address", nodeId: "node-1", name: "master-1" });
    assert.equal(shown.kind === "accepted" && shown.nodeId, "node-1");
    assert.match(refusal({ purpose: "address", to: "master-3" }).reason, /here is "master-1"/);
    assert.match(refusal({ nodeId: "node-1" }).reason, /its data is a copy/);
  });

  it("refuses who speaks none of its versions, and says what to do", () => {
    const later = spokenVersions.newest + 1;
    const { reason, permanent } = refusal({ version: later, newest: later + 1 });
    assert.match(
      reason,
      new RegExp(
        `versions ${later} to ${later + 1} .* here versions 1 to ${spokenVersions.newest} .* upgrade the older one`,
      ),
    );
    assert.equal(permanent, true);
  });

  it("is understood by a master of the first version, and understands it", () => {
    const first = struct({
      version: unsigned(),
      purpose: word("messages", "snapshot", "formation"),
      clusterName: text,
      clusterId: optional(text),
      nodeId: optional(text),
      name: text,
      to: text,
    });
    const said = helloOf(self, "messages", "master-2", { versions: spokenVersions, knownAt: 7 });
    assert.equal(decode(first, encode(hello, said), "hello").version, 1);
    const heard = decode(hello, encode(first, { ...caller, purpose: "messages" }), "hello");
    assert.deepEqual(
      { newest: heard.newest, knownAt: heard.knownAt },
      { newest: undefined, knownAt: undefined },
    );
    assert.equal(heard.place, undefined);
    const reply = answerHello(self, { names: [], roster, versions: spokenVersions }, heard);
    assert.equal(reply.kind === "accepted" && reply.version, 1);
  });

  it("refuses a node of another cluster for good, whatever it wants", () => {
    for (const purpose of ["messages", "snapshot", "formation", "admission"] as const) {
      const { reason, permanent } = refusal({ purpose, clusterId: "cluster-2" });
      assert.match(reason, /its data is of cluster cluster-2, wanted cluster-1/);
      assert.equal(permanent, true);
    }
    assert.equal(refusal({ clusterName: "other" }).permanent, true);
  });

  it("refuses a copy of its own data", () => {
    assert.match(refusal({ nodeId: "node-1" }).reason, /a copy of that of "master-1"/);
  });

  it("hears a node that its configuration does not have: it may be the one that lags", () => {
    assert.equal(answer({ nodeId: "node-3", name: "master-3", knownAt: 41 }).kind, "accepted");
    assert.equal(
      answer({ nodeId: "node-3", name: "master-3", knownAt: undefined }).kind,
      "accepted",
    );
    // Even under a name that is bound to another node here.
    assert.equal(answer({ nodeId: "node-3", knownAt: 41 }).kind, "accepted");
  });

  it("calls a node removed only when a newer committed configuration leaves it out", () => {
    const { removed, permanent } = refusal({ nodeId: "node-3", name: "master-3", knownAt: 39 });
    assert.deepEqual({ removed, permanent }, { removed: true, permanent: true });
  });

  it("takes no messages from who has no data, and tells it whom its name is bound to", () => {
    assert.equal(refusal({ clusterId: undefined, nodeId: undefined }).permanent, true);
    const reply = answer({ purpose: "formation", clusterId: undefined, nodeId: undefined });
    assert.equal(reply.kind === "accepted" && reply.boundTo, "node-2");
  });

  it("lets masters wait that come before the cluster is formed", () => {
    assert.equal(refusal({}, { stage: "forming" }).permanent, false);
    const empty = { stage: "empty", nodeId: undefined, clusterId: undefined } as const;
    const early = {
      purpose: "formation",
      name: "master-9",
      nodeId: undefined,
      clusterId: undefined,
    } as const;
    assert.equal(refusal(early, empty).permanent, false);
    assert.equal(refusal({ to: "master-7" }).permanent, false);
  });
});
