/**
 * The procedures that a worker serves on its control port. Block bytes do not travel here but over NATS or through the
 * tier's files; so local reads go on while NATS is down.
 */
import type { InodeId, WriteId } from "../lib/ids.ts";
import { boolean, list, optional, struct, text, unsigned } from "../lib/schema.ts";
import { method } from "./method.ts";
import { tierUsage } from "./namespace.ts";

const container = struct({ inode: unsigned<InodeId>(), writeId: unsigned<WriteId>() });

export const workerApi = {
  /** Directories of the tiers; each holds a file `nonce` that only those who share the storage can read. */
  tiers: method("tiers", struct({}), struct({ directories: list(text) })),
  /**
   * Opens short circuit for this connection: `nonces` as read from the tier directories, in their order (empty text
   * where unreadable). Answers which directories the client shares with the worker. Never decided by a host name.
   */
  proveLocal: method(
    "proveLocal",
    struct({ nonces: list(text) }),
    struct({ local: list(boolean) }),
  ),
  /**
   * Takes a block lease for this connection: while it lives (at most `leaseMs` after the last `renewLeases`) the
   * container stays where it is. Absent address: not here, or not in a directory that the client shares.
   */
  leaseContainer: method(
    "leaseContainer",
    struct({ container }),
    struct({
      address: optional(
        struct({
          /** Absolute path of a file; byte `offset` of it is byte 0 of the container. */
          path: text,
          offset: unsigned(),
          /** Bytes of the container that are there, from its start: [0, length). */
          length: unsigned(),
          leaseMs: unsigned(),
        }),
      ),
    }),
  ),
  releaseContainers: method(
    "releaseContainers",
    struct({ containers: list(container) }),
    struct({}),
  ),
  /** One renewal for all leases of this connection. */
  renewLeases: method("renewLeases", struct({}), struct({ leaseMs: unsigned() })),
  status: method(
    "status",
    struct({}),
    struct({
      uuid: text,
      worker: unsigned(),
      tiers: list(tierUsage),
      containers: unsigned(),
      keptBytes: unsigned(),
      /** Counters since the start: bytes read locally, from stores, streamed out, written; evictions; jobs run. */
      counters: list(struct({ name: text, value: unsigned() })),
    }),
  ),
} as const;
