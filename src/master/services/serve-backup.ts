/**
 * RPC: the whole metadata as of one index, as a stream. Any master gives it, from what it has applied, and goes on with its
 * work meanwhile.
 */
import type { BackupItem } from "../../rpc/backup-items.ts";
import { masterApi } from "../../rpc/master-api.ts";
import type { RpcServer } from "../../rpc/server.ts";
import { maxMessageBytes } from "../../rpc/wire.ts";
import { quoted } from "../../lib/shortened.ts";
import { isInodeKey } from "../state/keys.ts";
import { clusterOf } from "../state/queries.ts";
import { encodeChunk } from "../store/chunk-codec.ts";
import type { KeyValue } from "../store/types.ts";
import type { MasterParts } from "./parts.ts";
import { needSuperuser } from "./read-rights.ts";
import { WeirError } from "../../lib/errors.ts";

/** Rows of one item, in bytes: a whole window of items fits a connection's buffer many times over. */
const itemBytes = 64 * 1024;
/** A piece goes this far beyond it with its last row. */
const maxPieceBytes = 2 * itemBytes;
/** What a message can carry, without what is around it. */
const longestRowBytes = maxMessageBytes - 1024;

export function serveBackup(server: RpcServer, parts: MasterParts): void {
  server.handleStream(masterApi.backup, ({ caller }) => {
    needSuperuser(caller, "Cannot back up");
    return backupOf(parts);
  });
}

async function* backupOf(parts: MasterParts): AsyncGenerator<BackupItem, void, undefined> {
  const { store, clock, name, version } = parts;
  const snapshot = await store.snapshot();
  try {
    const cluster = clusterOf(store);
    if (cluster === undefined) {
      throw new WeirError("Unavailable", `Cannot back up from "${name}": it has no state yet`);
    }
    const { index, term, hash: stateHash } = snapshot;
    const { clusterId, clusterName } = cluster;
    const takenMs = Math.floor(clock.wallMs());
    const about = { index, term, stateHash, takenMs, master: name, version };
    yield { kind: "header", clusterId, clusterName, ...about };
    let chunks = 0;
    let rows = 0;
    let inodes = 0;
    for await (const page of snapshot.chunks()) {
      for (const piece of pieces(page)) {
        for (const [key] of piece) if (isInodeKey(key)) inodes++;
        rows += piece.length;
        chunks++;
        yield { kind: "rows", chunk: encodeChunk(piece) };
      }
    }
    yield { kind: "end", chunks, rows, inodes, sha256: undefined };
  } finally {
    await snapshot.close();
  }
}

/**
 * The rows in pieces of about `itemBytes`. A row that is larger is a piece of its own: it has all of a message for it.
 * @throws WeirError `NotSupported` for a row that no message can carry; the state refuses commands that would make one
 */
export function* pieces(rows: readonly KeyValue[]): Generator<readonly KeyValue[]> {
  let piece: KeyValue[] = [];
  let size = 0;
  for (const row of rows) {
    const rowBytes = row[0].length + row[1].length;
    if (rowBytes > longestRowBytes) {
      throw new WeirError(
        "NotSupported",
        `Cannot back up the row ${quoted(row[0])}: it has ${String(rowBytes)} bytes, wanted at most ${String(longestRowBytes)}`,
      );
    }
    if (piece.length > 0 && size + rowBytes > maxPieceBytes) {
      yield piece;
      piece = [];
      size = 0;
    }
    piece.push(row);
    size += rowBytes;
    if (size < itemBytes) continue;
    yield piece;
    piece = [];
    size = 0;
  }
  if (piece.length > 0) yield piece;
}
