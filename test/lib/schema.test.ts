import assert from "node:assert/strict";
import fc from "fast-check";
import { hasCode } from "../../src/lib/errors.ts";
import type { InodeId } from "../../src/lib/ids.ts";
import {
  bytes,
  decode,
  encode,
  type Infer,
  list,
  name,
  optional,
  struct,
  text,
  textMap,
  union,
  unsigned,
  word,
} from "../../src/lib/schema.ts";
import { command, type Command, request } from "../../src/rpc/commands.ts";

const sample = struct({
  count: unsigned(),
  label: text,
  path: name,
  raw: bytes,
  tags: list(word("hot", "cold")),
  extra: optional(unsigned()),
  options: textMap,
});

const latin1 = fc
  .uint8Array({ maxLength: 40 })
  .map((octets) => Buffer.from(octets).toString("latin1"));

const sampleValue: fc.Arbitrary<Infer<typeof sample>> = fc.record(
  {
    count: fc.maxSafeNat(),
    label: fc.string({ unit: "grapheme" }),
    path: latin1,
    raw: fc.uint8Array({ maxLength: 100 }).map((octets) => Buffer.from(octets)),
    tags: fc.array(fc.constantFrom("hot" as const, "cold" as const)),
    extra: fc.option(fc.maxSafeNat(), { nil: undefined }),
    options: fc.dictionary(
      fc.string({ minLength: 1 }).filter((key) => key !== "__proto__"),
      fc.string(),
      { noNullPrototype: true },
    ),
  },
  { noNullPrototype: true },
);

describe("schema", () => {
  it("returns every value that it encoded", () => {
    fc.assert(
      fc.property(sampleValue, (value) => {
        const decoded = decode(sample, encode(sample, value), "sample");
        assert.deepEqual({ ...decoded, raw: Buffer.from(decoded.raw) }, value);
      }),
    );
  });

  it("keeps every byte of a name", () => {
    const all = Buffer.from(Array.from({ length: 256 }, (_, octet) => octet)).toString("latin1");
    assert.equal(decode(name, encode(name, all), "name"), all);
  });

  it("fills appended optional fields of an older writer and ignores those of a newer one", () => {
    const older = struct({ a: unsigned() });
    const newer = struct({ a: unsigned(), b: optional(text) });
    assert.deepEqual(decode(newer, encode(older, { a: 7 }), "value"), { a: 7, b: undefined });
    assert.deepEqual(decode(older, encode(newer, { a: 7, b: "x" }), "value"), { a: 7 });
  });

  it("names the place of a field of the wrong type", () => {
    const wrong = encode(struct({ inner: struct({ a: text }) }), { inner: { a: "no number" } });
    assert.throws(
      () => decode(struct({ inner: struct({ a: unsigned() }) }), wrong, "request"),
      /Cannot decode "request\.inner\.a": got "no number", wanted an integer/,
    );
    const commands = (of: typeof text | ReturnType<typeof unsigned>) =>
      struct({ commands: list(union({ make: { size: of as typeof text } })) });
    const second = [
      { kind: "make", size: 1 },
      { kind: "make", size: "big" },
    ] as unknown as { kind: "make"; size: string }[];
    assert.throws(
      () => decode(commands(unsigned()), encode(commands(text), { commands: second }), "request"),
      /Cannot decode "request\.commands\[1\]\.make\.size": got "big"/,
    );
  });

  it("answers any bytes with a value or a ProtocolError, never another error", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (octets) => {
        try {
          decode(request, octets, "request");
        } catch (error) {
          assert.ok(hasCode(error, "ProtocolError"), String(error));
        }
      }),
      { numRuns: 2000 },
    );
  });

  it("answers a flipped byte of a real message with a value or a ProtocolError", () => {
    const unlink: Command = { kind: "unlink", parent: 1 as InodeId, name: "a", held: false };
    const message = encode(command, unlink);
    for (let at = 0; at < message.length; at++) {
      for (let bit = 0; bit < 8; bit++) {
        const damaged = Buffer.from(message);
        damaged[at]! ^= 1 << bit;
        try {
          decode(command, damaged, "command");
        } catch (error) {
          assert.ok(hasCode(error, "ProtocolError"), String(error));
        }
      }
    }
  });

  it("refuses a version that it does not know", () => {
    assert.throws(() => decode(text, encode(text, "x", 2), "value"), /wanted version 1 or older/);
  });

  it("tells the variants of a union apart", () => {
    const shape = union({ circle: { radius: unsigned() }, point: {} });
    assert.deepEqual(decode(shape, encode(shape, { kind: "circle", radius: 3 }), "shape"), {
      kind: "circle",
      radius: 3,
    });
    assert.throws(
      () => decode(union({ point: {} }), encode(shape, { kind: "circle", radius: 3 }), "shape"),
      /wanted one of point/,
    );
  });
});
