/**
 * Changing directories that are ours and have no write bit for us, as trees from archives have: the owner's bits are
 * added for as long as somebody changes something in them, and the mode is restored after. Only for directories that the
 * process owns; for root, whom no mode holds up, nothing is done.
 *
 * Invariants
 * 1. All changes of one directory that are under way at a time share one addition, so that the mode restored is the one
 *    from before the first, and none of them loses the bits in its middle.
 * 2. A mode that somebody else set meanwhile is left alone.
 *
 * A process that dies in the middle leaves the owner's bits behind. Two processes that change one directory may take the
 * bits from each other: the later one fails with EACCES then, and is tried again by whoever asked.
 */
import { chmod, stat } from "node:fs/promises";
import type { Anchor } from "./anchor.ts";

const ownersBits = 0o700;
const permissionBits = 0o7777;

/** A directory whose mode is changed. */
interface Opened {
  readonly before: number;
  readonly added: Promise<void>;
  users: number;
  restored: Promise<void> | undefined;
}

export class OwnedDirectories {
  readonly #opened = new Map<string, Opened>();

  /** Runs `use` while the owner, if that is us, may change the directory. `path` tells directories apart. */
  async changing<T>(path: string, anchor: Anchor, use: () => Promise<T>): Promise<T> {
    if (process.geteuid?.() === 0) return use();
    for (;;) {
      const opened = this.#opened.get(path);
      if (opened?.restored !== undefined) {
        await opened.restored;
        continue;
      }
      if (opened !== undefined) return this.#sharing(path, opened, anchor, use);
      const before = await lackingMode(anchor);
      if (this.#opened.has(path)) continue;
      if (before === undefined) return use();
      const added = chmod(anchor.self, before | ownersBits);
      const made = { before, added, users: 0, restored: undefined };
      this.#opened.set(path, made);
      return this.#sharing(path, made, anchor, use);
    }
  }

  async #sharing<T>(
    path: string,
    opened: Opened,
    anchor: Anchor,
    use: () => Promise<T>,
  ): Promise<T> {
    opened.users++;
    try {
      await opened.added;
      return await use();
    } finally {
      opened.users--;
      if (opened.users === 0) {
        opened.restored = restore(anchor, opened.before).finally(() => this.#opened.delete(path));
        await opened.restored;
      }
    }
  }
}

/** The mode of a directory that is ours and lacks a bit for us. */
async function lackingMode(anchor: Anchor): Promise<number | undefined> {
  const { uid, mode } = await stat(anchor.self);
  const lacks = uid === process.geteuid?.() && (mode & ownersBits) !== ownersBits;
  return lacks ? mode & permissionBits : undefined;
}

/** What was done is done, whether its directory is still there or not. */
async function restore(anchor: Anchor, before: number): Promise<void> {
  try {
    const { mode } = await stat(anchor.self);
    if ((mode & permissionBits) === (before | ownersBits)) await chmod(anchor.self, before);
  } catch {
    // Removed or given away meanwhile.
  }
}
