/**
 * A database takes the place of another one: it is filled beside it, checked, and counts when the pointer of the store's
 * directory names it. A crash before that leaves the old one, after it the new one.
 */
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { WeirError } from "../../lib/errors.ts";
import { currentDatabase, nextDatabase, pointTo } from "./current.ts";
import { Database, type DatabaseOptions } from "./database.ts";
import type { StateHash } from "./state-hash.ts";
import type { KeyValue } from "./types.ts";
import { checkedChunks, fill } from "./whole-state.ts";

/** A database of a store's directory. */
export interface Named {
  readonly name: string;
  readonly database: Database;
}

/** What the rows are the state of. */
export interface Wanted {
  readonly index: number;
  readonly term: number;
  /** Their sum, where it is known. */
  readonly hash: string | undefined;
}

/**
 * Opens the database that counts. One that an earlier version wrote is written anew first, which takes microseconds a row.
 * @throws WeirError `Busy`, `Corrupt`
 */
export async function openCurrent(directory: string, options: DatabaseOptions): Promise<Named> {
  const name = await currentDatabase(directory);
  const database = await Database.open(join(directory, name), options);
  if (database.hasSums) return { name, database };
  options.logger.info(
    { index: database.place.index },
    "writing the state anew: it is of an earlier version",
  );
  const snapshot = database.snapshot();
  try {
    const next = await openNext(directory, name, options, {
      wanted: snapshot,
      chunks: checkedChunks(snapshot, directory),
    });
    await next.database.close();
  } finally {
    await snapshot.close();
    await database.close();
  }
  // Removes the old one too.
  return openCurrent(directory, options);
}

/**
 * Fills the database after `name` and lets it count; `sum` is that of its rows.
 * @throws WeirError `Corrupt` where the rows do not sum to what is wanted; nothing has changed then
 */
export async function openNext(
  directory: string,
  name: string,
  options: DatabaseOptions,
  { wanted, chunks }: { wanted: Wanted; chunks: AsyncIterable<readonly KeyValue[]> },
): Promise<Named & { readonly sum: StateHash }> {
  const next = nextDatabase(name);
  const path = join(directory, next);
  await rm(path, { recursive: true, force: true });
  const database = await Database.open(path, options);
  try {
    const sum = await fill(database, chunks);
    const hash = sum.digest();
    const { index, term } = wanted;
    if (wanted.hash !== undefined && hash !== wanted.hash) {
      const detail = `its rows sum to ${hash}, wanted ${wanted.hash}`;
      throw new WeirError("Corrupt", `Cannot install a snapshot of index ${index}: ${detail}`);
    }
    await database.batch().write({ index, term, hash });
    await pointTo(directory, next);
    return { name: next, database, sum };
  } catch (thrown) {
    await database.close();
    await rm(path, { recursive: true, force: true });
    throw thrown;
  }
}
