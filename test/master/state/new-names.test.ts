/** What is known of directories that were made lately: right whenever it says something, and never more than a short cut. */
import assert from "node:assert/strict";
import fc from "fast-check";
import type { InodeId } from "../../../src/lib/ids.ts";
import { MachineHost } from "../../../src/master/services/machine-host.ts";
import { NewNames } from "../../../src/master/state/new-names.ts";
import { edgeOf } from "../../../src/master/state/queries.ts";
import type { Command } from "../../../src/rpc/commands.ts";
import { MemoryStateStore } from "../../lib/memory-state-store.ts";
import { commandEntry } from "../services/log-entries.ts";
import { bootstrapCommand, createCommand, Machine, requestOf } from "./machine-fixture.ts";

const directory = 5 as InodeId;

describe("names that are new", () => {
  it("are those that a directory was not given since it was made", () => {
    const step = fc.record({
      of: fc.constantFrom(3, 4, 2 ** 33 + 3).map((id) => id as InodeId),
      name: fc.constantFrom("", "a", "b", "ab", "ba", "\xff"),
      begins: fc.boolean(),
    });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const names = new NewNames(1);
        const given = new Map<InodeId, Set<string>>();
        for (const { of, name, begins } of steps) {
          const known = given.get(of);
          // A directory is made once: one of the same id only where the first was taken back.
          if (begins && known === undefined) {
            names.begin(of);
            given.set(of, new Set());
            continue;
          }
          const isNew = known?.has(name) === false;
          assert.equal(names.isNew(of, name), isNew);
          assert.equal(names.enter(of, name), isNew);
          assert.equal(names.isNew(of, name), false);
          known?.add(name);
        }
      }),
    );
  });

  it("are told apart among a hundred thousand, nearly always", () => {
    const names = new NewNames(2);
    names.begin(directory);
    let lost = 0;
    for (let i = 0; i < 100_000; i++) if (!names.enter(directory, `f${String(i)}`)) lost++;
    for (let i = 0; i < 100_000; i++) assert.ok(!names.isNew(directory, `f${String(i)}`));
    assert.ok(lost < 20, `${String(lost)} names fell on others`);
  });

  it("are forgotten all at once when they are too many, and then nothing is new", () => {
    const names = new NewNames(3);
    names.begin(directory);
    let i = 0;
    const first = 2_000_000;
    while (names.isNew(directory, "never") && i < first) names.enter(directory, `f${String(i++)}`);
    assert.ok(i > 1_000_000 && i < first, `${String(i)} names`);
    assert.ok(!names.isNew(directory, `f${String(first)}`));
    const later = (directory + 1) as InodeId;
    names.begin(later);
    assert.ok(names.isNew(later, "a"));
  });

  it("change no state: a machine that remembers them and one that does not come to the same", () => {
    const names = ["a", "b", "c"];
    const command = fc.record({
      directory: fc.nat(3),
      name: fc.constantFrom(...names),
      other: fc.constantFrom(...names),
      kind: fc.constantFrom("file", "directory", "unlink", "rmdir", "rename"),
    });
    const request = fc.record({
      atomic: fc.boolean(),
      commands: fc.array(command, { minLength: 1 }),
    });
    fc.assert(
      fc.property(fc.array(request, { maxLength: 12 }), (requests) => {
        const [remembering, forgetful] = [Machine.make(), Machine.make()];
        forgetful.newNames = undefined;
        for (const { atomic, commands } of requests) {
          const parents = remembering.state.entries("inode/").length;
          const asked = commands.map(({ directory: place, name, other, kind }): Command => {
            // Ids of some that are there, of some that this request makes, and of some that never will be.
            const parent = (place === 0 ? 1 : 1 + ((place * 7) % (parents + 3))) as InodeId;
            if (kind === "file" || kind === "directory") {
              return createCommand(parent, name, { fileKind: kind, writeType: "MUST_CACHE" });
            }
            if (kind === "unlink") return { kind, parent, name, held: false };
            if (kind === "rmdir") return { kind, parent, name };
            return {
              kind,
              sourceParent: parent,
              sourceName: name,
              targetParent: parent,
              targetName: other,
              noReplace: place === 1,
            };
          });
          const results = [remembering, forgetful].map(
            (machine) => machine.apply(requestOf(asked, { atomic })).results,
          );
          assert.deepEqual(results[0], results[1]);
          assert.equal(remembering.state.hash(), forgetful.state.hash());
        }
      }),
    );
  });

  it("are not believed of a state that a snapshot brought", async () => {
    const ignore = (): void => undefined;
    const hostOf = (store: MemoryStateStore) =>
      new MachineHost({ store, onApplied: ignore, onInstalled: ignore });
    const [ahead, behind] = [new MemoryStateStore(), new MemoryStateStore()];
    const [aheadHost, behindHost] = [hostOf(ahead), hostOf(behind)];
    const made = commandEntry(2, createCommand(1 as InodeId, "d", { fileKind: "directory" }));
    const page = { directory: 1 as InodeId, entries: [], listedAtIndex: 0, last: true };
    const loaded = commandEntry(1, bootstrapCommand, { kind: "loadPage", ...page });
    await aheadHost.apply([loaded, made]);
    await behindHost.apply([loaded, made]);
    const parent = edgeOf(ahead, 1 as InodeId, "d")!.child;
    const named = commandEntry(3, createCommand(parent, "f"));
    await aheadHost.apply([named]);
    const snapshot = await aheadHost.snapshot();
    await behindHost.install(snapshot.meta, snapshot.chunks());
    await snapshot.close();
    const again = commandEntry(4, createCommand(parent, "f"));
    await aheadHost.apply([again]);
    await behindHost.apply([again]);
    assert.equal(behind.hash(), ahead.hash());
    assert.equal(edgeOf(behind, parent, "f")!.child, edgeOf(ahead, parent, "f")!.child);
  });
});
