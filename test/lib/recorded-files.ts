/**
 * A journal's directory in memory that remembers each change made to it, so that a test can have the disk as it was at
 * any moment of a crash: everything before a change durable, that change in part or not at all.
 */
import { posix } from "node:path";
import type { JournalFiles, ReadableFiles } from "../../src/journal/files.ts";

const sectorBytes = 512;

/** What happened; `sync` makes the renames and removals before it durable, `mark` is a note of the test. */
export type Change<Mark> =
  | { readonly kind: "create"; readonly name: string; readonly bytes: Buffer }
  | {
      readonly kind: "write";
      readonly name: string;
      readonly position: number;
      readonly bytes: Buffer;
    }
  | { readonly kind: "rename"; readonly from: string; readonly to: string }
  | { readonly kind: "remove"; readonly name: string }
  | { readonly kind: "sync" }
  | { readonly kind: "mark"; readonly mark: Mark };

export type Disk = Map<string, Buffer>;

/** The part of `openFiles` that looks at a disk. */
export function readDisk(disk: Disk): ReadableFiles {
  return {
    directory: "/disk",
    list: async () => [...disk.keys()],
    read: async (name) => disk.get(posix.basename(name))!,
  };
}

export class RecordedFiles<Mark> {
  readonly history: Change<Mark>[] = [];
  readonly disk: Disk;

  constructor(disk: Disk = new Map()) {
    this.disk = copyOf(disk);
  }

  mark(mark: Mark): void {
    this.history.push({ kind: "mark", mark });
  }

  async open(): Promise<JournalFiles> {
    const change = async (made: Change<Mark>) => {
      // As a disk does: what is asked for meanwhile waits.
      await new Promise((resolve) => setImmediate(resolve));
      this.history.push(made);
      applyChange(this.disk, made);
    };
    return {
      ...readDisk(this.disk),
      create: (name, sizeBytes, head) => {
        const bytes = Buffer.alloc(sizeBytes);
        bytes.set(head);
        return change({ kind: "create", name, bytes });
      },
      openWriter: async (opened) => {
        let name = opened;
        const renamed = () => {
          // The descriptor follows its file.
          for (const made of this.history.slice(since)) {
            if (made.kind === "rename" && made.from === name) name = made.to;
          }
          since = this.history.length;
        };
        let since = this.history.length;
        return {
          write: (bytes, position) => {
            renamed();
            return change({ kind: "write", name, position, bytes: Buffer.from(bytes) });
          },
          close: async () => undefined,
        };
      },
      rename: (from, to) => change({ kind: "rename", from, to }),
      remove: (name) => change({ kind: "remove", name }),
      syncDirectory: () => change({ kind: "sync" }),
      freeBytes: async () => Number.MAX_SAFE_INTEGER,
      close: async () => undefined,
    };
  }
}

/** The disk after `changes`, all of them durable. */
export function diskAfter<Mark>(changes: readonly Change<Mark>[]): Disk {
  const disk: Disk = new Map();
  for (const change of changes) applyChange(disk, change);
  return disk;
}

/** A copy of `disk` with the sectors of `write` that `reaches` picks. */
export function torn<Mark>(
  disk: Disk,
  write: Extract<Change<Mark>, { kind: "write" }>,
  reaches: (sector: number) => boolean,
): Disk {
  const copy = new Map(disk);
  const bytes = Buffer.from(copy.get(write.name)!);
  for (let at = 0; at < write.bytes.length; at += sectorBytes) {
    if (!reaches(at / sectorBytes)) continue;
    write.bytes.copy(bytes, write.position + at, at, at + sectorBytes);
  }
  return copy.set(write.name, bytes);
}

export function copyOf(disk: Disk): Disk {
  return new Map([...disk].map(([name, bytes]) => [name, Buffer.from(bytes)]));
}

function applyChange<Mark>(disk: Disk, change: Change<Mark>): void {
  switch (change.kind) {
    case "create":
      disk.set(change.name, Buffer.from(change.bytes));
      return;
    case "write":
      change.bytes.copy(disk.get(change.name)!, change.position);
      return;
    case "rename":
      disk.set(change.to, disk.get(change.from)!);
      disk.delete(change.from);
      return;
    case "remove":
      disk.delete(change.name);
      return;
    case "sync":
    case "mark":
      return;
  }
}
