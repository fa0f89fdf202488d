import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";
import {
  CreateBucketCommand,
  DeleteObjectCommand,
  ListMultipartUploadsCommand,
  PutObjectCommand,
  S3Client,
} from "@aws-sdk/client-s3";
import { hasCode, WeirError } from "../../src/lib/errors.ts";
import { openUfs, validateUri } from "../../src/ufs/open.ts";
import type { UnderFileSystem } from "../../src/ufs/types.ts";
import { chunksOf, describeUfsContract, put, readWhole } from "../contract/ufs.ts";
import { type S3Server, s3Server } from "../lib/s3-server.ts";
import { S3Tap } from "../lib/s3-tap.ts";

const mebibyte = 1024 ** 2;

describe("a bucket as under storage [needs: s3]", function () {
  this.timeout(60_000);
  const bucket = "weir-contract";
  let server: S3Server;
  let direct: S3Client;
  let opened = 0;
  const options = () => ({
    endpoint: server.endpoint,
    accessKey: server.accessKey,
    secretKey: server.secretKey,
  });
  const open = (uri = `s3://${bucket}/run-${opened++}/below`) =>
    openUfs({ uri, readOnly: false, options: options() });

  before(async function () {
    this.timeout(600_000);
    server = await s3Server();
    direct = new S3Client({
      endpoint: server.endpoint,
      region: "us-east-1",
      forcePathStyle: true,
      credentials: { accessKeyId: server.accessKey, secretAccessKey: server.secretKey },
      requestChecksumCalculation: "WHEN_REQUIRED",
    });
    await direct.send(new CreateBucketCommand({ Bucket: bucket }));
  });
  // Undefined when the server did not start: that failure is the one to show.
  after(() => (direct as S3Client | undefined)?.destroy());

  describe("by the contract", () => {
    describeUfsContract({ open: () => open(), changesAttributes: false });
  });

  /** Repeats a random mebibyte, each time with another first byte. */
  async function* large(size: number): AsyncIterable<Uint8Array> {
    for (let offset = 0; offset < size; offset += pattern.length) {
      const piece = Buffer.from(pattern.subarray(0, Math.min(pattern.length, size - offset)));
      piece[0] = offset / mebibyte;
      yield piece;
    }
  }
  const pattern = randomBytes(mebibyte);

  it("uploads large files in parts, reads ranges across them, and keeps the fingerprint through a rename", async () => {
    const store = await open();
    const size = 40 * mebibyte + 7;
    const fingerprint = await store.write("big", large(size), {
      size,
      attributes: { mode: 0o640 },
    });
    assert.match(fingerprint, /-3$/);
    assert.equal((await store.stat("big"))?.size, size);
    await store.rename("big", "moved", { of: "file" });
    const stat = await store.stat("moved");
    assert.equal(stat?.fingerprint, fingerprint);
    assert.equal(stat.mode, 0o640);
    const offset = 31 * mebibyte + 5;
    const part = await readWhole(store, "moved", { offset, length: 2 * mebibyte, fingerprint });
    const whole: Uint8Array[] = [];
    for await (const piece of large(size)) whole.push(piece);
    assert.equal(
      Buffer.compare(part, Buffer.concat(whole).subarray(offset, offset + 2 * mebibyte)),
      0,
    );
    assert.equal((await readWhole(store, "moved")).length, size);
    await store.close();
  });

  describe("A24: asks for no change twice", () => {
    let tap: S3Tap;
    let store: UnderFileSystem;
    let top: string;

    beforeEach(async () => {
      tap = await S3Tap.start(server.endpoint);
      top = `once-${String(opened++)}`;
      const options = { endpoint: tap.endpoint, ...keys() };
      store = await openUfs({ uri: `s3://${bucket}/${top}`, readOnly: false, options });
    });
    afterEach(async () => {
      await store.close();
      await tap.close();
    });

    const keys = () => ({ accessKey: server.accessKey, secretKey: server.secretKey });
    const at = (key: string) => `/${bucket}/${top}/${key}`;

    it("a write is one PUT to its own key, new or over another, and parts of one upload when it is large", async () => {
      await put(store, "d/f", "new");
      assert.deepEqual(tap.takeChanges(), [`PUT ${at("d/f")}`]);
      await put(store, "d/f", "over it");
      assert.deepEqual(tap.takeChanges(), [`PUT ${at("d/f")}`]);
      const size = 40 * mebibyte;
      await store.write("d/f", large(size), { size });
      const [begin, ...parts] = tap.takeChanges();
      assert.deepEqual([begin, parts.pop()], [`POST ${at("d/f")}`, `POST ${at("d/f")}`]);
      assert.deepEqual(parts, Array<string>(3).fill(`PUT ${at("d/f")}`));
    });

    it("a rename is one COPY and one DELETE, goes on where it stopped, and is nothing once it is done", async () => {
      for (const replaced of [undefined, "other", "content"]) {
        if (replaced !== undefined) await put(store, "to", replaced);
        const attributes = { mode: 0o640 };
        const source = () => chunksOf("content");
        const fingerprint = await store.write("from", source(), { size: 7, attributes });
        tap.takeChanges();
        let steps = 0;
        const permit = () => {
          if (++steps === 2) throw new WeirError("Cancelled", "Cannot go on");
        };
        const stopped = store.rename("from", "to", { of: "file", permit });
        await assert.rejects(stopped, (thrown) => hasCode(thrown, "Cancelled"));
        assert.deepEqual(tap.takeChanges(), [`COPY ${at("to")}`]);
        await store.rename("from", "to", { of: "file" });
        assert.deepEqual(tap.takeChanges(), [`DELETE ${at("from")}`]);
        await store.rename("from", "to", { of: "file" });
        assert.deepEqual(tap.takeChanges(), []);
        const stat = await store.stat("to");
        assert.deepEqual([stat?.fingerprint, stat?.mode], [fingerprint, 0o640]);
      }
      await put(store, "once", "x");
      tap.takeChanges();
      await store.rename("once", "more", { of: "file" });
      assert.deepEqual(tap.takeChanges(), [`COPY ${at("more")}`, `DELETE ${at("once")}`]);
    });
  });

  it("leaves no unfinished upload behind when a large write fails", async () => {
    const store = await open();
    const size = 40 * mebibyte;
    async function* breaking() {
      let given = 0;
      for await (const piece of large(size)) {
        if ((given += piece.length) > 20 * mebibyte) throw new Error("the source broke");
        yield piece;
      }
    }
    await assert.rejects(store.write("big", breaking(), { size }), /the source broke/);
    await assert.rejects(store.write("big", large(size - 1), { size }), (thrown) =>
      hasCode(thrown, "InvalidArgument"),
    );
    const { Uploads = [] } = await direct.send(new ListMultipartUploadsCommand({ Bucket: bucket }));
    assert.deepEqual(Uploads, []);
    assert.equal(await store.stat("big"), undefined);
    await store.close();
  });

  it("says Stale when the object is replaced in the middle of a read", async () => {
    const store = await open(`s3://${bucket}/replaced`);
    const size = 24 * mebibyte;
    const fingerprint = await store.write("f", large(size), { size });
    await put(store, "f", "other");
    await assert.rejects(readWhole(store, "f", { offset: 10, length: 5, fingerprint }), (thrown) =>
      hasCode(thrown, "Stale"),
    );
    await store.close();
  });

  it("goes on where a connection was cut in the middle of a read", async () => {
    const size = 8 * mebibyte;
    const store = await open(`s3://${bucket}/cut`);
    const fingerprint = await store.write("f", large(size), { size });
    const { port } = new URL(server.endpoint);
    let cuts = 2;
    const proxy = createServer((near) => {
      const far = connect(Number(port), "127.0.0.1");
      let passed = 0;
      near.pipe(far);
      far.on("data", (chunk) => {
        passed += chunk.length;
        near.write(chunk);
        if (passed > 3 * mebibyte && cuts > 0) {
          cuts--;
          near.destroy();
        }
      });
      near.on("error", () => far.destroy());
      near.on("close", () => far.destroy());
      far.on("error", () => near.destroy());
      far.on("close", () => near.destroy());
    }).listen(0, "127.0.0.1");
    await once(proxy, "listening");
    const through = await openUfs({
      uri: store.uri,
      readOnly: true,
      options: {
        ...options(),
        endpoint: `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`,
      },
    });
    const whole: Uint8Array[] = [];
    for await (const piece of large(size)) whole.push(piece);
    const read = await readWhole(through, "f", { fingerprint });
    assert.equal(cuts, 0);
    assert.equal(Buffer.compare(read, Buffer.concat(whole)), 0);
    await through.close();
    await store.close();
    proxy.close();
  });

  it("lists and deletes more objects than the store shows at once, in byte order", async () => {
    const store = await open();
    const names = Array.from(
      { length: 1203 },
      (_, index) => `f${String(index).padStart(5, "0")}-x`,
    );
    for (let from = 0; from < names.length; from += 50) {
      await Promise.all(names.slice(from, from + 50).map((name) => put(store, `d/${name}`, "1")));
    }
    // Sorts before all others as a name, in their middle as a key.
    await put(store, "d/f00600/below", "1");
    const seen: string[] = [];
    for (let after: string | undefined, last = false; !last; after = seen.at(-1)) {
      const page = await store.list("d", { after, limit: 500 });
      seen.push(...page.entries.map((entry) => entry.name));
      last = page.last;
    }
    assert.deepEqual(seen, [...names, "f00600"].sort());
    await store.delete("d", { of: "tree" });
    assert.equal(await store.stat("d"), undefined);
    await store.close();
  });

  it("deletes and moves a file alone where objects lie below its name as if it were a directory", async () => {
    for (const Key of ["twin/a", "twin/a/b", "twin/a/c"])
      await direct.send(new PutObjectCommand({ Bucket: bucket, Key, Body: "x" }));
    const store = await open(`s3://${bucket}/twin`);
    await store.rename("a", "moved", { of: "file" });
    assert.equal((await store.stat("a"))?.kind, "directory");
    assert.equal((await readWhole(store, "a/b")).toString(), "x");
    await store.rename("moved", "a", { of: "file" });
    await store.delete("a", { of: "tree" });
    assert.equal((await readWhole(store, "a")).toString(), "x");
    await put(store, "a/b", "y");
    await store.delete("a", { of: "file" });
    assert.equal((await readWhole(store, "a/b")).toString(), "y");
    await store.close();
  });

  it("shows objects that others put there", async () => {
    for (const Key of ["foreign/a", "foreign/b/c"])
      await direct.send(new PutObjectCommand({ Bucket: bucket, Key, Body: "x" }));
    const store = await open(`s3://${bucket}/foreign`);
    const { entries, last } = await store.list("", { limit: 100 });
    assert.equal(last, true);
    assert.deepEqual(
      entries.map((entry) => [entry.name, entry.kind]),
      [
        ["a", "file"],
        ["b", "directory"],
      ],
    );
    assert.equal((await store.stat("a"))?.mode, 0o644);
    await direct.send(new DeleteObjectCommand({ Bucket: bucket, Key: "foreign/a" }));
    await assert.rejects(readWhole(store, "a"), (thrown) => hasCode(thrown, "NotFound"));
    await store.close();
  });

  describe("with keys that are no paths", function () {
    this.timeout(240_000);
    const long = "l".repeat(300);
    const keys = [
      "/lead",
      "a",
      "a!",
      "a-b",
      "a//b",
      "a/b",
      "a/full/",
      "a/full/x",
      "./dot",
      "..",
      "é",
      "%S3%mine",
      `${long}/below`,
      long,
      `${long}2`,
    ];
    const pathOf = new Map<string, string>();
    let prefix: string;
    let store: UnderFileSystem;

    beforeEach(async () => {
      prefix = `odd-${String(opened++)}`;
      await Promise.all(
        keys.map((key) =>
          direct.send(new PutObjectCommand({ Bucket: bucket, Key: `${prefix}/${key}`, Body: key })),
        ),
      );
      store = await open(`s3://${bucket}/${prefix}`);
    });
    afterEach(() => store.close());

    /** Every file of the store by its path, read in pages of `limit`. */
    async function filesBelow(limit: number): Promise<Map<string, string>> {
      const files = new Map<string, string>();
      const directories = [""];
      for (let path = directories.pop(); path !== undefined; path = directories.pop()) {
        let after: string | undefined;
        for (let last = false; !last; ) {
          const page = await store.list(path, { after, limit });
          for (const { name, kind } of page.entries) {
            const below: string = path === "" ? name : `${path}/${name}`;
            assert.ok(name.length <= 255 && !name.includes("/") && name !== "..", name);
            assert.equal((await store.stat(below))?.kind, kind, below);
            if (kind === "directory") directories.push(below);
            else files.set(below, (await readWhole(store, below)).toString());
          }
          last = page.last;
          after = page.after ?? page.entries.at(-1)?.name;
        }
      }
      return files;
    }

    it("shows each under a path of its own, in pages of any size, and reads exactly that key", async () => {
      for (const limit of [1, 2, 5, 1000]) {
        const files = await filesBelow(limit);
        assert.deepEqual([...files.values()].sort(), [...keys].sort(), `pages of ${limit}`);
        for (const [path, key] of files) pathOf.set(key, path);
      }
      assert.deepEqual(
        ["/lead", "a", "a//b", "a/full/", "./dot", "..", "%S3%mine"].map((key) => pathOf.get(key)),
        [
          "%S3%/lead",
          "%S3%a%",
          "a/%S3%/b",
          "a/full/%S3%%",
          "%S3%%2E/dot",
          "%S3%%2E%2E",
          "%S3%%25S3%25mine",
        ],
      );
    });

    it("overwrites, moves and deletes exactly that key", async () => {
      const left = new Map([...(await filesBelow(1000))].map(([path, key]) => [key, path]));
      const inOrder = [...left.keys()];
      for (const key of inOrder) {
        const path = left.get(key)!;
        await put(store, path, `new ${key}`);
        await store.rename(path, "moved", { of: "file" });
        assert.equal((await readWhole(store, "moved")).toString(), `new ${key}`);
        await store.delete("moved", { of: "file" });
        left.delete(key);
        const contents = [...(await filesBelow(1000)).values()];
        assert.deepEqual(contents.sort(), [...left.keys()].sort(), `after ${key}`);
        // What had a directory beside it has its own name once that is gone.
        for (const [shown, content] of await filesBelow(1000)) left.set(content, shown);
      }
    });

    it("moves and deletes a directory without the object that has its name", async () => {
      await store.rename("a", "z", { of: "directory" });
      assert.equal((await readWhole(store, "a")).toString(), "a");
      assert.equal((await readWhole(store, "z/%S3%/b")).toString(), "a//b");
      await store.delete("z", { of: "tree" });
      assert.equal(await store.stat("z"), undefined);
      assert.equal((await readWhole(store, "a")).toString(), "a");
    });
  });

  it("refuses a missing bucket and wrong keys, without showing them", async () => {
    await validateUri(`s3://${bucket}`, options());
    const code = (wanted: string) => (thrown: unknown) => {
      assert(thrown instanceof WeirError);
      assert.doesNotMatch(thrown.message, /weir-test-secret|wrong-secret/);
      assert.equal(thrown.code, wanted, thrown.message);
      return true;
    };
    await assert.rejects(validateUri("s3://no-such-bucket", options()), code("NotFound"));
    const wrong = { ...options(), secretKey: "wrong-secret" };
    await assert.rejects(validateUri(`s3://${bucket}`, wrong), code("PermissionDenied"));
    const half = { endpoint: server.endpoint, accessKey: "x" };
    await assert.rejects(validateUri(`s3://${bucket}`, half), code("InvalidArgument"));
  });
});
