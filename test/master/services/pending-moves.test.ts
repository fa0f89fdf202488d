import assert from "node:assert/strict";
import { rootMountId } from "../../../src/lib/ids.ts";
import { PendingMoves } from "../../../src/master/services/pending-moves.ts";
import { ObservedMachine } from "./leader-fixture.ts";

describe("PendingMoves", () => {
  /** A machine whose store has the directories, and a watch of its moves. */
  function watched(...paths: readonly string[]) {
    const machine = ObservedMachine.start();
    for (const path of paths) machine.mkdir(path);
    machine.settle();
    const watch = () => {
      const moves = new PendingMoves(machine.state);
      machine.onApplied = ({ events }) => moves.applied(events);
      return moves;
    };
    return { machine, watch };
  }

  function rename(machine: ObservedMachine, from: string, to: string): void {
    machine.done({
      kind: "rename",
      sourceParent: machine.at("/").id,
      sourceName: from,
      targetParent: machine.at("/").id,
      targetName: to,
      noReplace: false,
    });
  }

  const isMoving = (moves: PendingMoves, path: string) => moves.isMoving(rootMountId, path);

  it("knows what was queued before it began", async () => {
    const { machine, watch } = watched("/a");
    rename(machine, "a", "b");
    const moves = watch();
    await moves.ready;
    assert.equal(isMoving(moves, "a"), true);
    assert.equal(isMoving(moves, "other"), false);
    assert.equal(moves.renamesOf(rootMountId).length, 1);
  });

  it("knows what is queued since without reading the queue again", async () => {
    const { machine, watch } = watched("/a");
    const moves = watch();
    await moves.ready;
    machine.state.iterate = () => assert.fail("the queue was read");
    rename(machine, "a", "b");
    await moves.ready;
    assert.equal(isMoving(moves, "b"), true);
    machine.settle();
    assert.equal(isMoving(moves, "b"), false);
  });

  it("reads the queue anew when the state was replaced", async () => {
    const { machine, watch } = watched("/a");
    const moves = watch();
    await moves.ready;
    // As a snapshot brings it: nothing tells of what is in there.
    machine.onApplied = () => undefined;
    rename(machine, "a", "b");
    assert.equal(isMoving(moves, "a"), false);
    moves.replaced();
    await moves.ready;
    assert.equal(isMoving(moves, "a"), true);
  });
});
