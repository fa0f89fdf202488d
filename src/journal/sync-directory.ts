/** Durability of names: a file that is made, renamed or removed is so for good once its directory was synced. */
import { open } from "node:fs/promises";
import { dirname } from "node:path";

/** Makes durable which names a directory holds. */
export async function syncDirectory(directory: string): Promise<void> {
  const handle = await open(directory, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Syncs the directories above `directory` that hold names made by `mkdir`, up to the parent of `firstMade`. */
export async function syncParents(directory: string, firstMade: string): Promise<void> {
  const top = dirname(firstMade);
  let at = directory;
  do {
    at = dirname(at);
    await syncDirectory(at);
  } while (at !== top && at !== dirname(at));
}
