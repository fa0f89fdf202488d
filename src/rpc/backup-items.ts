/**
 * What a backup of the metadata is made of, on the wire from a master and in its file: one header, the rows of the state in
 * the order of their keys, and an end that sums it up.
 *
 * Invariant: the rows are the state at exactly the header's index, whatever was written meanwhile.
 */
import { bytes, type Infer, optional, text, union, unsigned } from "../lib/schema.ts";

const header = {
  /** Of the data, as its workers know it. */
  clusterId: text,
  clusterName: text,
  /** Place in the log that the rows are the state of. */
  index: unsigned(),
  term: unsigned(),
  /** Of the metadata store at that index: what the rows must sum up to. */
  stateHash: text,
  /** Wall time of the master when it began, in milliseconds since 1970. */
  takenMs: unsigned(),
  /** Name of the master that it was taken from, and its software. */
  master: text,
  version: text,
};
const end = {
  chunks: unsigned(),
  rows: unsigned(),
  inodes: unsigned(),
  /** Hex, of all bytes of the file before the end; absent on the wire. */
  sha256: optional(text),
};

/** `rows`: a chunk in the form in which masters ship snapshots, with a crc of its own. */
export const backupItem = union({ header, rows: { chunk: bytes }, end });
export type BackupItem = Infer<typeof backupItem>;
export type BackupHeader = Extract<BackupItem, { kind: "header" }>;
export type BackupEnd = Extract<BackupItem, { kind: "end" }>;
