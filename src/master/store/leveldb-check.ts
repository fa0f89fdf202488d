/**
 * Looks through the files of a closed LevelDB before it is opened. LevelDB itself goes on behind a broken part of its
 * write-ahead log without a word, reads tables without verifying them, and where a table's structure is broken an
 * assertion may end the process.
 *
 * What no reading can tell: a damaged last append looks like one that a crash cut short. Then the state is an earlier one,
 * that of the append before, and the log of the entries leads on from there.
 */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { type LogContent, readLog } from "./leveldb-log.ts";
import { Bytes, damageOf } from "./leveldb-table.ts";

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

/** What is wrong, in words; undefined for sound files, and for a directory in which no database was made yet. */
export async function findDamage(directory: string): Promise<string | undefined> {
  const names = await readdir(directory);
  if (!names.includes("CURRENT")) {
    const table = names.find((name) => /\.(ldb|sst)$/.test(name));
    return table === undefined ? undefined : `"${table}" is there and "CURRENT" is not`;
  }
  const manifest = (await readFile(join(directory, "CURRENT"), "latin1")).trimEnd();
  if (!names.includes(manifest)) return `"CURRENT" names "${manifest}", which is not there`;
  const log = readLog(await readFile(join(directory, manifest)));
  const live = liveIn(log.appends);
  const offset = damageIn(log);
  if (live === undefined || offset !== undefined) return at(manifest, offset ?? 0);
  for (const name of names) {
    const match = /^(\d+)\.(ldb|sst|log)$/.exec(name);
    if (match === null) continue;
    const number = Number(match[1]);
    const isLog = match[2] === "log";
    if (isLog ? number < live.firstLog : !live.tables.has(number)) continue;
    const bytes = await readFile(join(directory, name));
    const damaged = isLog ? damageIn(readLog(bytes)) : damageOf(bytes);
    if (damaged !== undefined) return at(name, damaged);
  }
  return undefined;
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

function at(name: string, offset: number): string {
  return `"${name}" is damaged at byte ${String(offset)}`;
}
