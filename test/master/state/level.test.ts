import assert from "node:assert/strict";
import { rootInodeId } from "../../../src/lib/ids.ts";
import { levelOfState } from "../../../src/master/state/queries.ts";
import { newestLevel } from "../../../src/rpc/commands.ts";
import { bootstrapCommand, createCommand, Machine, pageOf } from "./machine-fixture.ts";

describe("the level of the state", () => {
  it("begins at 1, is raised once, and never goes back", () => {
    const machine = new Machine();
    machine.done(bootstrapCommand);
    assert.equal(levelOfState(machine.state), 1);
    machine.done({ kind: "raiseLevel", level: newestLevel });
    machine.done({ kind: "raiseLevel", level: 1 });
    assert.equal(levelOfState(machine.state), newestLevel);
    machine.refused("NotSupported", { kind: "raiseLevel", level: newestLevel + 1 });
  });

  it("keeps away what members of an earlier release would not do alike", () => {
    const machine = new Machine();
    machine.done(bootstrapCommand);
    machine.done(pageOf(rootInodeId, [], { listedAtIndex: 1 }));
    const node = createCommand(rootInodeId, "null", { fileKind: "charDevice", rdev: 2 ** 32 + 3 });
    machine.refused("Unavailable", node);
    machine.done({ kind: "raiseLevel", level: newestLevel });
    assert.equal(machine.done(node).status!.rdev, 2 ** 32 + 3);
  });
});
