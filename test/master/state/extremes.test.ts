/** Whatever numbers and texts commands carry: a master that was just started decides as one that never ended. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { systemClock } from "../../../src/lib/clock.ts";
import { rootInodeId } from "../../../src/lib/ids.ts";
import { silentLogger } from "../../../src/lib/logger.ts";
import { decode, encode, list } from "../../../src/lib/schema.ts";
import { type AppliedEntry, applyEntry, rangesOf } from "../../../src/master/state/machine.ts";
import { openStateStore } from "../../../src/master/store/level-store.ts";
import { StateHash } from "../../../src/master/store/state-hash.ts";
import type { StateStore } from "../../../src/master/store/types.ts";
import {
  type Command,
  commandResult,
  type EntryPayload,
  entryPayload,
} from "../../../src/rpc/commands.ts";
import { withTempDir } from "../../lib/temp-dir.ts";
import { bootstrapCommand, pageOf, requestOf } from "./machine-fixture.ts";

const largest = Number.MAX_SAFE_INTEGER;
const number = fc.constantFrom(
  0,
  1,
  2,
  3,
  100,
  255,
  65_536,
  2 ** 32,
  2 ** 40,
  largest - 1,
  largest,
);
const time = fc.record({ sec: fc.constantFrom(0, -1, 5, -largest, largest), nsec: number });
const name = fc.constantFrom("a", "b", "\xff", "x".repeat(40), "x".repeat(256), "__proto__");
const strange = ["t", "\u0101", "\x01", "\xe9", "\u{1f600}x", "__proto__", "10", "9"];
const text = fc.oneof(
  fc.constantFrom(...strange, "\ufeffmark", `\ufeff${"long ".repeat(50)}`),
  // Halves of pairs: no UTF-8 has them.
  fc.constantFrom("\ud800", `\udfff${"\ud800 ".repeat(50)}`),
);
const texts = fc.dictionary(text, text, { maxKeys: 3, noNullPrototype: true });
const inode = fc.integer({ min: 1, max: 8 });
const maybe = <T>(of: fc.Arbitrary<T>) => fc.option(of, { nil: undefined });
const flag = fc.boolean();
const id = fc.constantFrom(1, 2, 3);

/** What earlier commands made. */
interface Known {
  readonly sessions: number[];
  readonly writes: (readonly [inode: number, writeId: number])[];
}

const is = <K extends Command["kind"]>(kind: K) => fc.constant(kind);

function clientCommand({ writes }: Known): fc.Arbitrary<unknown> {
  const named = { parent: inode, name };
  const made = { mode: number, uid: number, gid: number, lease: flag, exclusive: flag };
  const extent = { fileOffset: number, length: fc.constant(50), blockIndex: number };
  const commit = fc.constantFrom(...writes, [3, 1] as const).chain(([of, writeId]) =>
    fc.record({
      ...{ kind: is("commit"), inode: fc.constant(of), writeId: fc.constant(writeId) },
      ...{ baseVersion: fc.constantFrom(1, 2, 3, 4), size: fc.oneof(number, fc.constant(250)) },
      extents: fc.array(
        fc.record({ ...extent, writeId: fc.constant(writeId), offset: fc.constantFrom(0, 50) }),
        { maxLength: 1 },
      ),
      ...{ keepers: fc.constant([1]), mtime: maybe(time), release: flag },
    }),
  );
  const create = {
    ...{ kind: is("create"), ...made, target: fc.constant(undefined), parent: inode, name },
    ...{ fileKind: fc.constantFrom("file", "directory"), writeType: fc.constant(undefined) },
  };
  return fc.oneof(
    fc.record(create),
    fc.record({
      ...{ ...create, parent: fc.constant(rootInodeId), fileKind: fc.constant("file") },
      lease: fc.constant(true),
    }),
    fc.record({
      ...create,
      fileKind: fc.constant("symlink"),
      target: name,
      lease: fc.constant(false),
    }),
    fc.record({ kind: is("link"), inode, ...named }),
    fc.record({ kind: is("unlink"), ...named, held: flag }),
    fc.record({ kind: fc.constantFrom("rmdir", "deleteTree", "unmount"), ...named }),
    fc.record({
      ...{ kind: is("rename"), sourceParent: inode, sourceName: name },
      ...{ targetParent: inode, targetName: name, noReplace: flag },
    }),
    fc.record({
      ...{ kind: is("setAttributes"), inode, mode: maybe(number), uid: maybe(number) },
      ...{ gid: maybe(number), atime: maybe(time), mtime: maybe(time) },
    }),
    fc.record({ kind: is("truncate"), inode, size: number }),
    fc.record({ kind: fc.constantFrom("lease", "release", "persist"), inode }),
    commit,
    commit,
    fc.record({
      ...{ kind: is("mount"), ...named, uri: text.map((end) => `file:///${end}`) },
      ...{ readOnly: flag, options: texts },
    }),
    fc.record({
      ...{ kind: is("recordLineage"), inputs: fc.constant([]), uid: number, gid: number },
      outputs: fc.record({ path: name, ...named }).map((output) => [output]),
      job: fc.record({
        ...{ argv: text.map((word) => [word]), environment: texts },
        ...{ timeoutMs: number, captureStdout: flag },
      }),
    }),
  );
}

function leaderCommand({ sessions, writes }: Known): fc.Arbitrary<unknown> {
  const session = fc.constantFrom(...sessions, 1);
  const containers = writes.slice(-2).map(([of, writeId]) => ({ inode: of, writeId }));
  return fc.oneof(
    fc.record({
      ...{ kind: is("registerWorker"), uuid: text, host: text, address: text },
      tiers: number.map((quotaBytes) => [{ medium: "MEM", quotaBytes }]),
    }),
    fc.record({ kind: is("touchSessions"), sessions: fc.constant([...sessions]) }),
    fc.record({ kind: is("openSession"), clientName: text, timeoutMs: number }),
    fc.record({ kind: is("closeSession"), session }),
    fc.record({ kind: is("workerLost"), worker: id }),
    fc.record({ kind: is("keeperGone"), worker: id, containers: fc.constant(containers) }),
    fc.record({
      ...{ kind: is("ufsDone"), op: fc.integer({ min: 1, max: 6 }) },
      ...{ fingerprint: maybe(text), error: maybe(text) },
    }),
    fc.record({ kind: is("startAttempt"), lineage: id, worker: id }),
    fc.record({ kind: is("resetLineage"), lineage: id }),
    fc.record({
      ...{ kind: is("loadPage"), directory: inode, listedAtIndex: number, last: flag },
      entries: fc
        .record({
          ...{ name, kind: fc.constantFrom("file", "directory", "symlink"), size: number },
          ...{ mode: number, uid: number, gid: number, mtime: time },
          ...{ fingerprint: text, target: maybe(name) },
        })
        .map((entry) => [entry]),
    }),
  );
}

function requestFrom(known: Known): fc.Arbitrary<unknown> {
  const commands = (of: fc.Arbitrary<unknown>) => fc.array(of, { minLength: 1, maxLength: 3 });
  const leader = { session: fc.constant(0), sequence: fc.constant(0), atomic: flag };
  const sequence = fc.oneof(
    { weight: 8, arbitrary: fc.integer({ min: 0, max: 40 }) },
    { weight: 1, arbitrary: number },
  );
  return fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({
        ...{ session: fc.constantFrom(...known.sessions), sequence, atomic: flag },
        acknowledgedBelow: fc.constantFrom(0, 0, 0, 10, largest),
        commands: commands(clientCommand(known)),
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({
        ...{ ...leader, acknowledgedBelow: fc.constant(0) },
        commands: commands(leaderCommand(known)),
      }),
    },
  );
}

function learn(known: Known, { requests }: EntryPayload, { results }: AppliedEntry): void {
  for (const [i, request] of requests.entries()) {
    for (const [k, command] of request.commands.entries()) {
      // The answer to an earlier request of the sequence may be a shorter one.
      const result = results[i]![k];
      if (result?.ok !== true) continue;
      if (command.kind === "openSession") known.sessions.push(result.id!);
      if (result.writeId === undefined || result.status === undefined) continue;
      known.writes.push([result.status.inode, result.writeId]);
    }
  }
}

async function apply(store: StateStore, index: number, entry: EntryPayload): Promise<AppliedEntry> {
  const ranges = rangesOf(entry, store);
  await store.load(ranges);
  const applied = applyEntry(store, index, entry);
  store.applied(index, 1);
  store.release(ranges);
  return applied;
}

/** All that an entry did, as it leaves the master. */
function told({ results, positions, replayed, changes }: AppliedEntry) {
  const sent = results.map((each) => encode(list(commandResult), each).toString("base64"));
  return { sent, positions, replayed, inodes: changes.inodes, names: changes.names };
}

async function sumOf(store: StateStore): Promise<string> {
  const snapshot = await store.snapshot();
  const sum = new StateHash();
  for await (const rows of snapshot.chunks()) for (const [key, value] of rows) sum.add(key, value);
  assert.equal(sum.digest(), snapshot.hash);
  await snapshot.close();
  return snapshot.hash;
}

describe("commands with extreme values", () => {
  it("mean the same to a master that starts again after every entry", async function () {
    this.timeout(60_000);
    const property = fc.asyncProperty(fc.gen(), (draw) =>
      withTempDir(async (directory) => {
        const common = { clock: systemClock, logger: silentLogger };
        const steady = await openStateStore({
          ...{ ...common, directory: `${directory}/a`, flushIntervalMs: 1e8 },
        });
        const open = () => openStateStore({ ...common, directory: `${directory}/b` });
        let restarted = await open();
        const known: Known = { sessions: [], writes: [] };
        let index = 0;
        const step = async (...requests: EntryPayload["requests"]) => {
          const wallTime = { sec: index, nsec: 0 };
          const sent = encode(entryPayload, { clusterTimeMs: 1000 + index, wallTime, requests });
          index++;
          const first = await apply(steady, index, decode(entryPayload, sent, "entry"));
          const entry = decode(entryPayload, sent, "entry");
          const second = await apply(restarted, index, entry);
          assert.deepEqual(told(second), told(first));
          learn(known, entry, second);
          assert.equal(restarted.hash(), steady.hash());
          await restarted.close();
          restarted = await open();
        };
        const worker = { kind: "registerWorker", uuid: "w", host: "h", address: "a" } as const;
        await step(requestOf([bootstrapCommand]));
        await step(requestOf([pageOf(rootInodeId, [])]), requestOf([{ ...worker, tiers: [] }]));
        const session = { kind: "openSession", clientName: "c", timeoutMs: 1000 } as const;
        await step(requestOf([session, session]));
        for (let i = 0; i < 25; i++) {
          const requests = draw(fc.array, requestFrom(known), { minLength: 1, maxLength: 4 });
          await step(...(requests as EntryPayload["requests"]));
        }
        assert.equal(await sumOf(restarted), await sumOf(steady));
        await steady.close();
        await restarted.close();
      }),
    );
    await fc.assert(property, { numRuns: 4, endOnFailure: true });
  });
});
