/** A backup whose rows can be read from any key on: it was gone through once, and where its parts begin is remembered. */
import { open } from "node:fs/promises";
import { toWeirError } from "../../lib/errors.ts";
import type { BackupHeader } from "../../rpc/backup-items.ts";
import type { KeyRange, KeyValue } from "../store/types.ts";
import { BackupReader } from "./read.ts";

export interface IndexedBackup {
  readonly header: BackupHeader;
  /** Log index that its rows are the state of. */
  readonly index: number;
  rows(range: KeyRange): AsyncIterable<readonly KeyValue[]>;
  close(): Promise<void>;
}

/** A part of the file: where it begins, and with which key. */
interface Part {
  readonly offset: number;
  readonly first: string;
}

/**
 * Checks a backup from end to end and indexes it, with about a hundred bytes in the heap for each 64 KiB of it.
 * @throws WeirError `Corrupt` where the file is damaged
 */
export async function indexBackup(path: string): Promise<IndexedBackup> {
  const file = await open(path, "r").catch((thrown: unknown) => {
    throw toWeirError(thrown, `Cannot open the backup "${path}"`);
  });
  try {
    const reader = new BackupReader(path, file);
    const header = await reader.header();
    const parts: Part[] = [];
    let { offset } = reader;
    for await (const rows of reader.rows()) {
      if (rows.length > 0) parts.push({ offset, first: rows[0]![0] });
      ({ offset } = reader);
    }
    return {
      header,
      index: header.index,
      rows: (range) => rowsOf(reader, parts, range),
      close: () => file.close(),
    };
  } catch (thrown) {
    await file.close();
    throw thrown;
  }
}

async function* rowsOf(
  reader: BackupReader,
  parts: readonly Part[],
  { from, to }: KeyRange,
): AsyncGenerator<readonly KeyValue[]> {
  for (let place = Math.max(0, lastUpTo(parts, from)); place < parts.length; place++) {
    const { offset, first } = parts[place]!;
    if (first >= to) return;
    const rows = (await reader.rowsAt(offset)).filter(([key]) => key >= from && key < to);
    if (rows.length > 0) yield rows;
  }
}

/** The place of the last part that begins with `key` or before it; -1: none. */
function lastUpTo(parts: readonly Part[], key: string): number {
  let [low, high] = [0, parts.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (parts[middle]!.first <= key) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
