/** What every under file system must do; each implementation runs this suite with its own way to open an empty store. */
import assert from "node:assert/strict";
import { hasCode, WeirError } from "../../src/lib/errors.ts";
import type { InodeId, UfsOpId } from "../../src/lib/ids.ts";
import { exchangePath, unlinkedPath } from "../../src/lib/store-names.ts";
import type { UfsListEntry, UnderFileSystem } from "../../src/ufs/types.ts";

export interface UfsUnderTest {
  /** A store with nothing in it. */
  open(): Promise<UnderFileSystem>;
  /** Attributes can be changed after a write (object stores keep those of the write). */
  readonly changesAttributes: boolean;
}

export async function* chunksOf(...parts: (string | Uint8Array)[]): AsyncIterable<Uint8Array> {
  for (const part of parts) yield Buffer.from(part as string);
}

export async function readWhole(
  store: UnderFileSystem,
  path: string,
  options: { offset?: number; length?: number; fingerprint?: string } = {},
): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  const { offset = 0, length = 2 ** 40, fingerprint } = options;
  for await (const piece of store.read(path, { offset, length, fingerprint })) pieces.push(piece);
  return Buffer.concat(pieces);
}

export function put(store: UnderFileSystem, path: string, content: string): Promise<string> {
  return store.write(path, chunksOf(content), { size: Buffer.byteLength(content) });
}

async function listAll(
  store: UnderFileSystem,
  path: string,
  limit: number,
): Promise<UfsListEntry[]> {
  const all: UfsListEntry[] = [];
  let after: string | undefined;
  for (;;) {
    const page = await store.list(path, { after, limit });
    all.push(...page.entries);
    if (page.last) return all;
    assert(page.entries.length > 0, "a page that is not the last has entries");
    after = page.after ?? page.entries.at(-1)!.name;
  }
}

const namesOf = (entries: readonly UfsListEntry[]) => entries.map((entry) => entry.name);
const rejectsWith = (code: Parameters<typeof hasCode>[1]) => (thrown: unknown) =>
  hasCode(thrown, code) && thrown.message.startsWith("Cannot ");
/** Bytes of a UTF-8 text, one character each. */
const bytes = (text: string) => Buffer.from(text).toString("latin1");

export function describeUfsContract(underTest: UfsUnderTest): void {
  let store: UnderFileSystem;
  beforeEach(async () => {
    store = await underTest.open();
  });
  afterEach(() => store.close());

  it("is empty at first, and its root is a directory", async () => {
    assert.deepEqual(await store.list("", { limit: 10 }), { entries: [], last: true });
    assert.equal((await store.stat(""))?.kind, "directory");
    assert.equal(await store.stat("nothing"), undefined);
    assert.equal(await store.stat("nothing/below"), undefined);
  });

  it("gives back what was written, with its size and the fingerprint that write resolved with", async () => {
    const fingerprint = await put(store, "a/b/c.txt", "hello world");
    const stat = await store.stat("a/b/c.txt");
    assert.equal(stat?.kind, "file");
    assert.equal(stat.size, 11);
    assert.equal(stat.fingerprint, fingerprint);
    assert.equal((await readWhole(store, "a/b/c.txt", { fingerprint })).toString(), "hello world");
    assert.equal((await store.stat("a"))?.kind, "directory");
    const listed = await store.list("a/b", { limit: 10 });
    assert.equal(listed.entries[0]?.fingerprint, fingerprint);
    assert.equal(listed.entries[0].size, 11);
  });

  it("reads ranges, and less where the file ends", async () => {
    const fingerprint = await put(store, "f", "0123456789");
    const read = async (offset: number, length: number) =>
      (await readWhole(store, "f", { offset, length, fingerprint })).toString();
    assert.equal(await read(0, 4), "0123");
    assert.equal(await read(3, 4), "3456");
    assert.equal(await read(8, 100), "89");
    assert.equal(await read(10, 5), "");
    assert.equal(await read(50, 5), "");
    assert.equal(await read(2, 0), "");
  });

  it("writes and reads an empty file", async () => {
    const fingerprint = await store.write("empty", chunksOf(), { size: 0 });
    assert.equal((await store.stat("empty"))?.size, 0);
    assert.equal((await readWhole(store, "empty", { fingerprint })).length, 0);
  });

  it("keeps the mode and mtime of a write", async () => {
    const mtime = { sec: 1_234_567_890, nsec: 500_000_000 };
    await store.write("f", chunksOf("x"), { size: 1, attributes: { mode: 0o751, mtime } });
    const stat = await store.stat("f");
    assert.equal(stat?.mode, 0o751);
    assert.deepEqual(stat.mtime, mtime);
  });

  it("A14: refuses to read an object that was replaced by one of the same length", async () => {
    const first = await put(store, "f", "first");
    const second = await put(store, "f", "other");
    assert.notEqual(first, second);
    await assert.rejects(readWhole(store, "f", { fingerprint: first }), rejectsWith("Stale"));
    assert.equal((await readWhole(store, "f", { fingerprint: second })).toString(), "other");
  });

  it("says NotFound for a read of what is not there", async () => {
    await assert.rejects(readWhole(store, "nothing"), rejectsWith("NotFound"));
  });

  it("refuses a source that is longer or shorter than announced, and leaves the old content", async () => {
    await put(store, "f", "old");
    for (const size of [4, 6]) {
      await assert.rejects(
        store.write("f", chunksOf("12", "345"), { size }),
        rejectsWith("InvalidArgument"),
      );
    }
    assert.equal((await readWhole(store, "f")).toString(), "old");
    assert.deepEqual(namesOf((await store.list("", { limit: 9 })).entries), ["f"]);
  });

  it("leaves nothing behind when the source fails or the writer gives up", async () => {
    async function* failing() {
      yield Buffer.from("part");
      throw new Error("the source broke");
    }
    await assert.rejects(store.write("f", failing(), { size: 100 }));
    const controller = new AbortController();
    async function* abandoned() {
      yield Buffer.from("part");
      controller.abort();
      yield Buffer.from("more");
    }
    const { signal } = controller;
    await assert.rejects(
      store.write("f", abandoned(), { size: 8, signal }),
      rejectsWith("Cancelled"),
    );
    assert.equal(await store.stat("f"), undefined);
  });

  it("lists names in byte order, a directory by its name, in pages of any size", async () => {
    const files = [
      "a-b",
      "a.txt",
      "a0",
      "b",
      "c/x",
      "c/y/z",
      "c-1",
      "ab",
      bytes("é"),
      bytes("日本"),
    ];
    for (const path of files) await put(store, path, path);
    await put(store, "a/below", "1");
    await store.mkdir("empty");
    const wanted = [
      "a",
      "a-b",
      "a.txt",
      "a0",
      "ab",
      "b",
      "c",
      "c-1",
      "empty",
      bytes("é"),
      bytes("日本"),
    ];
    for (const limit of [1, 2, 3, 5, 100]) {
      assert.deepEqual(namesOf(await listAll(store, "", limit)), wanted, `pages of ${limit}`);
    }
    const kinds = new Map((await listAll(store, "", 4)).map((entry) => [entry.name, entry.kind]));
    assert.equal(kinds.get("a"), "directory");
    assert.equal(kinds.get("a-b"), "file");
    assert.equal(kinds.get("empty"), "directory");
    assert.deepEqual(namesOf(await listAll(store, "c", 1)), ["x", "y"]);
    assert.deepEqual(namesOf(await listAll(store, "empty", 1)), []);
  });

  it("starts a page behind a name that is not there any more", async () => {
    for (const name of ["a", "b", "d"]) await put(store, name, name);
    const page = await store.list("", { after: "c", limit: 9 });
    assert.deepEqual(namesOf(page.entries), ["d"]);
  });

  it("keeps names with spaces, signs and control characters", async () => {
    const names = [
      "a b",
      "a+b",
      "a%20b",
      "a&b<c>\"'",
      "tab\there",
      "back\\slash",
      "q?x=1#y",
      "*",
      "line\nend",
    ];
    for (const name of names) await put(store, `odd/${name}`, name);
    assert.deepEqual(namesOf(await listAll(store, "odd", 2)), [...names].sort());
    for (const name of names) {
      assert.equal((await readWhole(store, `odd/${name}`)).toString(), name);
    }
    await store.rename("odd/a+b", "odd/moved %41", { of: "file" });
    assert.equal((await readWhole(store, "odd/moved %41")).toString(), "a+b");
    await store.delete("odd", { of: "tree" });
    assert.equal(await store.stat("odd"), undefined);
  });

  it("keeps names that are no UTF-8", async () => {
    const name = "caf\xe9-\xff";
    await put(store, `d\xfe/${name}`, "bytes");
    await put(store, "%B%", "begins like one");
    assert.deepEqual(namesOf(await listAll(store, "", 9)).sort(), ["%B%", "d\xfe"]);
    assert.deepEqual(namesOf(await listAll(store, "d\xfe", 9)), [name]);
    assert.equal((await readWhole(store, `d\xfe/${name}`)).toString(), "bytes");
  });

  it("says NotFound for the listing of what is not there", async () => {
    await assert.rejects(store.list("nothing", { limit: 1 }), rejectsWith("NotFound"));
  });

  it("refuses paths that do not lead down", async () => {
    for (const path of ["..", "a/../../b", "/etc", "a//b", ".", "a/.", "x\0y"]) {
      await assert.rejects(put(store, path, "x"), rejectsWith("InvalidArgument"), path);
      await assert.rejects(
        store.delete(path, { of: "file" }),
        rejectsWith("InvalidArgument"),
        path,
      );
    }
    await assert.rejects(store.delete("", { of: "file" }), rejectsWith("InvalidArgument"));
  });

  it("keeps what a write replaced readable by its fingerprint, hidden, until it is forgotten", async () => {
    const before = await put(store, "d/f", "old content");
    const write = (content: string, keeps: string | undefined) =>
      store.write("d/f", chunksOf(content), { size: content.length, keeps });
    const old = async (path = "d/f") =>
      (await readWhole(store, path, { offset: 4, fingerprint: before })).toString();
    const after = await write("new", before);
    assert.equal(await old(), "content");
    assert.equal((await readWhole(store, "d/f", { fingerprint: after })).toString(), "new");
    assert.equal((await readWhole(store, "d/f")).toString(), "new");
    assert.deepEqual(namesOf(await listAll(store, "d", 10)), ["f"]);
    await write("repeated", before);
    assert.equal(await old(), "content", "a repetition keeps what the first one kept");
    await store.rename("d/f", "d/g", { of: "file" });
    assert.equal(await old("d/g"), "content", "it goes along with its name");
    await store.forgetReplaced("d/g", after);
    assert.equal(await old("d/g"), "content", "another one is not forgotten");
    await store.forgetReplaced("d/g", before);
    await store.forgetReplaced("d/g", before);
    await assert.rejects(old("d/g"), rejectsWith("Stale"));
    assert.equal((await readWhole(store, "d/g")).toString(), "repeated");
    const last = (await store.stat("d/g"))!.fingerprint;
    await store.write("d/g", chunksOf("x"), { size: 1, keeps: last });
    await store.delete("d/g", { of: "file" });
    await assert.rejects(
      readWhole(store, "d/g", { fingerprint: last }),
      rejectsWith("NotFound"),
      "it goes with its name",
    );
  });

  it("deletes files and whole trees, and calls a missing one done", async () => {
    await put(store, "t/a", "1");
    await put(store, "t/b/c", "2");
    await put(store, "t-not/a", "3");
    await store.mkdir("t/empty");
    await store.symlink("t/link", "../t-not");
    await store.delete("t/a", { of: "file" });
    assert.equal(await store.stat("t/a"), undefined);
    await store.delete("t/a", { of: "file" });
    await store.delete("t", { of: "tree" });
    await store.delete("t", { of: "tree" });
    assert.equal(await store.stat("t"), undefined);
    assert.equal((await readWhole(store, "t-not/a")).toString(), "3");
  });

  it("takes no directory for a file, and no file for a directory", async () => {
    await put(store, "d/a", "1");
    await put(store, "f", "2");
    await store.delete("d", { of: "file" });
    await store.delete("f", { of: "tree" });
    await store.delete("f", { of: "emptyDirectory" });
    assert.equal((await readWhole(store, "d/a")).toString(), "1");
    assert.equal((await readWhole(store, "f")).toString(), "2");
  });

  it("removes a directory as an empty one only while nothing lies below it", async () => {
    await store.mkdir("d");
    await put(store, "d/from outside", "1");
    await store.delete("d", { of: "emptyDirectory" });
    assert.equal((await readWhole(store, "d/from outside")).toString(), "1");
    await store.delete("d/from outside", { of: "file" });
    await store.mkdir("d");
    await store.delete("d", { of: "emptyDirectory" });
    assert.equal(await store.stat("d"), undefined);
    await store.delete("d", { of: "emptyDirectory" });
  });

  it("deletes only the object that has the fingerprint", async () => {
    const fingerprint = await put(store, "f", "known");
    await put(store, "f", "from outside");
    await store.delete("f", { of: "file", fingerprint });
    assert.equal((await readWhole(store, "f")).toString(), "from outside");
    const { fingerprint: present } = (await store.stat("f"))!;
    await store.delete("f", { of: "file", fingerprint: present });
    assert.equal(await store.stat("f"), undefined);
  });

  it("puts what it removes aside where it must, readable by its fingerprint, hidden, until that is deleted", async () => {
    const aside = { path: unlinkedPath(7 as InodeId), must: true };
    const fingerprint = await put(store, "d/f", "still read");
    for (let attempt = 0; attempt < 2; attempt++) {
      const removal = { of: "file" as const, fingerprint, aside };
      assert.deepEqual(await store.delete("d/f", removal), { aside: true });
      assert.equal(await store.stat("d/f"), undefined);
      const bytesAside = await readWhole(store, aside.path, { fingerprint });
      assert.equal(bytesAside.toString(), "still read");
    }
    assert.deepEqual(
      namesOf(await listAll(store, "", 9)).filter((name) => name !== "d"),
      [],
    );
    await store.delete(aside.path, { of: "file" });
    await assert.rejects(readWhole(store, aside.path, { fingerprint }), rejectsWith("NotFound"));
  });

  it("puts what a rename replaces aside where it must, and at no time the name is without an object", async () => {
    const aside = { path: unlinkedPath(8 as InodeId), must: true };
    const old = await put(store, "to", "replaced");
    const fingerprint = await put(store, "from", "content");
    const how = { of: "file" as const, aside };
    assert.deepEqual(await store.rename("from", "to", how), { aside: true });
    assert.deepEqual(await store.rename("from", "to", how), { aside: true });
    assert.equal((await readWhole(store, "to", { fingerprint })).toString(), "content");
    const kept = await readWhole(store, aside.path, { fingerprint: old });
    assert.equal(kept.toString(), "replaced");
  });

  it("does nothing more once it is not permitted", async () => {
    await put(store, "f", "1");
    await put(store, "d/g", "2");
    const permit = () => {
      throw new WeirError("Cancelled", "Cannot go on: it is for somebody else to do");
    };
    const refused = rejectsWith("Cancelled");
    await assert.rejects(store.delete("f", { of: "file", permit }), refused);
    await assert.rejects(store.delete("d", { of: "tree", permit }), refused);
    await assert.rejects(store.rename("f", "h", { of: "file", permit }), refused);
    await assert.rejects(store.rename("d", "e", { of: "directory", permit }), refused);
    await assert.rejects(store.write("f", chunksOf("3"), { size: 1, permit }), refused);
    assert.equal((await readWhole(store, "f")).toString(), "1");
    assert.equal((await readWhole(store, "d/g")).toString(), "2");
    assert.deepEqual(namesOf(await listAll(store, "", 9)), ["d", "f"]);
  });

  it("renames files over existing ones, keeping fingerprints, and can be asked twice", async () => {
    const fingerprint = await put(store, "from", "content");
    await put(store, "to", "replaced");
    await store.rename("from", "to", { of: "file" });
    await store.rename("from", "to", { of: "file" });
    assert.equal(await store.stat("from"), undefined);
    assert.equal((await readWhole(store, "to", { fingerprint })).toString(), "content");
    await store.rename("to", "deep/er/to", { of: "file" });
    assert.equal((await readWhole(store, "deep/er/to", { fingerprint })).toString(), "content");
    await assert.rejects(
      store.rename("nothing", "nowhere", { of: "file" }),
      rejectsWith("NotFound"),
    );
  });

  it("renames trees with empty directories and links", async () => {
    await put(store, "d/a", "1");
    await put(store, "d/b/c", "2");
    await store.mkdir("d/empty");
    await store.symlink("d/link", "target");
    await store.rename("d", "e/f", { of: "directory" });
    await store.rename("d", "e/f", { of: "directory" });
    assert.equal(await store.stat("d"), undefined);
    assert.deepEqual(namesOf(await listAll(store, "e/f", 9)), ["a", "b", "empty", "link"]);
    assert.equal((await store.stat("e/f/link"))?.target, "target");
    assert.equal((await readWhole(store, "e/f/b/c")).toString(), "2");
    await assert.rejects(
      store.rename("e", "e/f/g", { of: "directory" }),
      rejectsWith("InvalidArgument"),
    );
  });

  it("has two objects change places by way of a hidden name, which nothing else can have", async () => {
    const prints = [await put(store, "d/a", "1"), await put(store, "b", "2")] as const;
    await put(store, "e/f", "3");
    const between = exchangePath("d/a", 5 as UfsOpId);
    for (const [from, to] of [
      ["d/a", between],
      ["b", "d/a"],
      [between, "b"],
    ] as const) {
      await store.rename(from, to, { of: "file" });
      await store.rename(from, to, { of: "file" });
      assert.ok((await listAll(store, "d", 9)).every(({ name }) => name === "a"));
    }
    assert.equal((await readWhole(store, "d/a", { fingerprint: prints[1] })).toString(), "2");
    assert.equal((await readWhole(store, "b", { fingerprint: prints[0] })).toString(), "1");
    const apart = exchangePath("d", 7 as UfsOpId);
    await store.rename("d", apart, { of: "directory" });
    assert.equal((await readWhole(store, `${apart}/a`)).toString(), "2");
    await store.rename("e", "d", { of: "directory" });
    await store.rename(apart, "e", { of: "directory" });
    assert.deepEqual(namesOf(await listAll(store, "", 9)), ["b", "d", "e"]);
    assert.equal((await readWhole(store, "d/f")).toString(), "3");
    await assert.rejects(put(store, apart, "x"), rejectsWith("InvalidArgument"));
    await assert.rejects(store.mkdir(apart), rejectsWith("InvalidArgument"));
    await assert.rejects(store.symlink(apart, "x"), rejectsWith("InvalidArgument"));
  });

  it("makes directories with parents and mode, and calls an existing one done", async () => {
    await store.mkdir("x/y/z", { mode: 0o750 });
    await store.mkdir("x/y/z", { mode: 0o750 });
    const stat = await store.stat("x/y/z");
    assert.equal(stat?.kind, "directory");
    assert.equal(stat.mode, 0o750);
    await put(store, "file", "x");
    await assert.rejects(store.mkdir("file"), rejectsWith("AlreadyExists"));
  });

  it("shows symbolic links with their targets, also dangling ones, and never follows them", async () => {
    await put(store, "real", "content");
    await store.symlink("link", "real");
    await store.symlink("dangling", bytes("../nöwhere/at all"));
    await store.symlink("dangling", bytes("../nöwhere/at all"));
    assert.equal((await store.stat("link"))?.kind, "symlink");
    assert.equal((await store.stat("link"))?.target, "real");
    const listed = await listAll(store, "", 10);
    assert.deepEqual(
      listed.map((entry) => [entry.name, entry.kind, entry.target]),
      [
        ["dangling", "symlink", bytes("../nöwhere/at all")],
        ["link", "symlink", "real"],
        ["real", "file", undefined],
      ],
    );
    await store.symlink("link", "elsewhere");
    assert.equal((await store.stat("link"))?.target, "elsewhere");
  });

  it(
    underTest.changesAttributes
      ? "changes mode and mtime, and says the fingerprint afterwards"
      : "takes a change of attributes without touching the object",
    async () => {
      const before = await put(store, "f", "x");
      const mtime = { sec: 1_000_000_000, nsec: 0 };
      const after = await store.setAttributes("f", { mode: 0o600, mtime });
      const stat = await store.stat("f");
      assert.equal(stat?.fingerprint, after ?? before);
      if (underTest.changesAttributes) {
        assert.equal(stat.mode, 0o600);
        assert.deepEqual(stat.mtime, mtime);
      }
      assert.equal(
        (await readWhole(store, "f", { fingerprint: stat.fingerprint })).toString(),
        "x",
      );
    },
  );
}
