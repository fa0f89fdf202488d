/** Known bugs of other session tables: see the table in docs/testing.md. */
import assert from "node:assert/strict";
import { rootInodeId } from "../../../src/lib/ids.ts";
import { createCommand, Machine, requestOf } from "./machine-fixture.ts";

describe("exactly once, cases", () => {
  it("R13: a restarted client that counts from 1 again is answered for itself, not with old results", () => {
    const machine = Machine.make();
    const ask = (session: ReturnType<Machine["openSession"]>, name: string) =>
      machine.apply(requestOf([createCommand(rootInodeId, name)], { session, sequence: 1 }));
    const before = machine.openSession();
    ask(before, "first");
    // The same client, started again: it knows nothing of its earlier session.
    const after = machine.openSession();
    assert.notEqual(after, before);
    const answer = ask(after, "second");
    assert.deepEqual(answer.replayed, [false]);
    assert.ok(machine.exists("/first") && machine.exists("/second"));
    // And what the earlier life still has under way is answered as its own.
    assert.deepEqual(ask(before, "first").replayed, [true]);
  });
});
