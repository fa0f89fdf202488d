/**
 * Which of LevelDB's tables were read whole and found as they were written, remembered beside them in a file `VERIFIED`: a
 * restart reads only those that are newer. Tables never change, so one of the same name, size, time and inode is the same.
 *
 * Invariants
 * 1. What is remembered holds for one boot of the machine: until then a table may have been verified in memory alone, and
 *    what a loss of power left of it on the disk is another matter. After a boot all tables are read again.
 * 2. A file that is damaged, or of another version, remembers nothing.
 */
import { type BigIntStats } from "node:fs";
import { readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";

const fileName = "VERIFIED";
const head = "weir verified tables 1";

/** What tells a table from another one of its name. */
export type TableStats = Pick<BigIntStats, "size" | "mtimeNs" | "ino">;

export class VerifiedTables {
  readonly #path: string;
  /** Of this boot; undefined where the system does not tell: then nothing is remembered. */
  readonly #boot: string | undefined;
  readonly #tables = new Map<string, string>();

  private constructor(directory: string, boot: string | undefined) {
    this.#path = join(directory, fileName);
    this.#boot = boot;
  }

  /** What is remembered of a directory's tables; `boot` says which boot this is. */
  static async load(directory: string, boot: string | undefined): Promise<VerifiedTables> {
    const tables = new VerifiedTables(directory, boot);
    const text = await readFile(tables.#path, "latin1").catch(() => "");
    const end = text.lastIndexOf("\n", text.length - 2) + 1;
    const body = text.slice(0, end);
    const [version, itsBoot, ...lines] = body.split("\n");
    if (text.slice(end) !== sumLine(body) || version !== head || boot === undefined) return tables;
    if (itsBoot !== boot) return tables;
    for (const line of lines) {
      const space = line.indexOf(" ");
      if (space > 0) tables.#tables.set(line.slice(0, space), line.slice(space + 1));
    }
    return tables;
  }

  has(name: string, stats: TableStats): boolean {
    return this.#tables.get(name) === identityOf(stats);
  }

  add(name: string, stats: TableStats): void {
    this.#tables.set(name, identityOf(stats));
  }

  /** Forgets all others: LevelDB has removed them. */
  keepOnly(names: ReadonlySet<string>): void {
    for (const name of this.#tables.keys()) if (!names.has(name)) this.#tables.delete(name);
  }

  /** One that is lost costs time at the next start, no more: it is replaced as a whole, and not synced. */
  async save(): Promise<void> {
    if (this.#boot === undefined) return;
    const lines = [...this.#tables].map(([name, identity]) => `${name} ${identity}\n`);
    const body = `${head}\n${this.#boot}\n${lines.join("")}`;
    const temporary = `${this.#path}.tmp`;
    await writeFile(temporary, body + sumLine(body), "latin1");
    await rename(temporary, this.#path);
  }
}

function identityOf({ size, mtimeNs, ino }: TableStats): string {
  return `${String(size)} ${String(mtimeNs)} ${String(ino)}`;
}

function sumLine(body: string): string {
  return `${crc32(Buffer.from(body, "latin1")).toString(16).padStart(8, "0")}\n`;
}

/** Which boot of the machine this is (Linux); undefined elsewhere. */
export async function currentBoot(): Promise<string | undefined> {
  const id = await readFile("/proc/sys/kernel/random/boot_id", "latin1").catch(() => undefined);
  return id?.trim();
}
