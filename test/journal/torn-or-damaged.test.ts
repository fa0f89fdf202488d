/**
 * Torn or damaged, exhaustively: small journals of several segments, prepared, sealed and removed ones, with every write
 * torn in every way and every byte of what was synced spoilt.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import { sectorBytes } from "../../src/journal/format.ts";
import { verifyJournal } from "../../src/journal/inspect.ts";
import { openJournal } from "../../src/journal/journal.ts";
import { nameOfSegment } from "../../src/journal/recovery.ts";
import type { Journal, JournalState } from "../../src/journal/types.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { WeirError } from "../../src/lib/errors.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import type { Entry, HardState, Index, Term } from "../../src/raft/types.ts";
import { identity } from "../contract/journal.ts";
import {
  type Change,
  copyOf,
  type Disk,
  diskAfter,
  readDisk,
  RecordedFiles,
  torn,
} from "../lib/recorded-files.ts";

/** One call; the numbers are relative, so that any list of them is a possible life. */
type Step =
  | { readonly kind: "append"; readonly sizes: readonly number[]; readonly votes: boolean }
  | { readonly kind: "truncate"; readonly back: number; readonly size: number }
  | { readonly kind: "vote" }
  | { readonly kind: "compact"; readonly back: number }
  | { readonly kind: "reset"; readonly ahead: number };

/** What a journal must hold. */
interface Model {
  readonly hasIdentity: boolean;
  readonly hardState: HardState;
  readonly entries: readonly Entry[];
  readonly baseIndex: number;
  readonly baseTerm: number;
}

type Mark = { readonly kind: "asked" | "acknowledged"; readonly model: Model };
type History = readonly Change<Mark>[];

const nothing: Model = {
  hasIdentity: false,
  hardState: { term: 0 as Term, vote: undefined },
  entries: [],
  baseIndex: 0,
  baseTerm: 0,
};

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("append" as const),
      sizes: fc.array(fc.integer({ min: 0, max: 900 }), { minLength: 1, maxLength: 3 }),
      votes: fc.boolean(),
    }),
  },
  fc.record({
    kind: fc.constant("truncate" as const),
    back: fc.integer({ min: 1, max: 4 }),
    size: fc.integer({ min: 0, max: 600 }),
  }),
  fc.record({ kind: fc.constant("vote" as const) }),
  fc.record({ kind: fc.constant("compact" as const), back: fc.integer({ min: 0, max: 5 }) }),
  fc.record({ kind: fc.constant("reset" as const), ahead: fc.integer({ min: 1, max: 9 }) }),
);

/** A life with sealed, removed and prepared segments, entries over several sectors, and truncated ones. */
const longLife: readonly Step[] = [
  { kind: "vote" },
  ...[[10], [300, 40], [0, 0, 0], [800], [5], [1200], [30]].map(
    (sizes): Step => ({ kind: "append", sizes, votes: false }),
  ),
  { kind: "truncate", back: 2, size: 90 },
  { kind: "append", sizes: [600, 1], votes: true },
  { kind: "compact", back: 4 },
  ...[[20], [700], [3], [450, 450]].map((sizes): Step => ({ kind: "append", sizes, votes: false })),
];

/** Runs of zeros too: as they are in sparse payloads. */
function payload(size: number, index: number): Uint8Array {
  const bytes = new Uint8Array(size).fill(0x41 + (index % 26));
  return index % 3 === 0 ? bytes.fill(0, size >>> 2, size - (size >>> 2)) : bytes;
}

/** Applies a step to `model` and gives the call that does it. */
function next(
  model: Model,
  each: Step,
): { model: Model; run: (journal: Journal) => Promise<void> } {
  const { baseIndex, entries } = model;
  const last = baseIndex + entries.length;
  const term = model.hardState.term + 1;
  const hardState: HardState = { term: term as Term, vote: `v${term}` };
  const made = (from: number, sizes: readonly number[]): Entry[] =>
    sizes.map((size, i) => ({
      index: (from + i) as Index,
      term: term as Term,
      kind: "command",
      payload: payload(size, from + i),
    }));
  switch (each.kind) {
    case "append": {
      const added = made(last + 1, each.sizes);
      const batch = { entries: added, hardState: each.votes ? hardState : undefined };
      return {
        model: {
          ...model,
          entries: [...entries, ...added],
          hardState: each.votes ? hardState : model.hardState,
        },
        run: (journal) => journal.append(batch),
      };
    }
    case "truncate": {
      const from = Math.max(baseIndex, last - each.back) + 1;
      const added = made(from, [each.size]);
      return {
        model: {
          ...model,
          entries: [...entries.slice(0, from - baseIndex - 1), ...added],
          hardState,
        },
        run: (journal) => journal.append({ entries: added, hardState }),
      };
    }
    case "vote":
      return {
        model: { ...model, hardState },
        run: (journal) => journal.append({ entries: [], hardState }),
      };
    case "compact": {
      const index = Math.max(baseIndex, last - each.back);
      if (index === baseIndex) return { model, run: async () => undefined };
      return {
        model: {
          ...model,
          entries: entries.slice(index - baseIndex),
          baseIndex: index,
          baseTerm: term,
        },
        run: (journal) => journal.compact(index as Index, term as Term),
      };
    }
    case "reset": {
      const index = last + each.ahead;
      return {
        model: { ...model, entries: [], baseIndex: index, baseTerm: term },
        run: (journal) => journal.reset(index as Index, term as Term),
      };
    }
  }
}

function open(files: RecordedFiles<Mark>): Promise<Journal> {
  return openJournal({
    directory: "/disk",
    segmentBytes: 3072,
    reservedDiskBytes: 1,
    clock: { ...systemClock, after: () => () => undefined },
    logger: silentLogger,
    openFiles: () => files.open(),
    newSalt: () => 0x51a7 + files.history.length,
  });
}

/** What a life did to the disk; the last frame is attested only if it was closed. */
async function live(steps: readonly Step[], closes: boolean): Promise<RecordedFiles<Mark>> {
  const files = new RecordedFiles<Mark>();
  const journal = await open(files);
  let model: Model = { ...nothing, hasIdentity: true };
  files.mark({ kind: "asked", model });
  await journal.initialize(identity);
  files.mark({ kind: "acknowledged", model });
  for (const each of steps) {
    const made = next(model, each);
    model = made.model;
    files.mark({ kind: "asked", model });
    await made.run(journal);
    files.mark({ kind: "acknowledged", model });
  }
  const length = files.history.length;
  const disk = copyOf(files.disk);
  await journal.close();
  if (closes) return files;
  const killed = new RecordedFiles<Mark>(disk);
  killed.history.push(...files.history.slice(0, length));
  return killed;
}

/** The state that opening would find, or the message of its refusal. */
async function opening(disk: Disk): Promise<JournalState | string> {
  try {
    return (await verifyJournal(readDisk(disk))).state;
  } catch (thrown) {
    if (thrown instanceof WeirError && thrown.code === "Corrupt") return thrown.message;
    throw thrown;
  }
}

function modelOf(state: JournalState): Model {
  return {
    hasIdentity: state.nodeId !== undefined,
    hardState: state.hardState,
    entries: state.entries,
    baseIndex: state.baseIndex,
    baseTerm: state.baseTerm,
  };
}

function isModel(state: JournalState, model: Model): boolean {
  const found = modelOf(state);
  return (
    found.hasIdentity === model.hasIdentity &&
    found.hardState.term === model.hardState.term &&
    found.hardState.vote === model.hardState.vote &&
    found.baseIndex === model.baseIndex &&
    found.baseTerm === model.baseTerm &&
    found.entries.length === model.entries.length &&
    found.entries.every((entry, i) => {
      const wanted = model.entries[i]!;
      return (
        entry.index === wanted.index &&
        entry.term === wanted.term &&
        Buffer.from(entry.payload).equals(wanted.payload)
      );
    })
  );
}

function lastMark(history: History, kind: Mark["kind"]): Model {
  for (let i = history.length - 1; i >= 0; i--) {
    const change = history[i]!;
    if (change.kind === "mark" && change.mark.kind === kind) return change.mark.model;
  }
  return nothing;
}

/** What must be found after a crash: what was acknowledged, or the one call that was under way, whole. */
async function assertRecovered(disk: Disk, history: History, how: string): Promise<void> {
  const state = await opening(disk);
  if (typeof state === "string") assert.fail(`${how}: ${state}`);
  const wanted = [lastMark(history, "acknowledged"), lastMark(history, "asked")];
  assert.ok(
    wanted.some((model) => isModel(state, model)),
    `${how}: opened with something else`,
  );
}

/** Which sectors of a write of `count` sectors may reach the disk: all ways, or of a long one single losses and cuts. */
function* tears(count: number): Generator<(sector: number) => boolean> {
  if (count <= 5) {
    for (let mask = 0; mask < 2 ** count; mask++) yield (sector) => (mask & (1 << sector)) !== 0;
    return;
  }
  for (let at = 0; at < count; at++) {
    yield (sector) => sector !== at;
    yield (sector) => sector === at;
    yield (sector) => sector < at;
    yield (sector) => sector >= at;
  }
}

async function crashEverywhere(history: History): Promise<number> {
  let crashes = 0;
  for (const [at, change] of history.entries()) {
    const before = history.slice(0, at);
    const disk = diskAfter(before);
    if (change.kind === "write") {
      for (const reaches of tears(change.bytes.length / sectorBytes)) {
        await assertRecovered(torn(disk, change, reaches), before, `write ${at} torn`);
        crashes++;
      }
    } else {
      await assertRecovered(disk, before, `before ${change.kind} ${at}`);
      crashes++;
    }
    // A name that was not synced may be lost though what came after it is there.
    const unsynced = before.findLastIndex(({ kind }) => kind === "sync" || kind === "rename");
    if (unsynced >= 0 && before[unsynced]!.kind === "rename") {
      const without = diskAfter([...before.slice(0, unsynced), ...before.slice(unsynced + 1)]);
      await assertRecovered(without, before, `rename ${unsynced} lost`);
      crashes++;
    }
  }
  return crashes;
}

/** Names of the segments with where their last frame ends. */
function used(disk: Disk): { name: string; end: number }[] {
  return [...disk]
    .filter(([name]) => name.endsWith(".wal"))
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, bytes]) => {
      let end = bytes.length;
      while (end > 0 && bytes.subarray(end - sectorBytes, end).every((byte) => byte === 0)) {
        end -= sectorBytes;
      }
      return { name, end };
    });
}

/** Spoils a copy, and says what came of it: true when it was refused; else it must hold everything. */
async function isRefused(
  files: RecordedFiles<Mark>,
  how: string,
  spoil: (disk: Disk) => void,
): Promise<boolean> {
  const disk = copyOf(files.disk);
  spoil(disk);
  const state = await opening(disk);
  if (typeof state === "string") {
    assert.match(state, /damaged at byte \d+: .*Two ways back/, how);
    return true;
  }
  assert.ok(isModel(state, lastMark(files.history, "acknowledged")), `${how}: opened without all`);
  return false;
}

describe("journal: torn or damaged", function () {
  this.timeout(120_000);

  it("R22: recovers what was acknowledged, and nothing half, whichever sectors of whichever write a crash lost", async () => {
    const { history, disk } = await live(longLife, true);
    assert.ok(history.some(({ kind }) => kind === "remove"));
    assert.ok(disk.size >= 3, `${disk.size} files`);
    const crashes = await crashEverywhere(history);
    assert.ok(crashes > 100, `${crashes} crashes`);
  });

  it("R22: and in any other life, compacted and begun anew", () =>
    fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 3, maxLength: 14 }), async (steps) => {
        await crashEverywhere((await live(steps, true)).history);
      }),
      { numRuns: 40 },
    ));

  it("R17, R22: goes on behind what it cut, through another crash", () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(step, { minLength: 2, maxLength: 10 }),
        fc.nat(),
        fc.nat(31),
        async (steps, pick, mask) => {
          const { history } = await live(steps, false);
          const writes = history.flatMap((change, at) => (change.kind === "write" ? [at] : []));
          const at = writes[pick % writes.length]!;
          const write = history[at]!;
          assert.ok(write.kind === "write");
          const before = history.slice(0, at);
          const files = new RecordedFiles<Mark>(
            torn(diskAfter(before), write, (sector) => (mask & (1 << (sector % 5))) !== 0),
          );
          const journal = await open(files);
          const { state } = journal;
          let model = modelOf(state);
          if (!model.hasIdentity) await journal.initialize(identity);
          model = { ...model, hasIdentity: true };
          for (const each of longLife) {
            const made = next(model, each);
            await made.run(journal);
            model = made.model;
          }
          const killed = await opening(files.disk);
          if (typeof killed === "string") assert.fail(killed);
          assert.ok(isModel(killed, model));
          await journal.close();
          const closed = await opening(files.disk);
          assert.ok(typeof closed !== "string" && isModel(closed, model));
        },
      ),
      { numRuns: 60 },
    ));

  it("R21: refuses every flipped bit of what was synced, in any segment, the last acknowledged frame included", async () => {
    for (const closes of [true, false]) {
      const files = await live(longLife, closes);
      for (const { name, end } of used(files.disk)) {
        for (let at = 0; at < end; at++) {
          const how = `${name} byte ${at}`;
          const refused = await isRefused(files, how, (disk) => {
            const bytes = disk.get(name)!;
            bytes[at] = bytes[at]! ^ (closes ? 1 << (at % 8) : 0xff);
          });
          assert.ok(refused, how);
        }
      }
    }
  });

  it("R21: refuses every synced sector that is zero or another's, once something attests it", async () => {
    const files = await live(longLife, true);
    const segments = used(files.disk);
    const attestation = segments.findLast(({ end }) => end > sectorBytes)!;
    for (const { name, end } of segments) {
      for (let at = 0; at < end; at += sectorBytes) {
        const isLast = name === attestation.name && at === end - sectorBytes;
        const zeroed = await isRefused(files, `${name} sector ${at} zeroed`, (disk) =>
          disk.get(name)!.fill(0, at, at + sectorBytes),
        );
        // The attestation itself: nothing is lost with it.
        assert.equal(zeroed, !isLast, `${name} sector ${at}`);
        for (const other of segments) {
          for (let from = 0; from < other.end; from += sectorBytes) {
            if (other.name === name && from === at) continue;
            const how = `${name} sector ${at} is that of ${other.name} ${from}`;
            const replaced = await isRefused(files, how, (disk) => {
              files.disk.get(other.name)!.copy(disk.get(name)!, at, from, from + sectorBytes);
            });
            const isSame = files.disk
              .get(name)!
              .subarray(at, at + sectorBytes)
              .equals(files.disk.get(other.name)!.subarray(from, from + sectorBytes));
            assert.ok(replaced || isSame, how);
          }
        }
      }
    }
  });

  it("R21: refuses when the disk put the last write anywhere else, though nothing attests it", async () => {
    const files = await live(longLife, false);
    const write = files.history.findLast((change) => change.kind === "write")!;
    const from = write.position;
    for (const [name, content] of files.disk) {
      for (let at = 0; at + write.bytes.length <= content.length; at += sectorBytes) {
        if (name === write.name && at === from) continue;
        const refused = await isRefused(files, `the last write at ${name} ${at}`, (disk) => {
          disk.get(write.name)!.fill(0, from, from + write.bytes.length);
          write.bytes.copy(disk.get(name)!, at);
        });
        assert.ok(refused, `${name} ${at}`);
      }
    }
  });

  it("R17: refuses when any segment is missing, short, long, exchanged or a copy of another", async () => {
    const files = await live(longLife, true);
    const segments = used(files.disk);
    assert.ok(segments.length >= 3);
    for (const { name, end } of segments) {
      // A prepared segment that nothing says exists holds nothing.
      const refused = await isRefused(files, `${name} missing`, (disk) => disk.delete(name));
      const isAnnounced = segments.at(-1)!.name !== name || end > sectorBytes;
      if (isAnnounced && segments[0]!.name !== name) assert.ok(refused, `${name} missing`);
      for (const length of [0, 1, 100, sectorBytes, end - 1, end, 3071].filter((n) => n < 3072)) {
        const resized = await isRefused(files, `${name} cut to ${length}`, (disk) =>
          disk.set(name, disk.get(name)!.subarray(0, length)),
        );
        assert.ok(resized, `${name} cut to ${length}`);
      }
      const lengthened = await isRefused(files, `${name} longer`, (disk) =>
        disk.set(name, Buffer.concat([disk.get(name)!, Buffer.alloc(sectorBytes)])),
      );
      assert.ok(lengthened, `${name} longer`);
      for (const other of segments) {
        if (other.name === name) continue;
        const exchanged = await isRefused(files, `${name} and ${other.name} exchanged`, (disk) => {
          const bytes = disk.get(name)!;
          disk.set(name, disk.get(other.name)!).set(other.name, bytes);
        });
        const copied = await isRefused(files, `${name} is ${other.name}`, (disk) =>
          disk.set(name, disk.get(other.name)!),
        );
        assert.ok(exchanged && copied, `${name} and ${other.name}`);
      }
    }
    for (const [i, { name, end }] of segments.entries()) {
      // The newest ones gone, down to this one: nothing behind tells of them, the one before does.
      if (i === 0 || end === sectorBytes) continue;
      const headless = await isRefused(files, `${name} and later missing`, (disk) => {
        for (const later of segments.slice(i)) disk.delete(later.name);
      });
      assert.ok(headless, `${name} and later missing`);
    }
    const unheard = nameOfSegment(0x7000_0000);
    const extra = await isRefused(files, "a copy under a new name", (disk) =>
      disk.set(unheard, disk.get(segments[0]!.name)!),
    );
    assert.ok(extra);
  });

  it("R21: refuses anything that lies behind the end of a sealed segment", async () => {
    // Segments that were left before they were full: the next group did not fit, or the log began anew.
    const files = await live(
      [
        { kind: "append", sizes: [10], votes: true },
        { kind: "append", sizes: [1900], votes: false },
        { kind: "append", sizes: [1200], votes: false },
        { kind: "append", sizes: [1700], votes: false },
      ],
      true,
    );
    const segments = used(files.disk);
    let spoilt = 0;
    for (const [i, { name, end }] of segments.entries()) {
      const isSealed = segments.slice(i + 1).some((later) => later.end > sectorBytes);
      for (let at = end; isSealed && at < 3072; at += sectorBytes) {
        for (const [length, what] of [
          [1, "a flipped bit"],
          [sectorBytes, "a sector"],
        ] as const) {
          const how = `${what} at byte ${at} of ${name}`;
          const refused = await isRefused(files, how, (disk) =>
            disk.get(name)!.fill(1, at, at + length),
          );
          assert.ok(refused, how);
          spoilt++;
        }
      }
    }
    assert.ok(spoilt >= 4, `${spoilt} places`);
  });

  it("R17: refuses a segment of the same node's other life", async () => {
    const files = await live(longLife, true);
    const other = new RecordedFiles<Mark>();
    // The same calls: equal names, sizes and ends.
    const journal = await openJournal({
      directory: "/disk",
      segmentBytes: 3072,
      reservedDiskBytes: 1,
      clock: { ...systemClock, after: () => () => undefined },
      logger: silentLogger,
      openFiles: () => other.open(),
    });
    await journal.initialize(identity);
    let model: Model = { ...nothing, hasIdentity: true };
    for (const each of longLife) {
      const made = next(model, each);
      model = made.model;
      await made.run(journal);
    }
    await journal.close();
    const names = used(files.disk).map(({ name }) => name);
    for (const name of names.slice(0, -2)) {
      assert.ok(other.disk.has(name));
      const refused = await isRefused(files, name, (disk) => disk.set(name, other.disk.get(name)!));
      assert.ok(refused, name);
    }
  });

  it("R21: cuts the last frame when it lost a sector and nothing attests it: nobody could tell", async () => {
    const files = await live(longLife, false);
    const write = files.history.findLast((change) => change.kind === "write")!;
    const disk = copyOf(files.disk);
    disk.get(write.name)!.fill(0, write.position, write.position + sectorBytes);
    const state = await opening(disk);
    assert.ok(typeof state !== "string");
    assert.ok(!isModel(state, lastMark(files.history, "acknowledged")));
  });
});
