/**
 * The messages of the block protocol. A NATS message body is: header length (u16, big-endian) | header (msgpack by
 * schema) | payload. Only `chunk` has a payload: block bytes, raw.
 *
 * Subjects, where `C` is the cluster and `W` the worker's id:
 *   weir.C.w.W.read, weir.C.w.W.open    requests; their reply subject is the stream's inbox
 *   weir.C.w.W.flow.CONNECTION.STREAM   what goes on to the worker on an open stream, named by its inbox
 *   weir.C.r.CONNECTION.STREAM          inboxes
 *
 * A read: `read`, then `chunk`s back under credit (`grant`), the one with `last` ends it; or `error`. A write: `open` →
 * `opened`, then `chunk`s under the credit that `opened` and `grant` give, `flush` and `close` → `done`; or `error`.
 * `cancel` ends either; `alive` goes both ways in silence, so that a peer that is gone is told from one that is slow.
 * Every message to a worker has a reply subject: a worker that is gone shows as "no responders" at once.
 */
import type { InodeId, MountId, WorkerId, WriteId } from "../lib/ids.ts";
import {
  boolean,
  decode,
  encode,
  type Infer,
  list,
  name,
  optional,
  struct,
  text,
  union,
  unsigned,
} from "../lib/schema.ts";
import { WeirError } from "../lib/errors.ts";

const worker = unsigned<WorkerId>();
const container = struct({ inode: unsigned<InodeId>(), writeId: unsigned<WriteId>() });

const header = union({
  read: {
    container,
    blockIndex: unsigned(),
    blockLength: unsigned(),
    offset: unsigned(),
    length: unsigned(),
    ufs: optional(
      struct({
        mountId: unsigned<MountId>(),
        path: name,
        fingerprint: text,
        blockOffset: unsigned(),
      }),
    ),
    cache: boolean,
    /** Bytes that the worker may send at once. */
    credit: unsigned(),
  },
  /** `chain`: the workers behind this one. */
  open: { container, resumeAt: unsigned(), chain: list(worker) },
  /** `holders`: the workers that take part; `trouble` says why others do not. */
  opened: { credit: unsigned(), holders: list(worker), trouble: optional(text) },
  /** `offset` is a position in the block (reads) or in the container (writes); `last` ends a read. */
  chunk: { offset: unsigned(), crc: unsigned(), last: boolean },
  /** More credit: `bytes` on top of all that was granted before. */
  grant: { bytes: unsigned() },
  /** Everything before it is to be held by all workers of the chain; on disk with `sync`. */
  flush: { id: unsigned(), sync: boolean },
  close: { id: unsigned(), keep: boolean },
  /** A `flush` or `close` was carried out by `holders`; `trouble` says why not by others. */
  done: { id: unsigned(), holders: list(worker), trouble: optional(text) },
  error: { code: text, message: text },
  cancel: {},
  alive: {},
});
export type Header = Infer<typeof header>;
export type ReadHeader = Extract<Header, { kind: "read" }>;
export type OpenHeader = Extract<Header, { kind: "open" }>;

export interface Message {
  readonly header: Header;
  /** A view of the received message. */
  readonly payload: Uint8Array;
}

const lengthBytes = 2;
const none = new Uint8Array(0);

/** Bytes that a chunk's header may take of the server's `max_payload`. */
export const headerReserveBytes = 1024;

/** The body of a message; the payload is copied, so the caller may reuse its buffer. */
export function encodeMessage(value: Header, payload: Uint8Array = none): Buffer {
  const head = encode(header, value);
  const body = Buffer.allocUnsafe(lengthBytes + head.length + payload.length);
  body.writeUInt16BE(head.length, 0);
  head.copy(body, lengthBytes);
  body.set(payload, lengthBytes + head.length);
  return body;
}

/** @throws WeirError `ProtocolError` for bytes that are no message */
export function decodeMessage(body: Uint8Array): Message {
  const headLength = body.length < lengthBytes ? 0 : body[0]! * 256 + body[1]!;
  const payloadAt = lengthBytes + headLength;
  if (headLength === 0 || payloadAt > body.length) {
    throw new WeirError(
      "ProtocolError",
      `Cannot read a block message: its ${body.length} bytes do not hold its header`,
    );
  }
  return {
    header: decode(header, body.subarray(lengthBytes, payloadAt), "block message"),
    payload: body.subarray(payloadAt),
  };
}

export function workerSubject(clusterName: string, id: WorkerId): string {
  return `weir.${clusterName}.w.${id}`;
}

export function inboxRoot(clusterName: string): string {
  return `weir.${clusterName}.r`;
}

/** The two last tokens of an inbox name its stream at the worker as well. */
export function streamOfInbox(subject: string): string {
  return subject.split(".").slice(-2).join(".");
}
