/**
 * Reads that may move access times, told to the masters late and together: by the rule of relatime, by which nearly none
 * does. What is not told when this client goes is forgotten.
 *
 * Invariant: at most `maxAtimes` inodes are remembered; beyond that they are told at once.
 */
import type { Clock } from "../lib/clock.ts";
import type { InodeId } from "../lib/ids.ts";
import { type ClientCommand, maxAtimes } from "../rpc/commands.ts";
import type { FileStatus } from "../rpc/namespace.ts";
import { lagsBehind } from "../rpc/relatime.ts";

const tellEveryMs = 5000;

export class Atimes {
  readonly #clock: Clock;
  readonly #tell: (command: ClientCommand) => Promise<unknown>;
  /** When each was read last, by the monotonic clock. */
  #reads = new Map<InodeId, number>();
  #cancelTimer: (() => void) | undefined;

  constructor(clock: Clock, tell: (command: ClientCommand) => Promise<unknown>) {
    this.#clock = clock;
    this.#tell = tell;
  }

  /** The inode was read just now, `status` is what is known of it. */
  read(status: FileStatus): void {
    const wallMs = this.#clock.wallMs();
    const sec = Math.floor(wallMs / 1000);
    if (!lagsBehind(status, { sec, nsec: Math.floor(wallMs - sec * 1000) * 1_000_000 })) return;
    this.#reads.set(status.inode, this.#clock.monotonicMs());
    if (this.#reads.size >= maxAtimes) void this.tell();
    this.#cancelTimer ??= this.#clock.after(tellEveryMs, () => void this.tell());
  }

  /** Tells what is remembered; resolves when the masters have it, or never will: nobody waits for an access time. */
  async tell(): Promise<void> {
    this.#cancelTimer?.();
    this.#cancelTimer = undefined;
    if (this.#reads.size === 0) return;
    const nowMs = this.#clock.monotonicMs();
    const reads = [...this.#reads].map(([inode, atMs]) => {
      return { inode, agoMs: Math.max(0, Math.floor(nowMs - atMs)) };
    });
    this.#reads = new Map();
    await this.#tell({ kind: "touchAtimes", reads }).catch(() => undefined);
  }

  /** Forgets what is left. */
  close(): void {
    this.#cancelTimer?.();
    this.#reads.clear();
  }
}
