/** What is asked of a file, or of a directory and all below it: values of `weir path`. */
import type { InodeId } from "../lib/ids.ts";
import { type Infer, list, name, optional, signed, struct, unsigned, word } from "../lib/schema.ts";
import { quota, writeType } from "./namespace.ts";

/**
 * What becomes of a file that was not changed for longer than its time to live: `free` drops the cached copies of what
 * its store has, `delete` removes it, in its store too.
 */
export const ttlAction = word("free", "delete");

/** Whether workers keep what a read fetches from a store. */
export const readType = word("CACHE", "NO_CACHE");
export type ReadType = Infer<typeof readType>;

/**
 * Keys that are absent are not said here. A quota holds for all below the directory that has it; every other key is
 * inherited by what is below, where the nearest value wins.
 */
export const pathPolicy = struct({
  /** Copies in the tiers are not evicted. */
  pin: optional(struct({})),
  /** Counted from the last change of a file's content. */
  ttl: optional(struct({ seconds: unsigned(), action: ttlAction })),
  /** How many workers have a file's bytes in their tiers. */
  replication: optional(struct({ min: unsigned(), max: optional(unsigned()) })),
  /** Of files that are made without saying one. */
  writeType: optional(writeType),
  /** Of files that are read without saying one. */
  readType: optional(readType),
  /** Copies of what is not persisted yet, of files that are written without saying how many. */
  keepers: optional(unsigned()),
  /** How old what is known of a store may be, in milliseconds; -1: it is never asked again. */
  syncIntervalMs: optional(signed),
  /** Of what is made below: whom it belongs to, and bits that its mode has (`mode`) or lacks (`umask`, which wins). */
  owner: optional(
    struct({
      uid: optional(unsigned()),
      gid: optional(unsigned()),
      mode: optional(unsigned()),
      umask: optional(unsigned()),
    }),
  ),
  quota: optional(quota),
});
export type PathPolicy = Infer<typeof pathPolicy>;

/** In the order of their bits in an inode: new ones come last. */
export const policyKeys = [
  "pin",
  "ttl",
  "replication",
  "writeType",
  "readType",
  "keepers",
  "syncIntervalMs",
  "owner",
  "quota",
] as const satisfies readonly (keyof PathPolicy)[];
export const policyKey = word(...policyKeys);
export type PolicyKey = Infer<typeof policyKey>;

export const noPolicy: PathPolicy = {
  pin: undefined,
  ttl: undefined,
  replication: undefined,
  writeType: undefined,
  readType: undefined,
  keepers: undefined,
  syncIntervalMs: undefined,
  owner: undefined,
  quota: undefined,
};

/** A policy that holds somewhere, with where each of its values is said. */
export const effectivePolicy = struct({
  policy: pathPolicy,
  sources: list(struct({ key: policyKey, inode: unsigned<InodeId>(), path: name })),
});
export type EffectivePolicy = Infer<typeof effectivePolicy>;
