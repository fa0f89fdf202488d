/**
 * Schemas of what goes on a wire or to a disk: each is a pair of functions between a TypeScript value and plain
 * msgpack values (numbers, strings, byte strings, arrays, nil). A struct becomes an array of its fields, so messages are
 * small, and decoding checks every field: hostile bytes end in a `ProtocolError` that names the place, never in a
 * value of the wrong type.
 *
 * Compatibility: fields are only ever appended, and an appended field is `optional`; a reader fills what an older
 * writer did not know with `undefined` and ignores what a newer one added.
 */
import { Packr } from "msgpackr";
import { WeirError } from "./errors.ts";

/** Both directions between a value and its msgpack form. `at` names the place in error messages. */
export interface Schema<T> {
  toWire(value: T): unknown;
  fromWire(wire: unknown, at: string): T;
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
  const shown = got instanceof Uint8Array ? `${String(got.length)} bytes` : JSON.stringify(got);
  throw new Misfit(at, wanted, shown ?? "nothing").error;
}

/** The error of something below `at`, as seen from there. */
function below(at: string, error: unknown): unknown {
  if (!(error instanceof WeirError && error.cause instanceof Misfit)) return error;
  const { place, wanted, got } = error.cause;
  const separator = at === "" || place === "" || place.startsWith("[") ? "" : ".";
  return new Misfit(`${at}${separator}${place}`, wanted, got).error;
}

/** An unsigned integer below 2^53, as a branded or a plain number. */
export function unsigned<T extends number = number>(): Schema<T> {
  return {
    toWire: (value) => value,
    fromWire: (wire, at) =>
      typeof wire === "number" && Number.isSafeInteger(wire) && wire >= 0
        ? (wire as T)
        : fail(at, "an integer from 0 to 2^53 - 1", wire),
  };
}

/** A signed integer of at most 53 bits. */
export const signed: Schema<number> = {
  toWire: (value) => value,
  fromWire: (wire, at) =>
    typeof wire === "number" && Number.isSafeInteger(wire) ? wire : fail(at, "an integer", wire),
};

/** Any finite number (statistics only: nothing of the replicated state is a float). */
export const float: Schema<number> = {
  toWire: (value) => value,
  fromWire: (wire, at) =>
    typeof wire === "number" && Number.isFinite(wire) ? wire : fail(at, "a number", wire),
};

export const boolean: Schema<boolean> = {
  toWire: (value) => value,
  fromWire: (wire, at) => (typeof wire === "boolean" ? wire : fail(at, "true or false", wire)),
};

/** Text for people, as UTF-8. For file names see `name`. */
export const text: Schema<string> = {
  toWire: (value) => value,
  fromWire: (wire, at) => (typeof wire === "string" ? wire : fail(at, "a string", wire)),
};

/** Raw bytes; the decoded array is a view of the message: copy it to keep it beyond the message. */
export const bytes: Schema<Uint8Array> = {
  toWire: (value) => value,
  fromWire: (wire, at) => (wire instanceof Uint8Array ? wire : fail(at, "bytes", wire)),
};

/** A name or path of the namespace: bytes on the wire, a latin1 string (one character per byte) in the heap. */
export const name: Schema<string> = {
  toWire: (value) => Buffer.from(value, "latin1"),
  fromWire: (wire, at) =>
    wire instanceof Uint8Array
      ? Buffer.from(wire.buffer, wire.byteOffset, wire.byteLength).toString("latin1")
      : fail(at, "the bytes of a name", wire),
};

/** One of a closed list of words, sent as its text. */
export function word<const W extends readonly string[]>(...words: W): Schema<W[number]> {
  const known = new Set<string>(words);
  return {
    toWire: (value) => value,
    fromWire: (wire, at) =>
      typeof wire === "string" && known.has(wire)
        ? wire
        : fail(at, `one of ${words.join(", ")}`, wire),
  };
}

/** A value that may be absent: `undefined` in the heap, nil (or a missing last field) on the wire. */
export function optional<T>(schema: Schema<T>): Schema<T | undefined> {
  return {
    toWire: (value) => (value === undefined ? null : schema.toWire(value)),
    fromWire: (wire, at) =>
      wire === null || wire === undefined ? undefined : schema.fromWire(wire, at),
  };
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
  };
}

/** A small dictionary of texts (mount options, environment). */
export const textMap: Schema<Readonly<Record<string, string>>> = {
  toWire: (value) => Object.entries(value),
  fromWire: (wire, at) => Object.fromEntries(list(pair(text, text)).fromWire(wire, at)),
};

export function pair<A, B>(first: Schema<A>, second: Schema<B>): Schema<readonly [A, B]> {
  return {
    toWire: ([a, b]) => [first.toWire(a), second.toWire(b)],
    fromWire: (wire, at) =>
      Array.isArray(wire) && wire.length === 2
        ? [first.fromWire(wire[0], `${at}[0]`), second.fromWire(wire[1], `${at}[1]`)]
        : fail(at, "a pair", wire),
  };
}

type Fields = Readonly<Record<string, Schema<unknown>>>;
type StructOf<F extends Fields> = { readonly [K in keyof F]: Infer<F[K]> };

/** A fixed list of fields, in this order on the wire. */
export function struct<F extends Fields>(fields: F): Schema<StructOf<F>> {
  const entries = Object.entries(fields);
  return {
    toWire: (value) => {
      const wire = new Array<unknown>(entries.length);
      for (let i = 0; i < entries.length; i++) {
        const [key, schema] = entries[i]!;
        wire[i] = schema.toWire(value[key]);
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
  };
}

type UnionOf<V extends Readonly<Record<string, Fields>>> = {
  [K in keyof V]: { readonly kind: K } & StructOf<V[K]>;
}[keyof V];

/** A discriminated union on `kind`: the word first, the fields of that kind after it. */
export function union<V extends Readonly<Record<string, Fields>>>(variants: V): Schema<UnionOf<V>> {
  const schemas = new Map<string, Schema<unknown>>(
    Object.entries(variants).map(([kind, fields]) => [kind, struct(fields)]),
  );
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
  };
}

const packr = new Packr({ useRecords: false, int64AsType: "number", variableMapSize: true });

/** The bytes of `value`, preceded by the version of its format. */
export function encode<T>(schema: Schema<T>, value: T, version = 1): Buffer {
  return packr.pack([version, schema.toWire(value)]);
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
