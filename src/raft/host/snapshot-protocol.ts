/**
 * What is said on a snapshot's connection. The sender: a header; the receiver: from which chunk to go on; the sender: the
 * chunks, one frame each, whose crc the framing checks, and an empty frame; the receiver: an empty frame now and then
 * while it changes over, and that it has.
 *
 * A sender of version 1 of the protocol waits for no answer to its header: it begins at the first chunk. To a receiver of
 * version 1 nothing is sent: it could not read the state.
 */
import { type Infer, optional, struct, text, unsigned } from "../../lib/schema.ts";

/** Longest silence of the other side during a transfer. */
export const stallTimeoutMs = 30_000;
/** Longest time that the receiver may take to change over once it has everything. */
export const installTimeoutMs = 600_000;
/** How often it says meanwhile that it is there, and how long a silence ends the wait. */
export const installBeatMs = 1000;
export const installSilenceMs = 10_000;
/** How long both sides keep what is needed to go on with a transfer that broke. */
export const keepMs = 60_000;

/** Who the state machine's snapshot is from, and what it stands for. */
export const snapshotHeader = struct({
  /** Of the sender. */
  term: unsigned(),
  index: unsigned(),
  indexTerm: unsigned(),
  /** Random name of this very snapshot: with the same one, the same chunks come in the same order. */
  id: optional(text),
  /** Of the state, as its machine sums it: what arrives has to come to the same. */
  hash: optional(text),
});
export type SnapshotHeader = Infer<typeof snapshotHeader>;

/** What the receiver has already, from an earlier connection: so many chunks, with this crc over all of them. */
export const snapshotResume = struct({ chunks: unsigned(), crc: unsigned() });

/** Behind the last chunk; from the receiver, a sign of life while it installs. */
export const end = new Uint8Array(0);
/** The receiver's last word. */
export const done = Buffer.from("done");

/** What a state machine offers: see StateMachineHost. */
export interface SnapshotMachine {
  readonly appliedIndex: number;
  snapshot(): Promise<HeldSnapshot>;
  install(
    meta: { index: number; term: number; hash?: string | undefined },
    chunks: AsyncIterable<Uint8Array>,
  ): Promise<void>;
  configuration(): { readonly index: number; readonly payload: Uint8Array } | undefined;
}

/** A state that does not change while it is held; each call of `chunks` gives all of it, in the same pieces. */
export interface HeldSnapshot {
  readonly meta: { readonly index: number; readonly term: number; readonly hash?: string };
  chunks(): AsyncIterable<Uint8Array>;
  close(): Promise<void>;
}
