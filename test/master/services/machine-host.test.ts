/** Committed entries as consensus hands them over, and what the state machine's host makes of them. */
import assert from "node:assert/strict";
import { rootInodeId } from "../../../src/lib/ids.ts";
import { MachineHost } from "../../../src/master/services/machine-host.ts";
import { MemoryStateStore } from "../../lib/memory-state-store.ts";
import { bootstrapCommand, createCommand } from "../state/machine-fixture.ts";
import { commandEntry, entryOf } from "./log-entries.ts";

function hostOf(store = new MemoryStateStore()): { host: MachineHost; store: MemoryStateStore } {
  const ignore = (): void => undefined;
  return { store, host: new MachineHost({ store, onApplied: ignore, onInstalled: ignore }) };
}

function configurationOf(host: MachineHost): [number, ...number[]] | undefined {
  const found = host.configuration();
  return found === undefined ? undefined : [found.index, ...found.payload];
}

describe("the state machine's host", () => {
  it("keeps the last committed configuration in the state, in its hash and in snapshots", async () => {
    const [first, second] = [hostOf(), hostOf()];
    const entries = [
      entryOf(1, "noop", new Uint8Array()),
      commandEntry(2, bootstrapCommand),
      entryOf(3, "configuration", new Uint8Array([1, 2, 3])),
    ];
    assert.equal(configurationOf(first.host), undefined);
    await first.host.apply(entries);
    await second.host.apply(entries);
    assert.deepEqual(configurationOf(first.host), [3, 1, 2, 3]);
    assert.equal(first.store.hash(), second.store.hash());
    const before = first.store.hash();
    await first.host.apply([entryOf(4, "configuration", new Uint8Array([9]))]);
    assert.notEqual(first.store.hash(), before);
    await first.host.apply([commandEntry(5, createCommand(rootInodeId, "f"))]);
    const snapshot = await first.host.snapshot();
    await second.host.install(snapshot.meta, snapshot.chunks());
    await snapshot.close();
    assert.deepEqual(configurationOf(second.host), [4, 9]);
    assert.deepEqual(configurationOf(hostOf(first.store.crash()).host), [4, 9]);
  });
});
