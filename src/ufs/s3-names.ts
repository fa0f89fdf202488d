/**
 * How the parts of a key (what is between its slashes) are shown as names, and names said as parts. Most parts are names.
 * Others are shown escaped, behind `%S3%`, so that every key has a path of its own and every path leads back to its key:
 *
 * | key | shown as |
 * |---|---|
 * | `a//b`, `/a` (empty parts) | `a/%S3%/b`, `%S3%/a` |
 * | `a/./b`, `a/../b` | `a/%S3%%2E/b`, `a/%S3%%2E%2E/b` |
 * | a part with NUL, or that begins with `%S3%` or `%B%` itself | `%S3%` and the part, NUL as `%00`, `%` as `%25` |
 * | `a` beside `a/b` | `a` is the directory, `%S3%a%` the object |
 * | `a/` with content | `%S3%%` in the directory `a`; without content it is the marker of the directory |
 * | a part of more than 255 bytes | `%S3%`, how it begins, `%#` and a digest |
 *
 * The other way round, a name that is no UTF-8, or that begins with `%B%`, is kept under a part that begins with `%B%`.
 *
 * Invariants
 * 1. `nameOf` and `objectNameOf` together are injective over all parts, and `parseName` undoes them (a digest is undone by
 *    looking which part has it).
 * 2. `partOf` and `nameOf` undo each other over all names that are not escaped.
 */
import { createHash } from "node:crypto";
import { escapePrefix, isEscaped } from "../lib/escaped-names.ts";
import { WeirError } from "../lib/errors.ts";

const maxNameBytes = 255;
const bytesPrefix = "%B%";
/** Bytes of a long part that its name begins with, as they are escaped. */
const headBytes = 180;
const digestLength = 32;

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** What a name of the namespace says of a key. All text, not latin1. */
export type ParsedName =
  | {
      readonly kind: "part";
      readonly part: string;
      /** The object of that key, whatever lies below it. */
      readonly isObject: boolean;
    }
  | {
      readonly kind: "long";
      /** How the part begins. */
      readonly head: string;
      readonly digest: string;
      readonly isObject: boolean;
    };

/** The name of a part: of a directory, or of an object beside which there is no directory. */
export function nameOf(part: string): string {
  const bytes = latin1Of(part);
  const kept = bytesOf(bytes);
  if (kept !== undefined) return kept;
  return isOrdinary(bytes) ? bytes : escaped(part, "");
}

/** The name of an object beside a directory, or of one whose part is empty. */
export function objectNameOf(part: string): string {
  return escaped(part, "%");
}

/**
 * The part that a name stands for.
 * @throws WeirError `InvalidArgument` for a name that is escaped as none would be; `doing` opens the message
 */
export function parseName(name: string, doing: string): ParsedName {
  if (!isEscaped(name)) return { kind: "part", part: partOf(name), isObject: false };
  const isObject = name.length > escapePrefix.length && name.endsWith("%");
  const rest = name.slice(escapePrefix.length, isObject ? -1 : undefined);
  const long = /^([^]*)%#([0-9a-f]{32})$/.exec(rest);
  if (long !== null) {
    const head = unescaped(long[1]!);
    if (head !== undefined) return { kind: "long", head, digest: long[2]!, isObject };
  } else {
    const part = unescaped(rest);
    if (part !== undefined && (isObject ? objectNameOf(part) : nameOf(part)) === name) {
      return { kind: "part", part, isObject };
    }
  }
  throw new WeirError(
    "InvalidArgument",
    `${doing}: names that begin with "${escapePrefix}" stand for keys that are no paths, and this is none of them`,
  );
}

/** Where the key of an escaped name sorts among other names; of a long one no later than there. */
export function placeOf(name: string): string {
  const rest = name.slice(escapePrefix.length).replace(/(?:%#[0-9a-f]{32})?%?$/, "");
  return percentDecoded(rest);
}

/** The part under which a name is kept that is not escaped. */
export function partOf(name: string): string {
  const text = name.startsWith(bytesPrefix) ? undefined : textOrUndefined(name);
  return text ?? bytesPrefix + percentEncoded(name, /[^!-$&-~]/g);
}

export function digestOf(part: string): string {
  return createHash("sha256").update(part, "utf8").digest("hex").slice(0, digestLength);
}

function isOrdinary(bytes: string): boolean {
  return (
    bytes !== "" &&
    bytes !== "." &&
    bytes !== ".." &&
    bytes.length <= maxNameBytes &&
    !bytes.includes("\0") &&
    !isEscaped(bytes) &&
    !bytes.startsWith(bytesPrefix)
  );
}

function escaped(part: string, end: string): string {
  const bytes = latin1Of(part);
  const isDots = bytes === "." || bytes === "..";
  const name = escapePrefix + percentEncoded(bytes, isDots ? /\./g : /[\0%]/g) + end;
  if (bytes.length <= maxNameBytes && name.length <= maxNameBytes) return name;
  const head = percentEncoded(latin1Of(headOf(part)), /[\0%]/g);
  return `${escapePrefix}${head}%#${digestOf(part)}${end}`;
}

/** As many characters as fit, none of them cut. */
function headOf(part: string): string {
  let head = "";
  let room = headBytes;
  for (const character of part) {
    room -= character === "\0" || character === "%" ? 3 : Buffer.byteLength(character);
    if (room < 0) break;
    head += character;
  }
  return head;
}

/** The text that was escaped; undefined for what no text is escaped as. */
function unescaped(rest: string): string | undefined {
  return /%(?!00|25|2E)/.test(rest) ? undefined : textOrUndefined(percentDecoded(rest));
}

/** The name that a part was made of since it is no UTF-8, or begins like such a part. */
function bytesOf(bytes: string): string | undefined {
  if (!bytes.startsWith(bytesPrefix)) return undefined;
  const name = percentDecoded(bytes.slice(bytesPrefix.length));
  const isName = name.length <= maxNameBytes && !/[/\0]/.test(name) && !isEscaped(name);
  return isName && latin1Of(partOf(name)) === bytes ? name : undefined;
}

function percentEncoded(bytes: string, which: RegExp): string {
  return bytes.replace(
    which,
    (byte) => `%${byte.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`,
  );
}

function percentDecoded(text: string): string {
  return text.replace(/%([0-9A-F]{2})/g, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
}

function latin1Of(text: string): string {
  return Buffer.from(text, "utf8").toString("latin1");
}

function textOrUndefined(latin1: string): string | undefined {
  try {
    return utf8.decode(Buffer.from(latin1, "latin1"));
  } catch {
    return undefined;
  }
}
