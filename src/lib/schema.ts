/**
 * Schemas of what goes on a wire or to a disk: each is a pair of functions between a TypeScript value and plain
 * msgpack values (numbers, strings, byte strings, arrays, nil). A struct becomes an array of its fields, so messages are
 * small, and decoding checks every field: hostile bytes end in a `ProtocolError` that names the place, never in a
 * value of the wrong type.
 *
 * Invariants
 * 1. Compatibility: fields are only ever appended, and an appended field is `optional`; a reader fills what an older
 *    writer did not know with `undefined` and ignores what a newer one added.
 * 2. `write` and `read` go straight between values and bytes and agree with `toWire` and `fromWire` in all that they do.
 *    What they do not do they refuse with `unfit`; `encode` and `decode` then go the long way, which also finds the words
 *    for what is wrong.
 */
import { compileFunction } from "node:vm";
import { Packr } from "msgpackr";
import { WeirError } from "./errors.ts";
import { isLatin1, Reader, type Span, unfit, Words, Writer } from "./msgpack.ts";
import { shortened } from "./shortened.ts";

/** Both directions between a value and its msgpack form. `at` names the place in error messages. */
export interface Schema<T> {
  toWire(value: T): unknown;
  fromWire(wire: unknown, at: string): T;
  write(writer: Writer, value: T): void;
  read(reader: Reader): T;
  /** Roughly what a value costs in the heap, in bytes. */
  weigh(value: T): number;
}

/** The schema of a struct. */
export interface StructSchema<T> extends Schema<T> {
  /** A copy of `value` with other values for some fields, of the same shape as all of its kind: far faster than a spread. */
  with(value: T, patch: Partial<T>): T;
}

/** The TypeScript type that a schema describes. */
export type Infer<S> = S extends Schema<infer T> ? T : never;

/** What does not fit, and where: the place is spelled out only once something failed. */
class Misfit {
  readonly place: string;
  readonly wanted: string;
  readonly got: string;

  constructor(place: string, wanted: string, got: string) {
    this.place = place;
    this.wanted = wanted;
    this.got = got;
  }

  get error(): WeirError {
    const message = `Cannot decode "${this.place}": got ${this.got}, wanted ${this.wanted}`;
    return new WeirError("ProtocolError", message, { cause: this });
  }
}

function fail(at: string, wanted: string, got: unknown): never {
  throw new Misfit(at, wanted, shown(got)).error;
}

/** A stranger's value, in few words: it may be as long as a message may be, and JSON makes six bytes of one. */
function shown(got: unknown): string {
  if (got instanceof Uint8Array) return `${String(got.length)} bytes`;
  if (Array.isArray(got)) return `a list of ${String(got.length)}`;
  if (got === undefined) return "nothing";
  if (got === null) return "null";
  if (typeof got === "string") return JSON.stringify(shortened(got));
  // Integers of 64 bits are nothing that JSON knows.
  if (typeof got === "bigint") return String(got);
  return typeof got === "object" ? "an object" : JSON.stringify(got);
}

/** The error of something below `at`, as seen from there. */
function below(at: string, error: unknown): unknown {
  if (!(error instanceof WeirError && error.cause instanceof Misfit)) return error;
  const { place, wanted, got } = error.cause;
  const separator = at === "" || place === "" || place.startsWith("[") ? "" : ".";
  return new Misfit(`${at}${separator}${place}`, wanted, got).error;
}

const wordBytes = 8;
/** Of an object or an array, beyond its fields. */
const objectBytes = 24;

/** An unsigned integer below 2^53, as a branded or a plain number. */
export function unsigned<T extends number = number>(): Schema<T> {
  return anyUnsigned as Schema<T>;
}

/** Says that a value of ours is none: it is not written, since nobody could read it again. */
function unwritable(value: unknown, wanted: string): never {
  throw new WeirError("InvalidArgument", `Cannot encode "${String(value)}": wanted ${wanted}`);
}

const anyUnsigned: Schema<number> = {
  toWire: (value) =>
    Number.isSafeInteger(value) && value >= 0
      ? value
      : unwritable(value, "an integer from 0 to 2^53 - 1"),
  fromWire: (wire, at) =>
    typeof wire === "number" && Number.isSafeInteger(wire) && wire >= 0
      ? wire
      : fail(at, "an integer from 0 to 2^53 - 1", wire),
  write: (writer, value) => writer.number(value),
  read: (reader) => reader.unsigned(),
  weigh: () => wordBytes,
};

/** A signed integer of at most 53 bits. */
export const signed: Schema<number> = {
  toWire: (value) => (Number.isSafeInteger(value) ? value : unwritable(value, "an integer")),
  fromWire: (wire, at) =>
    typeof wire === "number" && Number.isSafeInteger(wire) ? wire : fail(at, "an integer", wire),
  write: (writer, value) => writer.number(value),
  read: (reader) => reader.signed(),
  weigh: () => wordBytes,
};

/** Any finite number (statistics only: nothing of the replicated state is a float). */
export const float: Schema<number> = {
  toWire: (value) => value,
  fromWire: (wire, at) =>
    typeof wire === "number" && Number.isFinite(wire) ? wire : fail(at, "a number", wire),
  write: (writer, value) => writer.float(value),
  read: (reader) => reader.float(),
  weigh: () => wordBytes,
};

export const boolean: Schema<boolean> = {
  toWire: (value) => value,
  fromWire: (wire, at) => (typeof wire === "boolean" ? wire : fail(at, "true or false", wire)),
  write: (writer, value) => writer.boolean(value),
  read: (reader) => reader.boolean(),
  weigh: () => wordBytes,
};

/** Text as it will be when it was written and read again: half a pair of surrogates has no UTF-8. */
function wellFormed(value: string): string {
  return value.replace(/\p{Surrogate}/gu, "\ufffd");
}

/** Text for people, as UTF-8. For file names see `name`. */
export const text: Schema<string> = {
  toWire: (value) => value,
  fromWire: (wire, at) =>
    typeof wire === "string" ? wellFormed(wire) : fail(at, "a string", wire),
  write: (writer, value) => writer.text(value),
  read: (reader) => reader.text(),
  weigh: (value) => objectBytes + value.length,
};

/** Raw bytes; the decoded array is a view of the message: copy it to keep it beyond the message. */
export const bytes: Schema<Uint8Array> = {
  toWire: (value) => value,
  fromWire: (wire, at) => (wire instanceof Uint8Array ? wire : fail(at, "bytes", wire)),
  write: (writer, value) => writer.bytes(value),
  read: (reader) => reader.bytes(),
  weigh: (value) => 100 + value.length,
};

/** A name or path of the namespace: bytes on the wire, a latin1 string (one character per byte) in the heap. */
export const name: Schema<string> = {
  toWire: (value) =>
    isLatin1(value)
      ? Buffer.from(value, "latin1")
      : unwritable(shortened(value), "a name with one character per byte"),
  fromWire: (wire, at) =>
    wire instanceof Uint8Array
      ? Buffer.from(wire.buffer, wire.byteOffset, wire.byteLength).toString("latin1")
      : fail(at, "the bytes of a name", wire),
  write: (writer, value) => writer.name(value),
  read: (reader) => reader.name(),
  weigh: (value) => objectBytes + value.length,
};

/** One of a closed list of words, sent as its text. */
export function word<const W extends readonly string[]>(...words: W): Schema<W[number]> {
  const known = new Set<string>(words);
  const places = new Words(words);
  return {
    toWire: (value) => value,
    fromWire: (wire, at) =>
      typeof wire === "string" && known.has(wire)
        ? wire
        : fail(at, `one of ${words.join(", ")}`, wire),
    write: (writer, value) => writer.text(value),
    read: (reader) => words[reader.word(places)]!,
    weigh: () => wordBytes,
  };
}

/** Schemas made by `optional`, with what they make optional. */
const optionals = new WeakMap<Schema<never>, Schema<unknown>>();

/** A value that may be absent: `undefined` in the heap, nil (or a missing last field) on the wire. */
export function optional<T>(schema: Schema<T>): Schema<T | undefined> {
  const made: Schema<T | undefined> = {
    toWire: (value) => (value === undefined ? null : schema.toWire(value)),
    fromWire: (wire, at) =>
      wire === null || wire === undefined ? undefined : schema.fromWire(wire, at),
    write: (writer, value) => {
      if (value === undefined) writer.nil();
      else schema.write(writer, value);
    },
    read: (reader) => (reader.nil() ? undefined : schema.read(reader)),
    weigh: (value) => (value === undefined ? wordBytes : schema.weigh(value)),
  };
  optionals.set(made as Schema<never>, schema);
  return made;
}

declare const isAppended: unique symbol;
/** The schema of a field that a struct did not have at first. */
export interface Appended<T> extends Schema<T | undefined> {
  readonly [isAppended]: true;
}

/** As `optional`, for a field that came later: values may leave it away, so that what they are made by stays as it is. */
export function appended<T>(schema: Schema<T>): Appended<T> {
  return optional(schema) as Appended<T>;
}

export function list<T>(schema: Schema<T>): Schema<readonly T[]> {
  return {
    toWire: (values) => values.map((value) => schema.toWire(value)),
    fromWire: (wire, at) => {
      if (!Array.isArray(wire)) return fail(at, "a list", wire);
      const values = new Array<T>(wire.length);
      let i = 0;
      try {
        for (; i < wire.length; i++) values[i] = schema.fromWire(wire[i], "");
      } catch (error) {
        throw below(`${at}[${String(i)}]`, error);
      }
      return values;
    },
    write: (writer, values) => {
      const { length } = values;
      writer.list(length);
      for (let i = 0; i < length; i++) schema.write(writer, values[i]!);
    },
    read: (reader) => {
      const length = reader.list();
      const values: T[] = [];
      for (let i = 0; i < length; i++) values.push(schema.read(reader));
      return values;
    },
    weigh: (values) => {
      let weight = objectBytes;
      for (let i = 0; i < values.length; i++) weight += schema.weigh(values[i]!);
      return weight;
    },
  };
}

/** A small dictionary of texts (mount options, environment). */
export const textMap: Schema<Readonly<Record<string, string>>> = {
  toWire: (value) => Object.entries(value),
  fromWire: (wire, at) => Object.fromEntries(textPairs.fromWire(wire, at)),
  write: (writer, value) => textPairs.write(writer, Object.entries(value)),
  read: (reader) => Object.fromEntries(textPairs.read(reader)),
  weigh: (value) => textPairs.weigh(Object.entries(value)),
};

export function pair<A, B>(first: Schema<A>, second: Schema<B>): Schema<readonly [A, B]> {
  return {
    toWire: ([a, b]) => [first.toWire(a), second.toWire(b)],
    fromWire: (wire, at) =>
      Array.isArray(wire) && wire.length === 2
        ? [first.fromWire(wire[0], `${at}[0]`), second.fromWire(wire[1], `${at}[1]`)]
        : fail(at, "a pair", wire),
    write: (writer, [a, b]) => {
      writer.list(2);
      first.write(writer, a);
      second.write(writer, b);
    },
    read: (reader) => {
      if (reader.list() !== 2) throw unfit;
      return [first.read(reader), second.read(reader)];
    },
    weigh: ([a, b]) => objectBytes + first.weigh(a) + second.weigh(b),
  };
}

const textPairs = list(pair(text, text));

type Fields = Readonly<Record<string, Schema<unknown>>>;
type AppendedKeys<F> = { [K in keyof F]: F[K] extends Appended<unknown> ? K : never }[keyof F];
type StructOf<F extends Fields> = {
  readonly [K in Exclude<keyof F, AppendedKeys<F>>]: Infer<F[K]>;
} & { readonly [K in AppendedKeys<F>]?: Infer<F[K]> };

/** A fixed list of fields, in this order on the wire. */
export function struct<F extends Fields>(fields: F): StructSchema<StructOf<F>> {
  const entries = Object.entries(fields);
  return {
    toWire: (value) => {
      const wire = new Array<unknown>(entries.length);
      for (let i = 0; i < entries.length; i++) {
        const [key, schema] = entries[i]!;
        wire[i] = schema.toWire(value[key as keyof StructOf<F>]);
      }
      return wire;
    },
    fromWire: (wire, at) => {
      if (!Array.isArray(wire)) fail(at, "a list of fields", wire);
      const value: Record<string, unknown> = {};
      try {
        for (let i = 0; i < entries.length; i++) {
          const [key, schema] = entries[i]!;
          value[key] = schema.fromWire(wire[i], key);
        }
      } catch (error) {
        throw below(at, error);
      }
      return value as StructOf<F>;
    },
    ...(compiled(entries, undefined) as Direct<StructOf<F>>),
  };
}

type Direct<T> = Pick<StructSchema<T>, "write" | "read" | "weigh" | "with">;

/** How generated code writes and reads the plainest fields; all others ask their schema. */
const plainFields = new Map<Schema<never>, { write: string; read: string }>([
  [anyUnsigned as Schema<never>, { write: "number", read: "unsigned" }],
  [signed as Schema<never>, { write: "number", read: "signed" }],
  [boolean as Schema<never>, { write: "boolean", read: "boolean" }],
  [text as Schema<never>, { write: "text", read: "text" }],
  [name as Schema<never>, { write: "name", read: "name" }],
]);

/**
 * `write`, `read` and `weigh` of a struct as straight-line code, made once: objects of one shape, each field's code
 * seeing values of one type. `kind` is added to what is read, where it is given.
 */
function compiled(
  entries: readonly (readonly [string, Schema<unknown>])[],
  kind: string | undefined,
): unknown {
  const schemas: Schema<unknown>[] = [];
  const [writes, reads, weighs, made]: [string[], string[], string[], string[]] = [[], [], [], []];
  const copied = entries.map(([key]) => `${JSON.stringify(key)}: value[${JSON.stringify(key)}]`);
  if (kind !== undefined) {
    made.push(`kind: ${JSON.stringify(kind)}`);
    copied.unshift("kind: value.kind");
  }
  let needed = entries.length;
  while (needed > 0 && optionals.has(entries[needed - 1]![1] as Schema<never>)) needed--;
  for (const [i, [key, schema]] of entries.entries()) {
    const inner = optionals.get(schema as Schema<never>);
    const of = inner ?? schema;
    const plain = plainFields.get(of as Schema<never>);
    const at = String(i);
    schemas.push(of);
    const value = `value[${JSON.stringify(key)}]`;
    const write =
      plain === undefined
        ? `schema${at}.write(writer, ${value});`
        : `writer.${plain.write}(${value});`;
    const read = plain === undefined ? `schema${at}.read(reader)` : `reader.${plain.read}()`;
    const orNil = i >= needed ? `length <= ${at} || reader.nil()` : "reader.nil()";
    writes.push(
      inner === undefined ? write : `if (${value} === undefined) writer.nil(); else ${write}`,
    );
    reads.push(
      `const field${at} = ${inner === undefined ? read : `${orNil} ? undefined : ${read}`};`,
    );
    made.push(`${JSON.stringify(key)}: field${at}`);
    if (plain === undefined || plain.write === "text" || plain.write === "name") {
      weighs.push(
        inner === undefined
          ? ` + schema${at}.weigh(${value})`
          : ` + (${value} === undefined ? 0 : schema${at}.weigh(${value}))`,
      );
    }
  }
  const base = String(objectBytes + wordBytes * (entries.length + (kind === undefined ? 0 : 1)));
  const code = `return {
    write(writer, value) { writer.list(${String(entries.length)}); ${writes.join("\n")} },
    read(reader) {
      const length = reader.list();
      if (length < ${String(needed)} || length > ${String(entries.length)}) throw unfit;
      ${reads.join("\n")}
      return { ${made.join(", ")} };
    },
    weigh(value) { return ${base}${weighs.join("")}; },
    with(value, patch) {
      const made = { ${copied.join(", ")} };
      for (const key in patch) made[key] = patch[key];
      return made;
    },
  };`;
  const names = schemas.map((_, i) => `schema${String(i)}`);
  const make = compileFunction(code, ["unfit", ...names]) as (...of: unknown[]) => unknown;
  return make(unfit, ...schemas);
}

type UnionOf<V extends Readonly<Record<string, Fields>>> = {
  [K in keyof V]: { readonly kind: K } & StructOf<V[K]>;
}[keyof V];

/** A discriminated union on `kind`: the word first, the fields of that kind after it. */
export function union<V extends Readonly<Record<string, Fields>>>(variants: V): Schema<UnionOf<V>> {
  const kinds = Object.keys(variants);
  const schemas = new Map<string, Schema<unknown>>(
    Object.entries(variants).map(([kind, fields]) => [kind, struct(fields)]),
  );
  const direct = kinds.map(
    (kind) => compiled(Object.entries(variants[kind]!), kind) as Direct<UnionOf<V>>,
  );
  const byKind = new Map(kinds.map((kind, i) => [kind, direct[i]!]));
  const words = new Words(kinds);
  return {
    toWire: (value) => [value.kind, schemas.get(value.kind as string)!.toWire(value)],
    fromWire: (wire, at) => {
      const kind: unknown = Array.isArray(wire) ? wire[0] : undefined;
      const schema = typeof kind === "string" ? schemas.get(kind) : undefined;
      if (schema === undefined) fail(at, `one of ${[...schemas.keys()].join(", ")}`, kind);
      try {
        const fields = schema.fromWire((wire as unknown[])[1], kind as string);
        return { kind, ...(fields as object) } as UnionOf<V>;
      } catch (error) {
        throw below(at, error);
      }
    },
    write: (writer, value) => {
      writer.list(2);
      writer.text(value.kind as string);
      byKind.get(value.kind as string)!.write(writer, value);
    },
    read: (reader) => {
      if (reader.list() !== 2) throw unfit;
      return direct[reader.word(words)]!.read(reader);
    },
    weigh: (value) => byKind.get(value.kind as string)!.weigh(value),
  };
}

const packr = new Packr({ useRecords: false, int64AsType: "number", variableMapSize: true });

const writer = new Writer();
const reader = new Reader();

/** The bytes of `value`, preceded by the version of its format. */
export function encode<T>(schema: Schema<T>, value: T, version = 1): Buffer {
  writer.begin();
  try {
    writer.list(2);
    writer.number(version);
    schema.write(writer, value);
    return writer.take();
  } catch (thrown) {
    if (thrown !== unfit) throw thrown;
    return packr.pack([version, schema.toWire(value)]);
  }
}

/** As `encode`, to where `into` writes; tells `span` where that is. */
export function encodeSpan<T>(into: Writer, schema: Schema<T>, value: T, span: Span): void {
  into.begin();
  try {
    into.list(2);
    into.number(1);
    schema.write(into, value);
    into.takeSpan(span);
  } catch (thrown) {
    if (thrown !== unfit) throw thrown;
    span.chunk = packr.pack([1, schema.toWire(value)]);
    span.start = 0;
    span.end = span.chunk.length;
  }
}

/** The value of bytes [start, end) of `chunk`, as `decode`. */
export function decodeSpan<T>(
  schema: Schema<T>,
  { chunk, start, end }: { readonly chunk: Buffer; readonly start: number; readonly end: number },
  at: string,
): T {
  return (
    readDirectly(schema, chunk, start, end, 1) ?? decode(schema, chunk.subarray(start, end), at)
  );
}

/**
 * The value of bytes written by `encode`.
 * @throws WeirError `ProtocolError` for bytes that are no msgpack, a version from 2 on, or a field of the wrong type
 */
export function decode<T>(
  schema: Schema<T>,
  encoded: Uint8Array,
  at: string,
  newestVersion = 1,
): T {
  return (
    readDirectly(schema, encoded, 0, encoded.length, newestVersion) ??
    decodeAny(schema, encoded, at, newestVersion)
  );
}

/** Undefined where the long way has to decide. */
function readDirectly<T>(
  schema: Schema<T>,
  encoded: Uint8Array,
  start: number,
  end: number,
  newestVersion: number,
): T | undefined {
  reader.begin(encoded, start, end);
  try {
    if (reader.list() === 2 && reader.unsigned() <= newestVersion) {
      const value = schema.read(reader);
      if (reader.isAtEnd) return value;
    }
  } catch (thrown) {
    if (thrown !== unfit) throw thrown;
  } finally {
    reader.end();
  }
  return undefined;
}

/** The long way, which knows all forms of msgpack and says what is wrong. */
function decodeAny<T>(
  schema: Schema<T>,
  encoded: Uint8Array,
  at: string,
  newestVersion: number,
): T {
  let wire: unknown;
  try {
    wire = packr.unpack(encoded);
  } catch (cause) {
    throw new WeirError("ProtocolError", `Cannot decode "${at}": the bytes are no msgpack`, {
      cause,
    });
  }
  if (!Array.isArray(wire) || typeof wire[0] !== "number") fail(at, "a versioned value", wire);
  if (wire[0] > newestVersion) fail(at, `version ${String(newestVersion)} or older`, wire[0]);
  return schema.fromWire(wire[1], at);
}
