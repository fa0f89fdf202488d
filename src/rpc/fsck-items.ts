/** What a check of the state finds, on the wire and where it is made. */
import type { InodeId } from "../lib/ids.ts";
import {
  type Infer,
  list,
  name,
  optional,
  struct,
  text,
  union,
  unsigned,
  word,
} from "../lib/schema.ts";

/**
 * What is looked at:
 * - `row`: a row can be read, and belongs to something that exists;
 * - `names`: names in directories and the names that inodes know of themselves are the same;
 * - `links`: `nlink` and `childCount`;
 * - `tree`: every directory is reached from the root;
 * - `content`: extents, their order, their bounds and their number, and the references of containers;
 * - `keepers`: what containers say of their keepers, and what is written of the keepers;
 * - `leases`, `holds`: write leases and holds beyond the last name belong to sessions that exist;
 * - `garbage`: what nothing uses is on the list of what is to be reclaimed;
 * - `effects`: queued side effects on stores, the names that they hide, what inodes say of them;
 * - `attributes`: extended attributes, access control lists, and what inodes say of them;
 * - `usage`: totals of directories and what lies below them (a difference of a multiple of 4 GiB is not seen);
 * - `policies`: policies on paths, what inodes say of them, and their number;
 * - `operations`: operations on trees, and the directories that they have before them;
 * - `mounts`, `lineages`, `counters`: those tables, and counts and next ids;
 * - `lost`: bytes that a file has and no live worker and no store has;
 * - `orphan`: copies at workers that nothing in the state names. They take room, no more.
 */
export const checkName = word(
  "row",
  "names",
  "links",
  "tree",
  "content",
  "keepers",
  "leases",
  "holds",
  "garbage",
  "effects",
  "attributes",
  "usage",
  "policies",
  "operations",
  "mounts",
  "lineages",
  "counters",
  "lost",
  "orphan",
);
export type CheckName = Infer<typeof checkName>;

export const finding = struct({
  check: checkName,
  /** The inode that it is about, where there is one. */
  inode: optional(unsigned<InodeId>()),
  /** A path of that inode, where one leads to it. */
  path: optional(name),
  /** What it is about, in words. */
  subject: text,
  is: text,
  wanted: text,
  cure: text,
});
export type Finding = Infer<typeof finding>;

/** `rows` counts those that were read, each as often as it was. */
export const fsckItem = union({
  progress: { rows: unsigned() },
  end: {
    /** Who looked, and the log index that the state is of. */
    master: text,
    index: unsigned(),
    rows: unsigned(),
    inodes: unsigned(),
    /** All of them; `findings` are the first ones. */
    found: unsigned(),
    findings: list(finding),
  },
});
export type FsckItem = Infer<typeof fsckItem>;
export type FsckEnd = Omit<Extract<FsckItem, { kind: "end" }>, "kind">;
