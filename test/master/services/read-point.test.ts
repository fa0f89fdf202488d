/** Linearizable reads of a master: none sees a state that is older than the point of the log that the leader named. */
import assert from "node:assert/strict";
import { rootInodeId } from "../../../src/lib/ids.ts";
import { MachineHost } from "../../../src/master/services/machine-host.ts";
import { answerFrom, type MasterParts, readPoint } from "../../../src/master/services/parts.ts";
import type { Index } from "../../../src/raft/types.ts";
import type { CallContext } from "../../../src/rpc/server.ts";
import { MemoryStateStore } from "../../lib/memory-state-store.ts";
import { bootstrapCommand, createCommand } from "../state/machine-fixture.ts";
import { commandEntry } from "./log-entries.ts";
import { turn } from "./manual-clock.ts";

describe("linearizable reads on a follower", () => {
  let machine: MachineHost;
  let parts: MasterParts;
  /** What the leader answers, once it does. */
  let confirm: (index: number) => void;
  let deadline: AbortController;
  let call: CallContext;

  beforeEach(async () => {
    const store = new MemoryStateStore();
    const ignore = () => undefined;
    machine = new MachineHost({ store, onApplied: ignore, onInstalled: ignore });
    await machine.apply([commandEntry(1, bootstrapCommand)]);
    const asked = new Promise<Index>((resolve) => {
      confirm = (index) => resolve(index as Index);
    });
    parts = {
      store,
      machine,
      raft: { readIndex: () => asked },
      leadership: { status: { role: "follower" }, reign: undefined, error: () => new Error("no") },
    } as unknown as MasterParts;
    deadline = new AbortController();
    call = { signal: deadline.signal } as unknown as CallContext;
  });

  const ways: Record<string, () => Promise<number>> = {
    readPoint: async () => {
      await readPoint(parts, "linearizable", call);
      return machine.appliedIndex;
    },
    answerFrom: async () => answerFrom(parts, "linearizable", call, () => machine.appliedIndex),
  };
  for (const [name, read] of Object.entries(ways)) {
    it(`${name} waits until the leader's read index is applied here, and no longer`, async () => {
      let seen: number | undefined;
      const answered = read().then((index) => {
        seen = index;
      });
      await turn();
      assert.equal(seen, undefined, "before the leader has confirmed anything");
      confirm(3);
      await turn();
      await machine.apply([commandEntry(2, createCommand(rootInodeId, "a"))]);
      await turn();
      assert.equal(seen, undefined, "the state lacks entry 3");
      await machine.apply([commandEntry(3, createCommand(rootInodeId, "b"))]);
      await answered;
      assert.equal(seen, 3);
    });

    it(`${name} answers at once where that is applied already`, async () => {
      const answer = read();
      confirm(1);
      assert.equal(await answer, 1);
    });

    it(`${name} gives up at the deadline while the state is behind`, async () => {
      const answer = read();
      confirm(3);
      await turn();
      deadline.abort();
      await assert.rejects(answer);
      await machine.apply([commandEntry(2, createCommand(rootInodeId, "a"))]);
    });
  }

  it("are not answered by a snapshot that does not reach their index, and by one that does", async () => {
    let seen: number | undefined;
    const answered = ways["answerFrom"]!().then((index) => {
      seen = index;
    });
    confirm(20);
    await turn();
    const state = await machine.snapshot();
    await machine.install({ index: 19, term: 1 }, state.chunks());
    await turn();
    assert.equal(seen, undefined);
    await machine.install({ index: 20, term: 1 }, state.chunks());
    await answered;
    assert.equal(seen, 20);
    await state.close();
  });
});
