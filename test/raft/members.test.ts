import assert from "node:assert/strict";
import { encodeConfiguration } from "../../src/raft/configuration-codec.ts";
import { Members } from "../../src/raft/host/members.ts";
import { type Configuration, type NodeId, zeroIndex } from "../../src/raft/types.ts";
import { makeCore, receive } from "./lib/core-cluster.ts";

const learning = (...learners: NodeId[]): Configuration => ({
  voters: ["n1"],
  outgoing: [],
  learners,
});

/** What n2 knows of its membership from entries that came in one turn, of which so many are committed as it is told. */
function known(commit: number, ...configurations: readonly Configuration[]) {
  const start = { index: zeroIndex, configuration: learning() };
  const core = makeCore({ id: "n2", voters: ["n1"], configuration: start.configuration });
  let isRemoved = false;
  const members = new Members({
    ...{ self: "n2", start, bindings: [], activeIndex: () => core.configurationIndex },
    ...{ onActive: () => undefined, onCommitted: () => undefined },
    onRemoved: () => {
      isRemoved = true;
    },
  });
  const entries = configurations.map((configuration, place) => {
    const payload = encodeConfiguration(configuration);
    return { index: place + 1, term: 1, kind: "configuration", payload };
  });
  const append = { kind: "append", from: "n1", term: 1, prevIndex: 0, prevTerm: 0, commit };
  receive(core, { ...append, entries });
  members.observe(core);
  return { isRemoved, knownAt: members.knownAt, wasMember: members.wasMember };
}

describe("raft members, as one knows itself that reads its log in one turn", () => {
  const added = learning("n2");
  const removed = learning();

  it("is one as soon as another configuration follows the one that added it, and not before", () => {
    assert.deepEqual(known(0, added), { isRemoved: false, knownAt: undefined, wasMember: false });
    assert.deepEqual(known(0, added, learning("n2", "n3")), {
      ...{ isRemoved: false, knownAt: 1, wasMember: true },
    });
  });

  it("was one up to the configuration that removed it, whatever else was changed then", () => {
    for (const later of [[], [learning("n3")], [learning("n3"), learning("n3", "n4")]]) {
      const told = known(0, added, removed, ...later);
      assert.deepEqual(told, { isRemoved: false, knownAt: 1, wasMember: true });
    }
  });

  it("is removed for good by one that is committed, however many follow it", () => {
    for (const later of [[], [learning("n3")], [learning("n3"), learning("n3", "n4")]]) {
      const told = known(2 + later.length, added, removed, ...later);
      assert.deepEqual(told, { isRemoved: true, knownAt: undefined, wasMember: true });
    }
  });
});
