/** What an S3 store answers, in the words of an under file system. */
import type { HeadObjectCommandOutput, ListObjectsV2CommandOutput } from "@aws-sdk/client-s3";
import {
  decodeListed,
  defaultDirectoryMode,
  defaultFileMode,
  fromMetadata,
  targetOf,
  timestampOf,
} from "./s3-keys.ts";
import { temporaryPrefix } from "../lib/store-names.ts";
import type { UfsListEntry, UfsStat } from "./types.ts";

export interface ListedObject {
  readonly key: string;
  readonly size: number;
  readonly etag: string;
  readonly modified: Date | undefined;
}

export interface ListedPage {
  readonly keys: readonly ListedObject[];
  /** Each ends with the delimiter. */
  readonly prefixes: readonly string[];
  /** The greatest of both, by bytes; "" of an empty page. */
  readonly lastKey: string;
  /** For the next page; undefined after the last one. */
  readonly token: string | undefined;
}

export function toPage(answer: ListObjectsV2CommandOutput): ListedPage {
  const keys = (answer.Contents ?? []).map((each) => ({
    key: decodeListed(each.Key ?? ""),
    size: each.Size ?? 0,
    etag: each.ETag ?? "",
    modified: each.LastModified,
  }));
  const prefixes = (answer.CommonPrefixes ?? []).map((each) => decodeListed(each.Prefix ?? ""));
  const ends = [keys.at(-1)?.key, prefixes.at(-1)].filter((each) => each !== undefined);
  // By bytes of UTF-8, as the store sorts.
  const greatest = ends.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b))).at(-1);
  const token = answer.IsTruncated === true ? answer.NextContinuationToken : undefined;
  return { keys, prefixes, lastKey: greatest ?? "", token };
}

/** Writes in progress and what they replaced: ours, and nobody's to see. */
export function isHidden(part: string): boolean {
  return part.startsWith(temporaryPrefix);
}

/** The text of a latin1 name that came from a key. */
export function textOf(name: string): string {
  return Buffer.from(name, "latin1").toString("utf8");
}

/** Without quotes, which some stores leave out, and without the mark of a weak one. */
export function fingerprintOf(etag: string): string {
  return etag.replace(/^W\//, "").replaceAll('"', "");
}

export function statOf(head: HeadObjectCommandOutput): UfsStat {
  const metadata = head.Metadata ?? {};
  const target = targetOf(metadata);
  const { mode, uid, gid, mtime } = fromMetadata(metadata);
  return {
    kind: target === undefined ? "file" : "symlink",
    size: target === undefined ? (head.ContentLength ?? 0) : target.length,
    mode: target === undefined ? (mode ?? defaultFileMode) : 0o777,
    uid: uid ?? 0,
    gid: gid ?? 0,
    mtime: mtime ?? timestampOf(head.LastModified),
    fingerprint: fingerprintOf(head.ETag ?? ""),
    target,
  };
}

export function fileEntry(
  name: string,
  object: Pick<ListedObject, "size" | "etag" | "modified">,
): UfsListEntry {
  return {
    name,
    kind: "file",
    size: object.size,
    mode: defaultFileMode,
    uid: 0,
    gid: 0,
    mtime: timestampOf(object.modified),
    fingerprint: fingerprintOf(object.etag),
    target: undefined,
  };
}

export const directory: UfsStat = {
  kind: "directory",
  size: 0,
  mode: defaultDirectoryMode,
  uid: 0,
  gid: 0,
  mtime: { sec: 0, nsec: 0 },
  fingerprint: "directory",
  target: undefined,
};
