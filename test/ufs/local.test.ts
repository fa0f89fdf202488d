import assert from "node:assert/strict";
import {
  chmod,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  symlink,
  utimes,
  writeFile,
} from "node:fs/promises";
import { execFileSync, spawnSync } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { hasCode } from "../../src/lib/errors.ts";
import { exchangePath } from "../../src/lib/store-names.ts";
import type { UfsOpId } from "../../src/lib/ids.ts";
import { openUfs } from "../../src/ufs/open.ts";
import type { UnderFileSystem } from "../../src/ufs/types.ts";
import { chunksOf, describeUfsContract, put, readWhole } from "../contract/ufs.ts";

describe("a local directory as under storage", () => {
  const made: string[] = [];
  const freshDirectory = async () => {
    const directory = await mkdtemp(join(tmpdir(), "weir-ufs-"));
    made.push(directory);
    return directory;
  };
  const openAt = (directory: string): Promise<UnderFileSystem> =>
    openUfs({ uri: pathToFileURL(directory).href, readOnly: false, options: {} });
  after(async () => {
    for (const directory of made) await rm(directory, { recursive: true, force: true });
  });

  describe("by the contract", () => {
    describeUfsContract({
      open: async () => openAt(await freshDirectory()),
      changesAttributes: true,
    });
  });

  it("never leads out of its root through a symbolic link in the middle of a path", async () => {
    const outside = await freshDirectory();
    await writeFile(join(outside, "secret"), "secret");
    const directory = await freshDirectory();
    await symlink(outside, join(directory, "out"));
    await symlink(join(outside, "secret"), join(directory, "file"));
    const store = await openAt(directory);
    await assert.rejects(readWhole(store, "out/secret"), (e) => hasCode(e, "NotDirectory"));
    await assert.rejects(readWhole(store, "file"), (e) => hasCode(e, "InvalidArgument"));
    await assert.rejects(put(store, "out/new", "x"), (e) => hasCode(e, "NotDirectory"));
    await assert.rejects(store.list("out", { limit: 9 }), (e) => hasCode(e, "NotDirectory"));
    await assert.rejects(store.rename("file", "out/moved", { of: "file" }), (e) =>
      hasCode(e, "NotDirectory"),
    );
    assert.equal(await store.stat("out/secret"), undefined);
    await store.delete("out/secret", { of: "file" });
    await store.setAttributes("file", { mode: 0o777, mtime: { sec: 1, nsec: 0 } });
    await store.delete("out", { of: "file" });
    assert.deepEqual(await readdir(outside), ["secret"]);
    assert.equal(await readFile(join(outside, "secret"), "utf8"), "secret");
    assert.deepEqual(await readdir(directory), ["file"]);
  });

  it("follows symbolic links in the address of the root itself", async () => {
    const directory = await freshDirectory();
    await symlink(directory, `${directory}-link`);
    made.push(`${directory}-link`);
    const store = await openAt(`${directory}-link`);
    await put(store, "a/b", "x");
    assert.equal(await readFile(join(directory, "a/b"), "utf8"), "x");
  });

  it("opens a directory whose name has spaces, percent signs and other bytes", async () => {
    const parent = await freshDirectory();
    const directory = join(parent, "a b%41 ü#?");
    await mkdir(directory);
    await put(await openAt(directory), "f", "x");
    assert.equal(await readFile(join(directory, "f"), "utf8"), "x");
  });

  it("A14: notices a file that grows or changes while it is read", async () => {
    const directory = await freshDirectory();
    const file = join(directory, "big");
    await writeFile(file, Buffer.alloc(4 * 1024 ** 2, 1));
    const store = await openAt(directory);
    const { fingerprint } = (await store.stat("big"))!;
    const reader = store
      .read("big", { offset: 0, length: 4 * 1024 ** 2, fingerprint })
      [Symbol.asyncIterator]();
    assert.equal((await reader.next()).done, false);
    await writeFile(file, Buffer.alloc(4 * 1024 ** 2, 2));
    await assert.rejects(
      async () => reader.next(),
      (e) => hasCode(e, "Stale"),
    );
  });

  it("hides writes in progress, and removes those that a dead process left long ago", async () => {
    const directory = await freshDirectory();
    const fresh = join(directory, ".weir-tmp-fresh");
    const old = join(directory, ".weir-tmp-old");
    await writeFile(fresh, "x");
    await writeFile(old, "x");
    await utimes(old, 1, 1);
    const store = await openAt(directory);
    assert.deepEqual(await store.list("", { limit: 9 }), { entries: [], last: true });
    assert.deepEqual(await readdir(directory), [".weir-tmp-fresh"]);
    await assert.rejects(put(store, ".weir-tmp-x", "y"), (e) => hasCode(e, "InvalidArgument"));
  });

  it("never takes what lies between two places for what a write left behind", async () => {
    const directory = await freshDirectory();
    const store = await openAt(directory);
    await put(store, "a", "old content");
    await utimes(join(directory, "a"), 1, 1);
    const between = exchangePath("a", 3 as UfsOpId);
    await store.rename("a", between, { of: "file" });
    await store.list("", { limit: 9 });
    assert.equal((await readWhole(store, between)).toString(), "old content");
  });

  it("keeps no hidden file after writes that failed", async () => {
    const directory = await freshDirectory();
    const store = await openAt(directory);
    await assert.rejects(store.write("f", chunksOf("long"), { size: 1 }));
    await mkdir(join(directory, "d"));
    await assert.rejects(put(store, "d", "x"), (e) => hasCode(e, "IsDirectory"));
    assert.deepEqual(await readdir(directory), ["d"]);
  });

  it("shows fifos as what they are and does not wait for their writers", async () => {
    const directory = await freshDirectory();
    execFileSync("mkfifo", [join(directory, "fifo")]);
    const store = await openAt(directory);
    assert.equal((await store.stat("fifo"))?.kind, "fifo");
    await assert.rejects(readWhole(store, "fifo"), (e) => hasCode(e, "InvalidArgument"));
  });

  it("pages through a large directory while names come and go, never skipping those that stay", async () => {
    const directory = await freshDirectory();
    const wanted = Array.from({ length: 300 }, (_, index) => `f${String(index).padStart(4, "0")}`);
    for (const name of wanted) await writeFile(join(directory, name), "");
    const store = await openAt(directory);
    const seen: string[] = [];
    let after: string | undefined;
    for (let page = 0; ; page++) {
      const { entries, last } = await store.list("", { after, limit: 40 });
      seen.push(...entries.map((entry) => entry.name));
      if (last) break;
      after = seen.at(-1);
      await writeFile(join(directory, `f0000-new-${page}`), "");
      await rm(join(directory, `f0000-new-${page - 1}`), { force: true });
    }
    assert.deepEqual(seen, wanted);
  });

  it("refuses changes through a read-only mount", async () => {
    const directory = await freshDirectory();
    await writeFile(join(directory, "f"), "x");
    const uri = pathToFileURL(directory).href;
    const store = await openUfs({ uri, readOnly: true, options: {} });
    const readOnly = (thrown: unknown) => hasCode(thrown, "ReadOnly");
    await assert.rejects(put(store, "g", "x"), readOnly);
    await assert.rejects(store.delete("f", { of: "file" }), readOnly);
    await assert.rejects(store.rename("f", "g", { of: "file" }), readOnly);
    await assert.rejects(store.mkdir("d"), readOnly);
    await assert.rejects(store.symlink("l", "f"), readOnly);
    await assert.rejects(store.setAttributes("f", { mode: 0 }), readOnly);
    assert.equal((await readWhole(store, "f")).toString(), "x");
    assert.deepEqual(await readdir(directory), ["f"]);
  });

  it("changes directories that are its own and have no write bit, and restores their modes", async () => {
    const directory = await freshDirectory();
    const script = `
      import assert from "node:assert/strict";
      import { chmod, mkdir, readdir, stat, writeFile } from "node:fs/promises";
      import { openUfs } from ${JSON.stringify(new URL("../../src/ufs/open.ts", import.meta.url))};
      // Root may do anything, so a user that owns the directories takes its place.
      if (process.getuid() === 0) { process.setgid(65534); process.setuid(65534); }
      assert.notEqual(process.geteuid(), 0);
      process.chdir(${JSON.stringify(directory)});
      const closed = [["d", 0o555], ["e", 0o2500], ["e/tree", 0o555], ["blind", 0o444]];
      for (const [name] of closed) await mkdir(name);
      for (const name of ["d/a", "d/b", "d/gone", "e/tree/f"]) await writeFile(name, name);
      for (const [name, mode] of closed.toReversed()) await chmod(name, mode);
      await assert.rejects(writeFile("d/direct", ""), { code: "EACCES" });
      const uri = ${JSON.stringify(pathToFileURL(directory).href)};
      const store = await openUfs({ uri, readOnly: false, options: {} });
      const put = (path) => store.write(path, [Buffer.from("x")], { size: 1 });
      const many = Array.from({ length: 40 }, (_, i) => put("d/many" + i));
      await Promise.all([
        ...many, put("blind/x"), store.mkdir("d/new/deep"), store.symlink("d/link", "a"),
        store.delete("d/gone", { of: "file" }), store.rename("d/a", "e/moved", { of: "file" }), put("d/b"),
      ]);
      await store.rename("e/tree", "d/tree", { of: "directory" });
      const modeOf = async (name) => (await stat(name)).mode & 0o7777;
      assert.deepEqual(
        [await modeOf("d"), await modeOf("e"), await modeOf("blind"), await modeOf("d/tree")],
        [0o555, 0o2500, 0o444, 0o555],
      );
      const left = (await readdir("d")).filter((name) => !name.startsWith("many"));
      assert.deepEqual(left.sort(), ["b", "link", "new", "tree"]);
      assert.deepEqual(await readdir("e"), ["moved"]);
      await assert.rejects(store.write("d/f", [], { size: 1 }));
      assert.equal(await modeOf("d"), 0o555);
      await store.delete("d", { of: "tree" });
      assert.equal(await store.stat("d"), undefined);`;
    await chmod(directory, 0o777);
    const args = ["--import=tsx", "--input-type=module", "--eval", script];
    const ended = spawnSync(process.execPath, args, { encoding: "utf8" });
    assert.equal(ended.status, 0, ended.stderr);
  });

  it("keeps the setuid bit and a mode that the owner cannot read", async () => {
    const directory = await freshDirectory();
    const store = await openAt(directory);
    await store.write("f", chunksOf("x"), {
      size: 1,
      attributes: { mode: 0o4711, uid: 0, gid: 0 },
    });
    assert.equal((await store.stat("f"))?.mode, 0o4711);
    await store.setAttributes("f", { mode: 0 });
    assert.equal((await store.stat("f"))?.mode, 0);
    await chmod(join(directory, "f"), 0o600);
  });
});
