/**
 * Has the masters hold what open files read, once others have overwritten, cut or unlinked it: opening a file says nothing to
 * them. Until they are told, the grace of what is retired keeps it.
 *
 * Invariants
 * 1. A version is held while a handle reads it and the masters have another one, or no name leads to the file any more.
 * 2. What is held is released when no handle reads it, at the latest with the last handle of the file, or with the session.
 */
import type { Clock } from "../lib/clock.ts";
import { hasCode } from "../lib/errors.ts";
import type { InodeId } from "../lib/ids.ts";
import type { Logger } from "../lib/logger.ts";
import type { FileStatus } from "../rpc/namespace.ts";
import type { ClientCommand } from "../rpc/commands.ts";
import { unwrap } from "../rpc/commands.ts";
import type { SharedFile } from "./open-file.ts";
import type { Session } from "./session.ts";

/** Changes of a file within that time are looked at together. */
const settleMs = 200;

export interface HeldVersionsOptions {
  readonly session: Pick<Session, "mutate">;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly files: ReadonlyMap<InodeId, SharedFile>;
  freshStatus(inode: InodeId): Promise<FileStatus>;
}

export class HeldVersions {
  readonly #options: HeldVersionsOptions;
  readonly #planned = new Map<SharedFile, () => void>();

  constructor(options: HeldVersionsOptions) {
    this.#options = options;
  }

  /** Others, or this client, changed something of the file, or may have. */
  changed(file: SharedFile): void {
    if (this.#planned.has(file) || file.handles.size === 0) return;
    const cancel = this.#options.clock.after(settleMs, () => {
      this.#planned.delete(file);
      this.#look(file).catch((error: unknown) => {
        const { logger } = this.#options;
        logger.debug({ inode: file.inode, error: String(error) }, "a version could not be held");
      });
    });
    this.#planned.set(file, cancel);
  }

  /** Its last handle is closed. */
  closed(file: SharedFile): void {
    this.#planned.get(file)?.();
    this.#planned.delete(file);
    if (file.unlinked || file.held.size > 0) this.#release({ kind: "release", inode: file.inode });
  }

  async #look(file: SharedFile): Promise<void> {
    if (!this.#isOpen(file)) return;
    // Nobody else can write it now, and its handles follow what is written here.
    if (file.writer?.busy === true) {
      this.changed(file);
      return;
    }
    const status = await this.#status(file.inode);
    if (status === undefined) return;
    const read = file.versionsRead;
    for (const version of read) {
      const isSafe = version === status.version && status.nlink > 0;
      if (!isSafe && !file.held.has(version) && this.#isOpen(file)) await this.#hold(file, version);
    }
    for (const version of [...file.held]) {
      if (read.has(version)) continue;
      file.held.delete(version);
      // With the last handle all of it is released.
      if (this.#isOpen(file)) this.#release({ kind: "release", inode: file.inode, version });
    }
    // Nothing held by version keeps the inode itself: that is released with the last handle.
    if (status.nlink === 0) file.unlinked = true;
  }

  async #hold(file: SharedFile, version: number): Promise<void> {
    const { session, files } = this.#options;
    const { inode } = file;
    const { results } = await session.mutate([{ kind: "retain", inode, version }]);
    unwrap(results[0]!, `Cannot hold version ${String(version)} of inode ${String(inode)}`);
    if (this.#isOpen(file)) {
      file.held.add(version);
      return;
    }
    // It was closed meanwhile, and may have been opened anew.
    const again = files.get(inode);
    if (again === undefined) this.#release({ kind: "release", inode });
    else again.held.add(version);
  }

  #isOpen(file: SharedFile): boolean {
    return file.handles.size > 0 && this.#options.files.get(file.inode) === file;
  }

  async #status(inode: InodeId): Promise<FileStatus | undefined> {
    try {
      return await this.#options.freshStatus(inode);
    } catch (error) {
      if (hasCode(error, "NotFound")) return undefined;
      throw error;
    }
  }

  #release(command: Extract<ClientCommand, { kind: "release" }>): void {
    // The masters let it go with the session at the latest.
    this.#options.session.mutate([command]).catch(() => undefined);
  }
}
