/**
 * Looks through the files of a closed LevelDB before it is opened. LevelDB itself goes on behind a broken part of its
 * write-ahead log without a word, reads tables without verifying them, and where a table's structure is broken an
 * assertion may end the process.
 *
 * What no reading can tell: a damaged last append (of the last log that has any) looks like one that a crash cut short.
 * Then the state is an earlier one, that of the append before, and the log of the entries leads on from there.
 */
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { type LogContent, readLog } from "./leveldb-log.ts";
import { Bytes, damageOf } from "./leveldb-table.ts";
import type { VerifiedTables } from "./verified-tables.ts";

/** The tags of a manifest's records (`VersionEdit`). */
const edit = {
  comparator: 1,
  logNumber: 2,
  nextFile: 3,
  lastSequence: 4,
  compactPointer: 5,
  deletedFile: 6,
  newFile: 7,
  previousLog: 9,
} as const;

/** Which files count, by their numbers: others were left by a crash, and LevelDB removes them. */
interface Live {
  readonly tables: ReadonlySet<number>;
  /** Logs before this one are in tables. */
  readonly firstLog: number;
}

interface Log extends LogContent {
  readonly name: string;
  readonly number: number;
}

const batchHeaderBytes = 12;

/**
 * What is wrong, in words; undefined for sound files, and for a directory in which no database was made yet. Tables that
 * are `verified` are not read; those that turn out to be sound are, from then on.
 */
export async function findDamage(
  directory: string,
  verified?: VerifiedTables,
): Promise<string | undefined> {
  const names = await readdir(directory);
  if (!names.includes("CURRENT")) {
    const other = names.find((name) => /\.(ldb|sst|log)$/.test(name));
    return other === undefined ? undefined : `"${other}" is there and "CURRENT" is not`;
  }
  const manifest = (await readFile(join(directory, "CURRENT"), "latin1")).trimEnd();
  if (!names.includes(manifest)) return `"CURRENT" names "${manifest}", which is not there`;
  const log = readLog(await readFile(join(directory, manifest)));
  const live = liveIn(log.appends);
  const offset = damageIn(log);
  if (live === undefined || offset !== undefined) return at(manifest, offset ?? 0);
  const logs: Log[] = [];
  for (const name of names) {
    const match = /^(\d+)\.(ldb|sst|log)$/.exec(name);
    if (match === null) continue;
    const number = Number(match[1]);
    if (match[2] === "log") {
      if (number < live.firstLog) continue;
      logs.push({ name, number, ...readLog(await readFile(join(directory, name))) });
    } else if (live.tables.has(number)) {
      const path = join(directory, name);
      const stats = await stat(path, { bigint: true });
      if (verified?.has(name, stats) === true) continue;
      const damaged = damageOf(await readFile(path));
      if (damaged !== undefined) return at(name, damaged);
      verified?.add(name, stats);
    }
  }
  // A manifest that names none is that of a database that was never opened.
  if (live.firstLog > 0 && !logs.some(({ number }) => number === live.firstLog)) {
    return `"${String(live.firstLog).padStart(6, "0")}.log" is missing`;
  }
  return damageInLogs(logs.sort((a, b) => a.number - b.number));
}

/**
 * For the logs that count, in order. A later one is begun when the memtable of the one before is full, after its last
 * append was synced; or when the database is opened, and then it gets appends only when the logs before it no longer
 * count. So a log that was cut short is damage as soon as a later one has an append, and so is an empty one. Each append
 * is a batch, of sequence (8) | count (4) | changes, and the next one has the sequence behind its changes, in whichever log.
 */
function damageInLogs(logs: readonly Log[]): string | undefined {
  const lastUsed = logs.findLastIndex(({ appends }) => appends.length > 0);
  let next: bigint | undefined;
  for (const [i, log] of logs.entries()) {
    const { name, appends, broken } = log;
    const damaged = i < lastUsed ? broken?.offset : damageIn(log);
    if (damaged !== undefined) return at(name, damaged);
    if (i < lastUsed && appends.length === 0) return at(name, 0);
    for (const append of appends) {
      if (append.length < batchHeaderBytes) return `"${name}" has an append that is no batch`;
      const sequence = append.readBigUInt64LE(0);
      if (next !== undefined && sequence !== next) {
        return `"${name}" has changes from ${String(sequence)} on, wanted from ${String(next)}`;
      }
      next = sequence + BigInt(append.readUInt32LE(8));
    }
  }
  return undefined;
}

/** Numbers of the tables that count, of a database that is open; undefined where its manifest cannot be read. */
export async function liveTables(directory: string): Promise<ReadonlySet<number> | undefined> {
  const manifest = (await readFile(join(directory, "CURRENT"), "latin1")).trimEnd();
  return liveIn(readLog(await readFile(join(directory, manifest))).appends)?.tables;
}

/** Undefined: what was appended to the manifest is none of what LevelDB writes. */
function liveIn(appends: readonly Buffer[]): Live | undefined {
  const tables = new Set<number>();
  let [logNumber, previousLog] = [0, 0];
  for (const append of appends) {
    const bytes = new Bytes(append);
    while (!bytes.isAtEnd) {
      const tag = bytes.number();
      if (tag === edit.comparator) bytes.take(bytes.number());
      else if (tag === edit.logNumber) logNumber = bytes.number();
      else if (tag === edit.previousLog) previousLog = bytes.number();
      else if (tag === edit.nextFile || tag === edit.lastSequence) bytes.number();
      else if (tag === edit.compactPointer) {
        bytes.number();
        bytes.take(bytes.number());
      } else if (tag === edit.deletedFile) {
        bytes.number();
        tables.delete(bytes.number());
      } else if (tag === edit.newFile) {
        bytes.number();
        tables.add(bytes.number());
        bytes.number();
        // Its least key and its greatest.
        bytes.take(bytes.number());
        bytes.take(bytes.number());
      } else return undefined;
    }
  }
  return { tables, firstLog: previousLog === 0 ? logNumber : Math.min(previousLog, logNumber) };
}

/** Not where a crash cut it short. */
function damageIn({ broken }: LogContent): number | undefined {
  return broken?.isDamage === true ? broken.offset : undefined;
}

export function at(name: string, offset: number): string {
  return `"${name}" is damaged at byte ${String(offset)}`;
}
