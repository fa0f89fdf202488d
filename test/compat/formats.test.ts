/** What an earlier version wrote, to a wire or to a disk, is read; what this version writes, an earlier one can read. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Packr } from "msgpackr";
import {
  decode,
  encode,
  optional,
  type Schema,
  struct,
  text,
  unsigned,
} from "../../src/lib/schema.ts";
import { systemClock } from "../../src/lib/clock.ts";
import { loadConfig } from "../../src/lib/config.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import { verifyBackup } from "../../src/master/backup/read.ts";
import { restoreBackup } from "../../src/master/backup/restore.ts";
import { mountsOf } from "../../src/master/state/queries.ts";
import { openStateStore } from "../../src/master/store/level-store.ts";
import { withTempDir } from "../lib/temp-dir.ts";
import { decodeChunk, encodeChunk } from "../../src/master/store/chunk-codec.ts";
import { formation, hello, helloReply } from "../../src/raft/host/handshake.ts";
import { decodeMessage, encodeMessage } from "../../src/raft/messages.ts";
import { commandResult, entryPayload } from "../../src/rpc/commands.ts";
import { masterApi } from "../../src/rpc/master-api.ts";
import {
  decodeBody,
  decodeFrame,
  encodeBody,
  encodeFrame,
  encodeInParts,
  type Frame,
  longestHeadBytes,
} from "../../src/rpc/wire.ts";
import * as samples from "./samples.ts";

const packr = new Packr({ useRecords: false, int64AsType: "number", variableMapSize: true });

type Fixtures = Readonly<Record<string, Buffer>>;

/** Bytes that a version wrote, by the name of their sample. */
function fixtures(version: string, set: string): Fixtures {
  const url = new URL(`fixtures/${version}/${set}.json`, import.meta.url);
  const found = JSON.parse(readFileSync(url, "utf8")) as Record<string, string>;
  return Object.fromEntries(
    Object.entries(found).map(([name, hex]) => [name, Buffer.from(hex, "hex")]),
  );
}

/** Fields that are there and undefined, and those that are not there, mean the same; bytes are bytes in any buffer. */
function plain(value: unknown): unknown {
  if (value instanceof Uint8Array) return `bytes ${Buffer.from(value).toString("hex")}`;
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object" || value === null) return value;
  const fields = Object.entries(value).filter(([, field]) => field !== undefined);
  return Object.fromEntries(fields.map(([key, field]) => [key, plain(field)]));
}

/**
 * Whether a reader of `old` gets from `newer` what it got from `old`: lists of fields may only be longer, by what it
 * ignores.
 */
function assertReadable(old: unknown, newer: unknown, at: string): void {
  if (!Array.isArray(old)) {
    assert.deepEqual(newer, old, at);
    return;
  }
  assert(Array.isArray(newer) && newer.length >= old.length, `${at}: fields are gone`);
  old.forEach((value, i) => assertReadable(value, newer[i], `${at}[${String(i)}]`));
}

describe("what version 1 wrote", () => {
  for (const [name, bytes] of Object.entries(fixtures("v1", "raft-messages"))) {
    it(`is read: the Raft message ${name}`, () => {
      const wanted = samples.messages[name]!;
      const decoded = decodeMessage(bytes, wanted.from, wanted.to);
      assert.deepEqual(plain(decoded), plain(wanted));
    });
  }

  for (const [name, bytes] of Object.entries(fixtures("v1", "entry-payloads"))) {
    it(`is read: the log entry ${name}`, () => {
      assert.deepEqual(plain(decode(entryPayload, bytes, "entry")), plain(samples.payloads[name]));
    });
  }

  for (const [name, bytes] of Object.entries(fixtures("v1", "command-results"))) {
    it(`is read: the result ${name}, as sessions remember it`, () => {
      assert.deepEqual(plain(decode(commandResult, bytes, "result")), plain(samples.results[name]));
    });
  }

  for (const [name, bytes] of Object.entries(fixtures("v1", "rpc-frames"))) {
    it(`is read: the RPC frame ${name}`, () => {
      const frame = decodeFrame(bytes, "peer");
      const { schema, value } = callOf(name);
      if (schema === undefined) {
        const { kind } = frame;
        if (kind === "error") {
          const { code, message, outcome } = samples.error;
          const error = { code, message, outcome };
          const { error: found } = frame;
          assert.deepEqual(
            { code: found.code, message: found.message, outcome: found.outcome },
            error,
          );
        } else assert.equal(kind, name);
        return;
      }
      assert("body" in frame);
      assert.deepEqual(plain(decodeBody(schema, frame.body, name)), plain(value));
    });
  }

  it("is read: chunks of a snapshot", () => {
    const { rows, empty } = fixtures("v1", "snapshot-chunk");
    assert.deepEqual(plain(decodeChunk(rows!)), plain(samples.rows));
    assert.deepEqual(decodeChunk(empty!), []);
  });

  it("is read: how masters introduce themselves", () => {
    const found = fixtures("v1", "handshake");
    assert.deepEqual(plain(decode(hello, found["hello"]!, "hello")), plain(samples.hello));
    for (const [name, reply] of Object.entries(samples.helloReplies)) {
      assert.deepEqual(plain(decode(helloReply, found[name]!, "helloReply")), plain(reply));
    }
    const agreed = decode(formation, found["formation"]!, "formation");
    assert.deepEqual(plain(agreed), plain(samples.formation));
  });

  it("is read: a backup, which is restored into a master's directory", async () => {
    const path = fileURLToPath(new URL("fixtures/v1/small.weirbackup", import.meta.url));
    const { header, end } = await verifyBackup(path);
    assert.deepEqual([header.clusterName, header.master, end.inodes], ["weir", "master-1", 2]);
    await withTempDir(async (directory) => {
      const dataDir = join(directory, "data");
      const options = { config: loadConfig({}), logger: silentLogger };
      const about = { backup: path, dataDir, name: "master-1" };
      const { index } = await restoreBackup({ ...about, ...options });
      assert(index > header.index + 2 ** 33);
      const opening = { directory: join(dataDir, "state"), clock: systemClock };
      const store = await openStateStore({ ...opening, logger: silentLogger });
      const rootUri = mountsOf(store).map(({ uri }) => uri);
      await store.close();
      assert.deepEqual(rootUri, ["file:///srv/root"]);
    });
  });

  it("covers every command, every kind of Raft message that it had, and every frame", () => {
    const { requests } = decode(entryPayload, fixtures("v1", "entry-payloads")["all"]!, "entry");
    const kinds = requests.flatMap((request) => request.commands.map(({ kind }) => kind));
    assert.equal(new Set(kinds).size, 32);
    const messages = fixtures("v1", "raft-messages");
    assert.equal(new Set(Object.values(messages).map((bytes) => bytes[0])).size, 8);
    const frames = Object.values(fixtures("v1", "rpc-frames"));
    assert.equal(new Set(frames.map((bytes) => decodeFrame(bytes, "peer").kind)).size, 9);
  });
});

describe("what this version writes", () => {
  it("is an empty request for the status, as in version 1, where nothing more is asked for", () => {
    const { request } = masterApi.status;
    assert.equal(decodeBody(request, encodeBody(struct({}), {}), "status").exact, undefined);
    assert.deepEqual(decodeBody(struct({}), encodeBody(request, { exact: true }), "status"), {});
  });

  it("is byte for byte what version 1 wrote, where Raft messages have no room for more", () => {
    for (const [name, bytes] of Object.entries(fixtures("v1", "raft-messages"))) {
      assert.equal(
        encodeMessage(samples.messages[name]!).toString("hex"),
        bytes.toString("hex"),
        name,
      );
    }
    const { rows, empty } = fixtures("v1", "snapshot-chunk");
    assert.deepEqual(encodeChunk(samples.rows), rows);
    assert.deepEqual(encodeChunk([]), empty);
  });

  it("has all fields of version 1 in their places, and more only behind them", () => {
    const check = <T>(
      set: string,
      schema: Schema<T>,
      values: Readonly<Record<string, unknown>>,
    ) => {
      for (const [name, value] of Object.entries(values)) {
        const old = fixtures("v1", set)[name]!;
        const newer = encode(schema, value as T);
        assertReadable(packr.unpack(old), packr.unpack(newer), `${set} ${name}`);
      }
    };
    check("entry-payloads", entryPayload, samples.payloads);
    check("command-results", commandResult, samples.results);
    check("handshake", hello, { hello: samples.hello });
    check("handshake", helloReply, samples.helloReplies);
    check("handshake", formation, { formation: samples.formation });
  });

  it("is framed as version 1 did, whichever way a frame is written", () => {
    for (const [name, old] of Object.entries(fixtures("v1", "rpc-frames"))) {
      const frame = frameOf(name, old);
      assertReadable(packr.unpack(old), packr.unpack(encodeFrame(frame)), name);
      const head = Buffer.alloc(longestHeadBytes);
      const { bytes, body } = encodeInParts(frame, head);
      const whole = Buffer.concat([head.subarray(0, bytes), body]);
      assertReadable(packr.unpack(old), packr.unpack(whole), `${name} in parts`);
    }
  });
});

describe("fields that a later version appends", () => {
  const now = struct({ name: text, size: unsigned() });
  const later = struct({
    name: text,
    size: unsigned(),
    owner: optional(text),
    more: optional(now),
  });
  const value = { name: "a", size: 5, owner: "b", more: { name: "c", size: 6 } };

  it("are ignored by this one, in values on a disk and in bodies on the wire", () => {
    assert.deepEqual(decode(now, encode(later, value), "value"), { name: "a", size: 5 });
    assert.deepEqual(decodeBody(now, encodeBody(later, value), "body"), { name: "a", size: 5 });
  });

  it("are undefined where this one wrote none", () => {
    const read = decode(later, encode(now, { name: "a", size: 5 }), "value");
    assert.deepEqual(plain(read), { name: "a", size: 5 });
    assert.equal(read.owner, undefined);
  });

  it("are ignored behind what this version knows of commands, statuses and frames", () => {
    const { all } = fixtures("v1", "entry-payloads");
    const [version, [clusterTimeMs, wallTime, requests]] = packr.unpack(all!) as [
      number,
      [number, unknown, unknown[][]],
    ];
    // One more field on the entry, on each request, and on each command, behind those that this version appended.
    const behind = [...new Array<null>(32).fill(null), "new"];
    const grown = requests.map((request) => [
      ...request.slice(0, 4),
      (request[4] as [string, unknown[]][]).map(([kind, fields]) => [kind, [...fields, ...behind]]),
      ...behind,
    ]);
    const bytes = packr.pack([version, [clusterTimeMs, wallTime, grown, ...behind]]);
    assert.deepEqual(plain(decode(entryPayload, bytes, "entry")), plain(samples.payloads["all"]));

    const { replyStatus } = fixtures("v1", "rpc-frames");
    const [kind, id, body] = packr.unpack(replyStatus!) as [number, number, unknown[]];
    const frame = decodeFrame(packr.pack([kind, id, [...body, ...behind], "new"]), "peer");
    assert(frame.kind === "reply");
    const status = decodeBody(masterApi.status.response, frame.body, "status");
    assert.deepEqual(plain(status), plain(samples.bodiesOfCalls.status));
  });

  it("of a format with another version number are refused, with the number", () => {
    const newer = encode(formation, samples.formation, 2);
    assert.throws(
      () => decode(formation, newer, "formation"),
      /"formation": got 2, wanted version 1 or older/,
    );
  });
});

/** The schema and value of the body of a frame's fixture, where it has one. */
function callOf(name: string): { schema: Schema<unknown> | undefined; value: unknown } {
  const { mutate, mutated, status, change } = samples.bodiesOfCalls;
  const of = (schema: unknown, value: unknown) => ({ schema: schema as Schema<unknown>, value });
  switch (name) {
    case "request":
      return of(masterApi.mutate.request, mutate);
    case "reply":
      return of(masterApi.mutate.response, mutated);
    case "replyStatus":
      return of(masterApi.status.response, status);
    case "item":
      return of(masterApi.subscribe.item, change);
    default:
      return { schema: undefined, value: undefined };
  }
}

/** The frame of a fixture, with its body written anew. */
function frameOf(name: string, old: Buffer): Frame {
  const frame = decodeFrame(old, "peer");
  const { schema, value } = callOf(name);
  if (schema === undefined || !("body" in frame)) return frame;
  return { ...frame, body: encodeBody(schema, value) };
}
