/**
 * The bytes of a configuration: the payload of a `configuration` entry, and what snapshots carry. Equal configurations
 * have equal bytes, since they are part of the replicated state.
 */
import { boolean, decode, encode, list, optional, struct, text, unsigned } from "../lib/schema.ts";
import type { Configuration } from "./types.ts";

const member = struct({
  nodeId: text,
  name: text,
  host: text,
  raftPort: unsigned(),
  rpcPort: unsigned(),
  promote: boolean,
});

const configuration = struct({
  voters: list(text),
  outgoing: list(text),
  learners: list(text),
  members: optional(list(member)),
});

/** The bytes of `value`, preceded by the version of their format. */
export function encodeConfiguration(value: Configuration): Uint8Array {
  return encode(configuration, { ...value, members: value.members });
}

/**
 * The configuration of bytes written by `encodeConfiguration`.
 * @throws WeirError `ProtocolError` for bytes that are none
 */
export function decodeConfiguration(bytes: Uint8Array): Configuration {
  return decode(configuration, bytes, "configuration");
}
