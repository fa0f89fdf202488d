/**
 * How paths, kinds and attributes are said in a bucket.
 *
 * A file is the object of its path. A directory is the prefix of objects below it; the empty object `path/` keeps an
 * empty directory and its attributes. A symbolic link is an empty object with its target in the metadata
 * `weir-symlink`. Mode, owner and mtime are in `weir-mode`, `weir-uid`, `weir-gid`, `weir-mtime`: HEAD shows them, a
 * listing does not, so listed entries have the default mode and the time of the upload.
 *
 * How the parts of keys are shown that are no names: s3-names.ts.
 */
import { WeirError } from "../lib/errors.ts";
import { replacedName } from "./paths.ts";
import type { UfsAttributes, UfsTimestamp } from "./types.ts";

export const defaultFileMode = 0o644;
export const defaultDirectoryMode = 0o755;

/** S3 allows 2 KiB of metadata; a longer target cannot be kept. */
const maxTargetLength = 1600;
const maxKeyLength = 1024;

/** The key of a part below the key of a directory, "" being the whole bucket. */
export function keyBelow(directory: string, part: string): string {
  return directory === "" ? part : `${directory}/${part}`;
}

/** Refuses what no store takes. @throws WeirError `NameTooLong` beyond 1,024 bytes */
export function needKeyLength(key: string, doing: string): void {
  if (Buffer.byteLength(key) <= maxKeyLength) return;
  throw new WeirError("NameTooLong", `${doing}: its key is longer than ${maxKeyLength} bytes`);
}

/** Where the object that a write of the key replaced is kept, hidden; undefined where its key would be too long. */
export function replacedKey(key: string): string | undefined {
  const at = key.lastIndexOf("/") + 1;
  const replaced = key.slice(0, at) + replacedName(nameOfText(key.slice(at)));
  return Buffer.byteLength(replaced) > maxKeyLength ? undefined : replaced;
}

/** The prefix of what lies below a key; "" for the whole bucket. */
export function below(key: string): string {
  return key === "" ? "" : `${key}/`;
}

/** A name from a listing: latin1, one character per byte. */
export function nameOfText(text: string): string {
  return Buffer.from(text, "utf8").toString("latin1");
}

/** A key from a listing with `EncodingType: "url"`; both `+` and `%20` are used for a space. */
export function decodeListed(encoded: string): string {
  return decodeURIComponent(encoded.replaceAll("+", " "));
}

/** The value of x-amz-copy-source. */
export function copySource(bucket: string, key: string): string {
  return `${bucket}/${key.split("/").map(encodeURIComponent).join("/")}`;
}

/** What a page of a listing shows, in latin1. */
export interface ListedParts {
  /** The last key or prefix that the store has shown, below the directory. */
  readonly lastKey: string;
  readonly parts: readonly string[];
  /** Those of them that are known to be directories. */
  readonly directories: ReadonlySet<string>;
}

/**
 * Directories that may exist among the parts of an incomplete listing and were not shown yet: a store sorts the directory
 * `a` as `a/`, behind `a-b`, whereas the name `a` sorts before. Only the greatest part and its prefixes can be hidden so.
 * All in UTF-8 as latin1; `after` is the exclusive start.
 */
export function possiblyHidden(page: ListedParts, after: string): string[] {
  const greatest = page.parts.reduce((a, b) => (a > b ? a : b), "");
  const hidden: string[] = [];
  for (let length = 1; length <= greatest.length; length++) {
    const candidate = greatest.slice(0, length);
    if (greatest.charAt(length) >= "/" || candidate <= after) continue;
    if (`${candidate}/` > page.lastKey && !page.directories.has(candidate)) hidden.push(candidate);
  }
  return hidden;
}

/** Attributes as the metadata of an object. */
export function toMetadata(attributes: UfsAttributes): Record<string, string> {
  const metadata: Record<string, string> = {};
  if (attributes.mode !== undefined) metadata["weir-mode"] = attributes.mode.toString(8);
  if (attributes.uid !== undefined) metadata["weir-uid"] = String(attributes.uid);
  if (attributes.gid !== undefined) metadata["weir-gid"] = String(attributes.gid);
  if (attributes.mtime !== undefined) {
    const { sec, nsec } = attributes.mtime;
    metadata["weir-mtime"] = `${sec}.${String(nsec).padStart(9, "0")}`;
  }
  return metadata;
}

/** Attributes from the metadata of an object, as far as it has them and they make sense. */
export function fromMetadata(metadata: Readonly<Record<string, string>>): UfsAttributes {
  const mode = /^[0-7]{1,4}$/.exec(metadata["weir-mode"] ?? "");
  const mtime = /^(-?\d{1,15})\.(\d{9})$/.exec(metadata["weir-mtime"] ?? "");
  return {
    mode: mode === null ? undefined : Number.parseInt(mode[0], 8),
    uid: idOf(metadata["weir-uid"]),
    gid: idOf(metadata["weir-gid"]),
    mtime: mtime === null ? undefined : { sec: Number(mtime[1]), nsec: Number(mtime[2]) },
  };
}

function idOf(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,10}$/.test(text) ? Number(text) : undefined;
}

/**
 * A link's target as metadata, which takes printable ASCII only.
 * @throws WeirError `NameTooLong`
 */
export function linkMetadata(target: string, doing: string): Record<string, string> {
  const encoded = target.replace(
    /[^A-Za-z0-9/._~-]/g,
    (character) => `%${character.charCodeAt(0).toString(16).padStart(2, "0")}`,
  );
  if (encoded.length > maxTargetLength) {
    throw new WeirError("NameTooLong", `${doing}: the target is too long to be kept in S3`);
  }
  return { "weir-symlink": encoded };
}

/** The target, latin1, if the metadata is that of a link. */
export function targetOf(metadata: Readonly<Record<string, string>>): string | undefined {
  return metadata["weir-symlink"]?.replace(/%([0-9a-f]{2})/g, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
}

export function timestampOf(date: Date | undefined): UfsTimestamp {
  const ms = date?.getTime() ?? 0;
  const sec = Math.floor(ms / 1000);
  return { sec, nsec: (ms - sec * 1000) * 1_000_000 };
}
