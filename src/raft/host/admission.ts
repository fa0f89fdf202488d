/** How a leader admits a new, empty master: it says which cluster it is, and gets the id that the master draws. */
import { WeirError } from "../../lib/errors.ts";
import { decode, encode } from "../../lib/schema.ts";
import { Refusal, type Transport } from "../transport.ts";
import type { NodeId } from "../types.ts";
import { admitted, formation, type Formation } from "./handshake.ts";
import type { Peer } from "./link.ts";

/** The new master writes the first record of its journal meanwhile. */
const replyTimeoutMs = 10_000;

/**
 * Admits the master at `peer`, and returns the id of its data, which must be none that was a member's, but for those that
 * are members `now`. Asked again, it answers the same.
 * @throws WeirError `Unavailable` when it cannot be reached, or begins a cluster of its own
 * @throws WeirError `InvalidArgument` when it is another master than is meant, has data of another cluster, or was removed
 * @throws WeirError `NotSupported` when it does not speak all that this one does: it could not read what the log may hold
 */
export async function admit(
  transport: Transport,
  peer: Peer,
  cluster: Formation,
  now: readonly NodeId[],
): Promise<NodeId> {
  const { name, host, port } = peer;
  const place = `"${name}" at "${host}:${port}"`;
  const { socket, accepted } = await transport
    .connect(peer, "admission")
    .catch((cause: unknown) => {
      if (!(cause instanceof Refusal)) throw cause;
      const { message } = cause;
      throw new WeirError("InvalidArgument", `Cannot admit ${place}: ${message}`, { cause });
    });
  try {
    if ((accepted.version ?? 1) < transport.versions.newest) {
      throw new WeirError(
        "NotSupported",
        `Cannot admit ${place}: it runs an older version than this cluster; upgrade it first`,
      );
    }
    if (accepted.stage === "forming") {
      throw new WeirError(
        "InvalidArgument",
        `Cannot admit ${place}: it has begun a cluster of its own; stop it, remove its data directory, and start ` +
          "it with the masters of this cluster in its configuration",
      );
    }
    socket.write([encode(formation, cluster)]);
    const reply = await socket.next(replyTimeoutMs);
    const { nodeId, wasMember } = decode(admitted, reply, "admitted");
    if (wasMember === true && !now.includes(nodeId)) {
      throw new WeirError(
        "InvalidArgument",
        `Cannot admit ${place}: it has the data of node ${nodeId}, which was removed; stop it, remove its data ` +
          "directory, and start it again",
      );
    }
    return nodeId;
  } finally {
    socket.close();
  }
}
