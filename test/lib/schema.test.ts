import assert from "node:assert/strict";
import fc from "fast-check";
import { hasCode, WeirError } from "../../src/lib/errors.ts";
import type { InodeId, WriteId } from "../../src/lib/ids.ts";
import { Packr } from "msgpackr";
import { unfit } from "../../src/lib/msgpack.ts";
import {
  boolean,
  bytes,
  decode,
  encode,
  float,
  type Infer,
  list,
  name,
  optional,
  pair,
  type Schema,
  signed,
  struct,
  text,
  textMap,
  union,
  unsigned,
  word,
} from "../../src/lib/schema.ts";
import { command, type Command, commandResult, request } from "../../src/rpc/commands.ts";

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

/** What the general codec makes of bytes: the value, or what is wrong with them. */
function outcomeOf(read: () => unknown): unknown {
  try {
    return { value: read() };
  } catch (error) {
    assert.ok(error instanceof WeirError, String(error));
    return { error: error.message };
  }
}

/** `decode` over plain values alone. */
function decodeInGeneral<T>(schema: Schema<T>, encoded: Uint8Array): T {
  const refuse = (): never => {
    throw unfit;
  };
  return decode({ ...schema, write: refuse, read: refuse }, encoded, "it");
}

const packr = new Packr({ useRecords: false, int64AsType: "number", variableMapSize: true });

const text40 = fc.oneof(fc.string({ unit: "grapheme", maxLength: 40 }), fc.string());
const number = fc.oneof(
  fc.maxSafeNat(),
  fc.nat(300),
  fc.constantFrom(0x7f, 0x80, 0xff, 0x100, 0xffff, 0x10000, 2 ** 31, 2 ** 32 - 1, 2 ** 32),
);
/** Of all forms of fields, present and absent, short and long. */
const broad = struct({
  count: unsigned(),
  shift: signed,
  share: float,
  yes: boolean,
  label: text,
  path: name,
  raw: bytes,
  color: word("red", "green", "blue"),
  extra: optional(unsigned()),
  inner: struct({ a: optional(text), b: optional(struct({ c: name })) }),
  many: list(pair(text, unsigned())),
  shape: union({ circle: { radius: unsigned() }, point: {}, text: { text, more: optional(name) } }),
  options: textMap,
  result: commandResult,
  late: optional(name),
});
const broadValue = fc.record({
  count: number,
  shift: fc.oneof(fc.maxSafeInteger(), fc.integer({ min: -40_000, max: 40_000 })),
  share: fc.oneof(fc.double({ noNaN: true, noDefaultInfinity: true }), fc.integer()),
  yes: fc.boolean(),
  label: text40,
  path: fc.uint8Array({ maxLength: 300 }).map((octets) => Buffer.from(octets).toString("latin1")),
  raw: fc.uint8Array({ maxLength: 300 }).map((octets) => Buffer.from(octets)),
  color: fc.constantFrom("red" as const, "green" as const, "blue" as const),
  extra: fc.option(number, { nil: undefined }),
  inner: fc.record({
    a: fc.option(text40, { nil: undefined }),
    b: fc.option(fc.record({ c: fc.constantFrom("", "x") }), { nil: undefined }),
  }),
  many: fc.array(fc.tuple(text40, number), { maxLength: 20 }),
  shape: fc.oneof(
    fc.record({ kind: fc.constant("circle" as const), radius: number }),
    fc.record({ kind: fc.constant("point" as const) }),
    fc.record({ kind: fc.constant("text" as const), text: text40, more: fc.constant(undefined) }),
  ),
  options: fc.constantFrom({}, { a: "b" }),
  result: fc.oneof(
    fc.record({
      ok: fc.constant(true as const),
      status: fc.constant(undefined),
      writeId: fc.option(
        number.map((id) => id as WriteId),
        { nil: undefined },
      ),
      id: fc.option(number, { nil: undefined }),
    }),
    fc.record({
      ok: fc.constant(false as const),
      code: fc.constantFrom("NotFound" as const, "Busy" as const),
      detail: text40,
    }),
  ),
  late: fc.option(fc.constant("late"), { nil: undefined }),
});

describe("schema", () => {
  it("writes the bytes of the general codec, and reads them as it does", () => {
    fc.assert(
      fc.property(broadValue, (value) => {
        const encoded = encode(broad, value);
        assert.deepEqual(encoded, packr.pack([1, broad.toWire(value)]));
        assert.deepEqual(decode(broad, encoded, "it"), decodeInGeneral(broad, encoded));
      }),
      { numRuns: 1000 },
    );
  });

  it("makes of any damage to a message what the general codec makes of it", () => {
    const damage = fc.tuple(fc.nat(), fc.nat(255), fc.nat(3));
    fc.assert(
      fc.property(broadValue, damage, (value, [place, octet, cut]) => {
        const encoded = Buffer.from(encode(broad, value));
        encoded[place % encoded.length] = octet;
        const left = encoded.subarray(0, encoded.length - cut);
        assert.deepEqual(
          outcomeOf(() => decode(broad, left, "it")),
          outcomeOf(() => decodeInGeneral(broad, left)),
        );
      }),
      { numRuns: 5000 },
    );
  });

  it("hands out bytes that later messages do not touch, however long they are", () => {
    const kept: [Buffer, string][] = [];
    for (let i = 0; i < 400; i++) {
      const of = String(i).repeat(1 + ((i * i) % 3000));
      kept.push([encode(list(text), [of, of]), of]);
    }
    const long = "x".repeat(300_000);
    kept.push([encode(list(text), [long, long]), long]);
    for (const [encoded, of] of kept) {
      assert.deepEqual(decode(list(text), encoded, "it"), [of, of]);
    }
  });

  it("weighs a value by what it holds", () => {
    const short = broad.weigh({ ...fc.sample(broadValue, 1)[0]!, path: "" });
    assert.ok(short > 0);
    const names = list(name);
    assert.ok(names.weigh(["a".repeat(1000)]) >= 1000);
    assert.ok(names.weigh(Array.from({ length: 1000 }, () => "a")) >= 8000);
  });

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

  it("names also what JSON does not know", () => {
    const hostile = new Packr({ moreTypes: true }).pack([1, [new BigInt64Array([5n])]]);
    assert.throws(
      () => decode(struct({ count: unsigned() }), hostile, "message"),
      (error) => hasCode(error, "ProtocolError"),
    );
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

  it("writes no number that it could not read again", () => {
    const unfitNumbers = [2 ** 53, 2 ** 60, -(2 ** 53), 0.5, Number.NaN, Number.POSITIVE_INFINITY];
    const sent = struct({ count: unsigned(), delta: signed, others: list(unsigned()) });
    const good = { count: 1, delta: -1, others: [2] };
    for (const bad of [...unfitNumbers, -1, -(2 ** 40)]) {
      for (const value of [
        { ...good, count: bad },
        { ...good, others: [bad] },
      ]) {
        assert.throws(
          () => encode(sent, value),
          (thrown) => hasCode(thrown, "InvalidArgument"),
        );
      }
    }
    for (const bad of unfitNumbers) {
      assert.throws(
        () => encode(sent, { ...good, delta: bad }),
        (thrown) => hasCode(thrown, "InvalidArgument"),
      );
    }
    const extreme = { count: 2 ** 53 - 1, delta: -(2 ** 53 - 1), others: [2 ** 40] };
    assert.deepEqual(decode(sent, encode(sent, extreme), "sent"), extreme);
  });

  it("reads the text that it would write again", () => {
    // Half a pair of surrogates as three bytes, which no UTF-8 has.
    const half = Buffer.from([0x92, 0x01, 0xa4, 0xed, 0xa0, 0x80, 0x78]);
    for (const start of [half, encode(text, "\ud800"), encode(text, `\ud800${"x".repeat(300)}`)]) {
      const first = decode(text, start, "text");
      assert.equal(decode(text, encode(text, first), "text"), first);
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
