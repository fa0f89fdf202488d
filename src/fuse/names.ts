/**
 * Names at the edge to fuse-native, which passes text: bytes that are no UTF-8 travel as characters U+F780 … U+F7FF, one
 * per byte, so that every name of the namespace has one text and every such text one name. Pure.
 *
 * The way in is lossy: the binding replaces bytes of the kernel that are no UTF-8 by U+FFFD before we see them.
 */
import { WeirError } from "../lib/errors.ts";

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const escaped = /[\uF780-\uF7FF]/;
/** Characters of names that would be misread on the way in. */
const ambiguous = /[\uF780-\uF7FF\uFFFD]/;
const escapeBase = 0xf700;

/** The text of a name, which is a latin1 string of bytes. */
export function textOf(name: string): string {
  if (isAscii(name)) return name;
  const bytes = Buffer.from(name, "latin1");
  const text = decode(bytes);
  if (text !== undefined && !ambiguous.test(text)) return text;
  let result = "";
  for (let i = 0; i < bytes.length; ) {
    const character = characterAt(bytes, i);
    if (character === undefined) {
      result += String.fromCharCode(escapeBase + bytes[i]!);
      i++;
    } else {
      result += character.text;
      i += character.length;
    }
  }
  return result;
}

/**
 * The name of a text.
 * @throws WeirError `InvalidArgument` for one whose bytes were lost on the way
 */
export function nameOf(text: string): string {
  if (isAscii(text)) return text;
  if (text.includes("\uFFFD")) {
    throw new WeirError(
      "InvalidArgument",
      `Cannot use the name "${text}": it is no UTF-8, which this mount cannot take in`,
    );
  }
  if (!escaped.test(text)) return Buffer.from(text, "utf8").toString("latin1");
  let name = "";
  for (const character of text) {
    name += escaped.test(character)
      ? String.fromCharCode(character.charCodeAt(0) - escapeBase)
      : Buffer.from(character, "utf8").toString("latin1");
  }
  return name;
}

function isAscii(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    if (text.charCodeAt(i) > 0x7f) return false;
  }
  return true;
}

function decode(bytes: Uint8Array): string | undefined {
  try {
    return decoder.decode(bytes);
  } catch {
    return undefined;
  }
}

/** The character that starts at byte `at`, unless it is none, or one of those that stand for a byte. */
function characterAt(bytes: Buffer, at: number): { text: string; length: number } | undefined {
  const first = bytes[at]!;
  const length = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  const text = decode(bytes.subarray(at, at + length));
  return text === undefined || ambiguous.test(text) ? undefined : { text, length };
}
