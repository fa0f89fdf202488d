/**
 * Which database of a store's directory counts: a file `CURRENT` names one of the directories `state-<number>`. A
 * snapshot is installed beside the state that it replaces, and counts when the file was replaced.
 */
import { mkdir, open, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { WeirError } from "../../lib/errors.ts";

const pointerName = "CURRENT";
const firstName = "state-1";
const databaseName = /^state-(\d+)$/;

/** The name of the database that counts; of an empty directory "state-1". Others are removed. */
export async function currentDatabase(directory: string): Promise<string> {
  const firstMade = await mkdir(directory, { recursive: true });
  if (firstMade !== undefined) {
    let at = directory;
    do {
      at = dirname(at);
      await syncDirectory(at);
    } while (at !== dirname(firstMade));
  }
  const names = await readdir(directory);
  const others = names.filter((name) => databaseName.test(name));
  if (!names.includes(pointerName)) {
    for (const other of others) {
      const isBegun = other === firstName && (await readdir(join(directory, other))).length === 0;
      if (!isBegun) throw damage(directory, `"${other}" is there without it`);
    }
    // Before the pointer, and synced with it: a database that is named and not there is a loss, never a beginning.
    await mkdir(join(directory, firstName), { recursive: true });
    await syncDirectory(directory);
    await pointTo(directory, firstName);
    return firstName;
  }
  const name = (await readFile(join(directory, pointerName), "utf8")).trim();
  if (!databaseName.test(name)) throw damage(directory, `it says "${name}"`);
  if (!others.includes(name)) throw damage(directory, `"${name}" is missing`);
  for (const other of others) {
    if (other !== name) await rm(join(directory, other), { recursive: true });
  }
  return name;
}

/** The name for the database after `name`. */
export function nextDatabase(name: string): string {
  return `state-${Number(databaseName.exec(name)![1]) + 1}`;
}

/** Makes `name` the database that counts; durable when it resolves. */
export async function pointTo(directory: string, name: string): Promise<void> {
  const temporary = join(directory, `${pointerName}.tmp`);
  await writeFile(temporary, `${name}\n`, { flush: true });
  await rename(temporary, join(directory, pointerName));
  await syncDirectory(directory);
}

/** Makes durable which names a directory holds. */
export async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, "r");
  await handle.sync().finally(() => handle.close());
}

function damage(directory: string, what: string): WeirError {
  return new WeirError(
    "Corrupt",
    `Cannot open the metadata store in "${directory}": its file "${pointerName}" is damaged: ${what}. Two ways back: ` +
      "start this master with an empty data directory and let it join anew as a learner (weir cluster replace NAME); " +
      "or, when no majority has the data any more, restore a backup into a new cluster (weir backup restore FILE)",
  );
}
