/** A whole state on its way out of a database and into another one: in chunks, and summed up. */
import { WeirError } from "../../lib/errors.ts";
import type { Database, DatabaseSnapshot } from "./database.ts";
import { hashRow, StateHash } from "./state-hash.ts";
import { everything, type KeyValue } from "./types.ts";

const chunkBytes = 512 * 1024;

/** All rows of a snapshot; ends with `Corrupt` instead of the end when they are not those that were written. */
export async function* checkedChunks(
  snapshot: DatabaseSnapshot,
  directory: string,
): AsyncGenerator<readonly KeyValue[]> {
  const sum = new StateHash();
  const cursor = snapshot.open(everything, sum);
  try {
    for (;;) {
      const rows = await cursor.next();
      if (rows.length === 0) break;
      yield* pieces(rows);
    }
  } finally {
    await cursor.close();
  }
  if (sum.digest() === snapshot.hash) return;
  throw new WeirError(
    "Corrupt",
    `Cannot hand out the state in "${directory}": its rows sum to ${sum.digest()}, wanted ${snapshot.hash}; what ` +
      "the disk holds is not what was written. Replace this master: weir cluster replace NAME",
  );
}

/** The rows in pieces of about `chunkBytes`; a larger row is a piece of its own. */
function* pieces(rows: readonly KeyValue[]): Generator<readonly KeyValue[]> {
  let first = 0;
  let bytes = 0;
  for (const [i, [key, value]] of rows.entries()) {
    const weight = key.length + value.length;
    if (i > first && bytes + weight > chunkBytes) {
      yield rows.slice(first, i);
      first = i;
      bytes = 0;
    }
    bytes += weight;
  }
  yield first === 0 ? rows : rows.slice(first);
}

/** Writes all chunks to a fresh database, which is of no index yet; the sum over them. */
export async function fill(
  fresh: Database,
  chunks: AsyncIterable<readonly KeyValue[]>,
): Promise<StateHash> {
  const hash = new StateHash();
  const row = { low: 0, high: 0 };
  let batch = fresh.batch();
  let bytes = 0;
  const write = async () => {
    await batch.write({ index: 0, term: 0, hash: hash.digest() });
    batch = fresh.batch();
    bytes = 0;
  };
  for await (const chunk of chunks) {
    for (const [key, value] of chunk) {
      hashRow(key, value, row);
      hash.addRow(row);
      batch.put(key, value, row);
      bytes += key.length + value.length;
    }
    if (bytes >= chunkBytes) await write();
  }
  await write();
  return hash;
}
