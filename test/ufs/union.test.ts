import assert from "node:assert/strict";
import { mkdtemp, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { CreateBucketCommand, S3Client } from "@aws-sdk/client-s3";
import fc from "fast-check";
import { hasCode, WeirError } from "../../src/lib/errors.ts";
import { openUfs } from "../../src/ufs/open.ts";
import { readOnlyView } from "../../src/ufs/read-only.ts";
import type { UnderFileSystem } from "../../src/ufs/types.ts";
import { UnionFileSystem } from "../../src/ufs/union.ts";
import { chunksOf, describeUfsContract, put, readWhole } from "../contract/ufs.ts";
import { type S3Server, s3Server } from "../lib/s3-server.ts";
import { StubbornStore } from "../lib/stubborn-store.ts";

const made: string[] = [];
async function freshDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "weir-union-"));
  made.push(directory);
  return directory;
}
async function localStore(): Promise<UnderFileSystem> {
  const uri = pathToFileURL(await freshDirectory()).href;
  return openUfs({ uri, readOnly: false, options: {} });
}

function union(
  layers: Readonly<Record<string, UnderFileSystem>>,
  writeLayer = Object.keys(layers)[0]!,
): UnionFileSystem {
  return new UnionFileSystem({
    uri: `union://${Object.keys(layers).join("+")}`,
    layers: Object.entries(layers).map(([name, store]) => ({ name, store })),
    writeLayer,
  });
}

async function namesIn(store: UnderFileSystem, path: string, limit = 100): Promise<string[]> {
  const names: string[] = [];
  let after: string | undefined;
  for (;;) {
    const { entries, last } = await store.list(path, { after, limit });
    names.push(...entries.map(({ name }) => name));
    if (last) return names;
    after = entries.at(-1)!.name;
  }
}
const text = async (store: UnderFileSystem, path: string, fingerprint?: string) =>
  (await readWhole(store, path, fingerprint === undefined ? {} : { fingerprint })).toString();

/** As the namespace asks for it, which knows what it is. */
async function remove(store: UnderFileSystem, path: string): Promise<void> {
  const of = (await store.stat(path))?.kind === "directory" ? "tree" : "file";
  await store.delete(path, { of });
}
async function move(store: UnderFileSystem, from: string, to: string): Promise<void> {
  const of = (await store.stat(from))?.kind === "directory" ? "directory" : "file";
  await store.rename(from, to, { of });
}

describe("a union of stores", () => {
  after(async () => {
    for (const directory of made) await rm(directory, { recursive: true, force: true });
  });

  describe("by the contract, of two directories, the first one written", () => {
    describeUfsContract({
      open: async () => union({ hot: await localStore(), cold: await localStore() }),
      ...{ changesAttributes: true, namesAreBytes: true },
    });
  });

  describe("by the contract, of two directories, the second one written", () => {
    describeUfsContract({
      open: async () => union({ hot: await localStore(), cold: await localStore() }, "cold"),
      ...{ changesAttributes: true, namesAreBytes: true },
    });
  });

  describe("of a written and two other layers", () => {
    let hot: UnderFileSystem;
    let cold: UnderFileSystem;
    let archive: UnderFileSystem;
    let store: UnionFileSystem;

    beforeEach(async () => {
      [hot, cold, archive] = [await localStore(), await localStore(), await localStore()];
      store = union({ hot, cold, archive: readOnlyView(archive) });
    });
    afterEach(() => store.close());

    it("merges directories, shows the first of a name, and says which layer it is from", async () => {
      await put(archive, "d/a", "archive");
      await put(archive, "d/c", "archive");
      await put(cold, "d/a", "cold");
      await put(hot, "d/b", "hot");
      await put(cold, "file", "cold");
      await put(archive, "file/below", "hidden by a file");
      for (const limit of [1, 2, 10]) {
        assert.deepEqual(await namesIn(store, "d", limit), ["a", "b", "c"]);
      }
      assert.equal(await text(store, "d/a"), "cold");
      assert.match((await store.stat("d/a"))!.fingerprint, /^cold:/);
      assert.equal((await store.stat("file"))!.kind, "file");
      assert.equal(await store.stat("file/below"), undefined);
    });

    it("writes to its layer alone, and shows what was written over what others have", async () => {
      for (const layer of [cold, archive]) await put(layer, "d/f", "old");
      await store.setAttributes("d", { mode: 0o711 });
      const before = (await store.stat("d/f"))!.fingerprint;
      const after = await put(store, "d/f", "new");
      assert.match(after, /^hot:/);
      assert.equal(await text(store, "d/f", after), "new");
      assert.equal(await text(store, "d/f", before), "old", "who reads the old version goes on");
      assert.equal((await hot.stat("d"))!.mode, 0o711, "a directory above is as it was shown");
    });

    it("shows what was written also where other layers come first", async () => {
      store = union({ archive: readOnlyView(archive), cold, hot }, "hot");
      for (const layer of [archive, cold]) await put(layer, "d/f", "old");
      await put(store, "d/f", "new");
      assert.equal(await text(store, "d/f"), "new");
      assert.deepEqual(await namesIn(store, "d"), ["f"]);
      await store.mkdir("e");
      await store.symlink("e/l", "target");
      assert.equal((await store.stat("e/l"))!.target, "target");
    });

    it("removes from every layer that it may change, and hides what stays", async () => {
      for (const layer of [hot, cold, archive]) await put(layer, "d/f", "x");
      await put(archive, "d/g", "x");
      await remove(store, "d/f");
      assert.equal(await store.stat("d/f"), undefined);
      assert.deepEqual(await namesIn(store, "d"), ["g"]);
      assert.equal(await cold.stat("d/f"), undefined);
      assert.notEqual(await archive.stat("d/f"), undefined);
      await remove(store, "d");
      await remove(store, "d");
      assert.deepEqual(await namesIn(store, ""), []);
      await assert.rejects(text(store, "d/g"), (e) => hasCode(e, "NotFound"));
    });

    it("begins a directory that was removed and made again empty", async () => {
      await put(archive, "d/old", "x");
      await remove(store, "d");
      await store.mkdir("d");
      assert.deepEqual(await namesIn(store, "d"), []);
      await put(store, "d/new", "x");
      assert.deepEqual(await namesIn(store, "d"), ["new"]);
      await put(store, "d/old", "again");
      assert.equal(await text(store, "d/old"), "again");
    });

    it("moves what other layers have by a copy that is found by its former fingerprint", async () => {
      await put(archive, "d/f", "content");
      const { fingerprint } = (await store.stat("d/f"))!;
      await move(store, "d/f", "e/g");
      await move(store, "d/f", "e/g");
      assert.equal(await store.stat("d/f"), undefined);
      assert.equal(await text(store, "e/g", fingerprint), "content");
      await move(store, "e/g", "e/h");
      assert.equal(await text(store, "e/h", fingerprint), "content");
      await put(store, "e/h", "changed");
      await assert.rejects(text(store, "e/h", fingerprint), (e) => hasCode(e, "NotFound"));
    });

    it("moves a tree that lies in several layers, each name with what was shown", async () => {
      await put(hot, "d/both", "hot");
      await put(archive, "d/both", "archive");
      await put(archive, "d/sub/deep", "archive");
      await put(cold, "d/cold", "cold");
      await store.symlink("d/link", "both");
      await put(archive, "e/hidden", "was removed");
      await remove(store, "e");
      await move(store, "d", "e");
      assert.equal(await store.stat("d"), undefined);
      assert.deepEqual(await namesIn(store, "e"), ["both", "cold", "link", "sub"]);
      assert.equal(await text(store, "e/both"), "hot");
      assert.equal(await text(store, "e/sub/deep"), "archive");
      assert.equal((await store.stat("e/link"))!.target, "both");
    });

    it("takes up the move of a tree where it was cut short", async () => {
      for (const name of ["a", "b", "c"]) await put(archive, `d/sub/${name}`, name);
      await put(hot, "d/x", "x");
      let attempts = 0;
      for (let isDone = false; !isDone; attempts++) {
        // Each attempt comes a step further than it would alone.
        let left = attempts;
        const permit = () => {
          if (left-- === 0) throw new WeirError("Cancelled", "Cannot go on: it is cut short");
        };
        isDone = await store.rename("d", "e", { of: "directory", permit }).then(
          () => true,
          (thrown: unknown) => {
            assert(hasCode(thrown, "Cancelled"), String(thrown));
            return false;
          },
        );
      }
      assert(attempts > 5, "it was cut short");
      await move(store, "d", "e");
      assert.equal(await store.stat("d"), undefined);
      assert.deepEqual(await namesIn(store, "e"), ["sub", "x"]);
      assert.deepEqual(await namesIn(store, "e/sub"), ["a", "b", "c"]);
      for (const name of ["a", "b", "c"]) assert.equal(await text(store, `e/sub/${name}`), name);
    });

    it("puts a directory in the place of an empty one that hides names", async () => {
      await put(archive, "to/hidden", "x");
      await remove(store, "to/hidden");
      await put(store, "from/f", "x");
      await move(store, "from", "to");
      assert.deepEqual(await namesIn(store, "to"), ["f"]);
    });

    it("says so where a file of the write layer is in the way of a directory of others", async () => {
      store = union({ cold, hot }, "hot");
      await put(cold, "d/f", "x");
      await put(hot, "d", "a file, hidden");
      await assert.rejects(put(store, "d/g", "x"), (thrown) => {
        assert(hasCode(thrown, "NotDirectory"));
        assert.match(thrown.message, /layer "hot" has a file there/);
        return true;
      });
      assert.equal(await text(hot, "d"), "a file, hidden");
    });

    it("changes attributes where the object lies, and only in Weir where that is read-only", async () => {
      await put(cold, "c", "x");
      await put(archive, "a", "x");
      const changed = await store.setAttributes("c", { mode: 0o600 });
      assert.equal((await store.stat("c"))!.mode, 0o600);
      assert.equal((await store.stat("c"))!.fingerprint, changed);
      assert.equal(await store.setAttributes("a", { mode: 0o600 }), undefined);
      assert.equal(await hot.stat("c"), undefined, "nothing was copied");
    });

    it("takes no name that it keeps for itself, and lists none", async () => {
      await put(archive, "f", "x");
      await remove(store, "f");
      assert.deepEqual(await namesIn(store, ""), []);
      const [mark] = (await hot.list("", { limit: 1 })).entries;
      for (const path of [mark!.name, `d/${mark!.name}`]) {
        await assert.rejects(put(store, path, "x"), (e) => hasCode(e, "InvalidArgument"));
      }
    });

    describe("where one does not answer", () => {
      let stubborn: StubbornStore;
      beforeEach(async () => {
        stubborn = new StubbornStore(cold);
        store = union({ hot, cold: stubborn.store, archive: readOnlyView(archive) });
        await put(hot, "d/hot", "hot");
        await put(archive, "d/archive", "archive");
        await put(cold, "d/cold", "cold");
      });

      it("lists nothing rather than too little, and names the layer", async () => {
        stubborn.mood = "away";
        await assert.rejects(store.list("d", { limit: 9 }), (thrown) => {
          assert(hasCode(thrown, "Unavailable"));
          assert.match(thrown.message, /layer "cold"/);
          return true;
        });
        await assert.rejects(store.stat("d/archive"), /layer "cold"/);
      });

      it("reads on what others have, by its fingerprint, and goes on writing", async () => {
        const of = async (path: string) => (await store.stat(path))!.fingerprint;
        const [inHot, inArchive] = [await of("d/hot"), await of("d/archive")];
        stubborn.mood = "away";
        assert.equal(await text(store, "d/hot", inHot), "hot");
        assert.equal(await text(store, "d/archive", inArchive), "archive");
        await put(store, "d/cold", "new");
        await put(store, "new/f", "new");
        stubborn.mood = "well";
        assert.equal(await text(store, "d/cold"), "new");
        assert.deepEqual(await namesIn(store, "d"), ["archive", "cold", "hot"]);
      });

      it("does not call removed what lies in a layer whose root is gone", async () => {
        const directory = await freshDirectory();
        const gone = await openUfs({
          ...{ uri: pathToFileURL(directory).href, readOnly: false, options: {} },
        });
        await put(gone, "f", "x");
        store = union({ hot, gone });
        assert.deepEqual(await namesIn(store, ""), ["d", "f"]);
        await rename(directory, `${directory}-away`);
        made.push(`${directory}-away`);
        await assert.rejects(store.list("", { limit: 9 }), (thrown) => {
          assert(hasCode(thrown, "Unavailable"));
          assert.match(thrown.message, /layer "gone"/);
          return true;
        });
      });
    });

    describe("moving an object between layers", () => {
      it("takes it there whole, shows it all the time, and keeps who reads it", async () => {
        await store.write("d/f", chunksOf("content"), {
          ...{ size: 7, attributes: { mode: 0o640, mtime: { sec: 5, nsec: 0 } } },
        });
        const before = (await store.stat("d/f"))!;
        const fingerprint = await store.relocate("d/f", { from: "hot", to: "cold" });
        assert.match(fingerprint, /^cold:/);
        assert.equal(await hot.stat("d/f"), undefined);
        const after = (await store.stat("d/f"))!;
        assert.deepEqual([after.mode, after.mtime], [before.mode, before.mtime]);
        assert.equal(after.fingerprint, fingerprint);
        assert.equal(await text(store, "d/f", before.fingerprint), "content");
        assert.equal(await store.relocate("d/f", { from: "hot", to: "cold" }), fingerprint);
        const back = await store.relocate("d/f", { from: "cold", to: "hot" });
        assert.match(back, /^hot:/);
        assert.equal(await text(store, "d/f", fingerprint), "content");
        assert.equal(await text(store, "d/f", before.fingerprint), "content");
      });

      it("copies where it is to be kept, and says where all of them are", async () => {
        await put(cold, "f", "content");
        await store.relocate("f", { from: "cold", to: "hot", keep: true });
        const { shown, layers } = await store.whereIs("f");
        assert.equal(shown, "hot");
        assert.deepEqual(
          layers.map(({ name }) => name),
          ["hot", "cold"],
        );
        assert.deepEqual(await store.whereIs("nothing"), { shown: undefined, layers: [] });
      });

      it("removes a copy whose making was cut short anywhere, and lets nothing come back", async () => {
        const cutShort = async (after: number, act: (permit: () => void) => Promise<unknown>) => {
          let left = after;
          const permit = () => {
            if (left-- === 0) throw new WeirError("Cancelled", "cut short");
          };
          return act(permit).then(
            () => false,
            () => true,
          );
        };
        let steps = 0;
        for (let isCut = true; isCut; steps++) {
          await put(cold, `f${steps}`, "content");
          const known = (await store.stat(`f${steps}`))!.fingerprint;
          isCut = await cutShort(steps, (permit) =>
            store.rename(`f${steps}`, "g", { of: "file", permit }),
          );
          await move(store, `f${steps}`, "g").catch(() => undefined);
          await store.delete("g", { of: "file", fingerprint: known });
          assert.deepEqual(await namesIn(store, ""), [], `a move cut short after ${steps} steps`);
        }
        assert(steps > 4);
        const up = union({ cold, hot }, "hot");
        steps = 0;
        for (let isCut = true; isCut; steps++) {
          await put(hot, `f${steps}`, "content");
          const known = (await up.stat(`f${steps}`))!.fingerprint;
          isCut = await cutShort(steps, (permit) =>
            up.relocate(`f${steps}`, { from: "hot", to: "cold", fingerprint: known, permit }),
          );
          await up.delete(`f${steps}`, { of: "file", fingerprint: known });
          assert.deepEqual(await namesIn(up, ""), [], `a migration cut short after ${steps} steps`);
        }
        assert(steps > 3);
      });

      it("copies nothing again that is there", async () => {
        await put(store, "d/f", "content");
        const way = { from: "hot", to: "cold", keep: true };
        const shown = await store.relocate("d/f", way);
        const copy = (await cold.stat("d/f"))!.fingerprint;
        assert.equal(await store.relocate("d/f", way), shown);
        assert.equal((await cold.stat("d/f"))!.fingerprint, copy);
        await put(store, "d/f", "changed");
        await store.relocate("d/f", way);
        assert.equal(await text(cold, "d/f"), "changed");
      });

      it("A14: takes along nothing that somebody else has put there", async () => {
        const known = await put(store, "d/f", "known");
        await put(hot, "d/f", "other");
        const way = { from: "hot", to: "cold", fingerprint: known };
        await assert.rejects(store.relocate("d/f", way), (thrown) => hasCode(thrown, "Stale"));
        assert.deepEqual((await store.whereIs("d/f")).layers.length, 1);
        assert.equal(await text(hot, "d/f"), "other");
        const fingerprint = (await store.stat("d/f"))!.fingerprint;
        const moved = await store.relocate("d/f", { ...way, fingerprint });
        assert.equal(await store.relocate("d/f", { ...way, fingerprint }), moved, "asked twice");
      });

      it("says what is known by which fingerprint after moves, and of nothing else", async () => {
        const known = await put(store, "d/f", "known");
        await store.relocate("d/f", { from: "hot", to: "cold" });
        await move(store, "d/f", "d/g");
        const now = (await store.stat("d/g"))!.fingerprint;
        assert.match(now, /^hot:/);
        assert.equal(await store.presentOf("d/g", known), now);
        await put(hot, "d/g", "other");
        assert.equal(await store.presentOf("d/g", known), undefined);
        assert.equal(await store.presentOf("d/f", known), undefined);
      });

      it("goes down past a mask of its own", async () => {
        store = union({ cold, hot }, "hot");
        await put(cold, "f", "old");
        await put(store, "f", "new");
        await store.relocate("f", { from: "hot", to: "cold" });
        assert.equal(await text(store, "f"), "new");
        assert.deepEqual(await namesIn(cold, ""), await namesIn(cold, ""));
        assert.equal(await text(cold, "f"), "new");
      });

      it("is refused where something else would be shown than what was moved", async () => {
        await put(archive, "f", "archived");
        store = union({ hot, archive: readOnlyView(archive), cold }, "hot");
        await put(store, "f", "new");
        const down = { from: "hot", to: "cold" };
        await assert.rejects(store.relocate("f", down), /"archive", which comes before it/);
        await put(archive, "d/x", "x");
        await remove(store, "d");
        await put(store, "d/y", "y");
        await assert.rejects(store.relocate("d/y", down), /"hot" alone is shown/);
        await assert.rejects(store.relocate("g", down), /it is not there/);
        const toArchive = { from: "hot", to: "archive" };
        await assert.rejects(store.relocate("f", toArchive), (e) => hasCode(e, "ReadOnly"));
        await assert.rejects(store.relocate("d", down), (e) => hasCode(e, "InvalidArgument"));
        await assert.rejects(store.relocate("f", { from: "hot", to: "x" }), /wanted one of hot/);
        assert.equal(await text(store, "f"), "new");
      });
    });

    it("shows what a plain tree would have, through any changes, each of them done twice", async () => {
      const path = fc.constantFrom("a", "b", "d", "d/a", "d/b", "d/e", "d/e/a", "e", "e/a");
      const layer = fc.constantFrom("hot", "cold");
      const step = fc.oneof(
        fc.record({ kind: fc.constant("put" as const), path }),
        fc.record({ kind: fc.constant("delete" as const), path }),
        fc.record({ kind: fc.constant("mkdir" as const), path }),
        fc.record({ kind: fc.constant("rename" as const), path, to: path }),
        fc.record({ kind: fc.constant("relocate" as const), path, from: layer, into: layer }),
      );
      const seeds = fc.array(
        fc.record({
          path: fc.constantFrom("a", "b", "d/a", "d/b", "d/e/a", "e/a"),
          layer: fc.constantFrom("hot", "cold", "archive"),
        }),
        { maxLength: 8 },
      );
      await fc.assert(
        fc.asyncProperty(
          seeds,
          fc.array(step, { minLength: 1, maxLength: 12 }),
          fc.constantFrom(["hot", "cold", "archive"], ["archive", "cold", "hot"]),
          async (before, steps, order) => {
            const stores = {
              hot: await localStore(),
              cold: await localStore(),
              archive: await localStore(),
            };
            for (const { path, layer } of before) {
              await put(stores[layer as "hot"], path, `${layer} ${path}`);
            }
            const layers = Object.fromEntries(
              order.map((name) => [
                name,
                name === "archive" ? readOnlyView(stores.archive) : stores[name as "hot"],
              ]),
            );
            const store = union(layers, "hot");
            const model = await treeOf(store);
            let count = 0;
            for (const each of steps) {
              const wanted = stepOf(model, each, count++);
              if (wanted === undefined) continue;
              for (let time = 0; time < 2; time++) await wanted(store);
              assert.deepEqual(await treeOf(store), model, JSON.stringify(each));
            }
          },
        ),
        { numRuns: 60 },
      );
    });
  });
});

/** Everything that a store shows: the content of files, and undefined for directories. */
async function treeOf(store: UnderFileSystem, path = ""): Promise<Map<string, string | undefined>> {
  const all = new Map<string, string | undefined>();
  for (const { name, kind } of (await store.list(path, { limit: 100 })).entries) {
    const at = path === "" ? name : `${path}/${name}`;
    all.set(at, kind === "directory" ? undefined : await text(store, at));
    if (kind === "directory") for (const [k, v] of await treeOf(store, at)) all.set(k, v);
  }
  return new Map([...all].sort(([a], [b]) => (a < b ? -1 : 1)));
}

type Step =
  | { kind: "put" | "delete" | "mkdir"; path: string }
  | { kind: "rename"; path: string; to: string }
  | { kind: "relocate"; path: string; from: string; into: string };

/** Applies a step to the model as the namespace would; what the store has to do, if the namespace lets it. */
function stepOf(
  model: Map<string, string | undefined>,
  step: Step,
  count: number,
): ((store: UnionFileSystem) => Promise<unknown>) | undefined {
  const isDirectory = (path: string) =>
    path === "" || (model.has(path) && model.get(path) === undefined);
  const parentOf = (path: string) => path.slice(0, Math.max(0, path.lastIndexOf("/")));
  const below = (path: string) => [...model.keys()].filter((each) => each.startsWith(`${path}/`));
  const resort = () => {
    const sorted = [...model].sort(([a], [b]) => (a < b ? -1 : 1));
    model.clear();
    for (const [key, value] of sorted) model.set(key, value);
  };
  const { path } = step;
  if (step.kind === "put") {
    if (!isDirectory(parentOf(path)) || isDirectory(path)) return undefined;
    const content = `put ${count}`;
    model.set(path, content);
    resort();
    return (store) => put(store, path, content);
  }
  if (step.kind === "mkdir") {
    if (!isDirectory(parentOf(path)) || model.has(path)) return undefined;
    model.set(path, undefined);
    resort();
    return (store) => store.mkdir(path);
  }
  if (!model.has(path)) return undefined;
  if (step.kind === "delete") {
    for (const each of [path, ...below(path)]) model.delete(each);
    return (store) => remove(store, path);
  }
  if (step.kind === "relocate") {
    if (isDirectory(path)) return undefined;
    const { from, into } = step;
    // Refused or not: what is shown stays.
    return (store) =>
      store.relocate(path, { from: from, to: into }).catch((thrown: unknown) => {
        assert(hasCode(thrown, "NotFound", "InvalidArgument", "ReadOnly"), String(thrown));
      });
  }
  if (step.kind !== "rename") return undefined;
  const { to } = step;
  if (to === path || to.startsWith(`${path}/`) || !isDirectory(parentOf(to))) return undefined;
  if (path.startsWith(`${to}/`) || (model.has(to) && isDirectory(to) !== isDirectory(path)))
    return undefined;
  if (below(to).length > 0) return undefined;
  const moved = [path, ...below(path)].map((each) => [each, model.get(each)] as const);
  for (const [each] of moved) model.delete(each);
  for (const [each, value] of moved) model.set(to + each.slice(path.length), value);
  resort();
  return (store) => move(store, path, to);
}

describe("a union with a bucket [needs: s3]", function () {
  this.timeout(60_000);
  const bucket = "weir-union";
  let server: S3Server;
  let opened = 0;
  const open = () => {
    const { endpoint, accessKey, secretKey } = server;
    const uri = `s3://${bucket}/run-${opened++}`;
    return openUfs({ uri, readOnly: false, options: { endpoint, accessKey, secretKey } });
  };

  before(async function () {
    this.timeout(600_000);
    server = await s3Server();
    const direct = new S3Client({
      ...{ endpoint: server.endpoint, region: "us-east-1", forcePathStyle: true },
      credentials: { accessKeyId: server.accessKey, secretAccessKey: server.secretKey },
      requestChecksumCalculation: "WHEN_REQUIRED",
    });
    await direct.send(new CreateBucketCommand({ Bucket: bucket }));
    direct.destroy();
  });
  after(async () => {
    for (const directory of made) await rm(directory, { recursive: true, force: true });
  });

  describe("below a directory, by the contract", () => {
    describeUfsContract({
      open: async () => union({ hot: await localStore(), cold: await open() }),
      ...{ changesAttributes: true, namesAreBytes: true },
    });
  });

  describe("that is written, by the contract", () => {
    describeUfsContract({
      open: async () => union({ cold: await open(), hot: await localStore() }),
      ...{ changesAttributes: false, namesAreBytes: false },
    });
  });

  for (const [what, place] of [
    ["a directory", "hot"],
    ["another bucket", "bucket"],
  ] as const) {
    it(`lists keys that are no paths beside ${what}, each name once by its first layer, in pages of any size`, async () => {
      const [first, second] = [place === "hot" ? await localStore() : await open(), await open()];
      const store = union({ first, second });
      for (const name of ["!early", "B", "both", "z"]) await put(first, name, "first");
      // Shown as "%S3%a%" and "%S3%k%": where "a" and "k" sort, not where their names do.
      for (const key of ["a", "k"]) {
        await put(second, key, "object");
        await put(second, `${key}/below`, "");
      }
      await put(second, "both", "second");
      await put(second, "c", "second");
      const wanted = ["!early", "%S3%a%", "%S3%k%", "B", "a", "both", "c", "k", "z"];
      for (const limit of [1, 2, 3, 4, 5, 100]) {
        const listed = new Map<string, string>();
        let after: string | undefined;
        for (let pages = 0; ; pages++) {
          assert(pages < 20, `pages of ${limit} come to an end`);
          const page = await store.list("", { after, limit });
          for (const { name, fingerprint } of page.entries) {
            listed.set(name, fingerprint.slice(0, fingerprint.indexOf(":")));
          }
          if (page.last) break;
          after = page.after ?? page.entries.at(-1)!.name;
        }
        assert.deepEqual([...listed.keys()].sort(), wanted, `pages of ${limit}`);
        assert.equal(listed.get("both"), "first");
      }
      await store.close();
    });
  }

  it("moves objects between the two", async () => {
    const [hot, cold] = [await localStore(), await open()];
    const store = union({ hot, cold });
    const fingerprint = await put(store, "d/f", "content");
    await store.relocate("d/f", { from: "hot", to: "cold" });
    assert.equal(await text(cold, "d/f"), "content");
    assert.equal(await text(store, "d/f", fingerprint), "content");
    await move(store, "d/f", "d/g");
    assert.equal(await text(store, "d/g", fingerprint), "content");
    await remove(store, "d");
    assert.deepEqual(await namesIn(cold, ""), []);
    await store.close();
  });
});
