/**
 * The disk under one simulated journal: what was written and not reported as durable may be lost at a power cut, sector by
 * sector, and so may names that the directory was not synced for.
 *
 * Invariants
 * 1. A sector of 512 bytes is written whole or not at all.
 * 2. What was reported as durable is found after a power cut, unless the disk itself is at fault: a flipped bit, or a
 *    write that went elsewhere. A killed process loses nothing that it has handed over.
 */
import type { JournalFiles } from "../../src/journal/files.ts";
import type { World } from "./world.ts";

const sectorBytes = 512;
/** How often a write looks whether the disk moves again. */
const stallCheckMs = 20;
/** Longest time that a write takes when the disk is slow, but moves. */
const slowestMs = 3000;

interface Inode {
  /** As programs see it. */
  bytes: Buffer;
  /** As the platters have it. */
  durable: Buffer;
}

interface Write {
  readonly inode: Inode;
  readonly bytes: Buffer;
  readonly position: number;
}

/** Names that come or go together. */
type Change = readonly { readonly name: string; readonly inode: Inode | undefined }[];

export class SimulatedFiles {
  readonly #world: World;
  #entries = new Map<string, Inode>();
  #durableEntries = new Map<string, Inode>();
  /** Changes of names since the last sync of the directory. */
  #changes: Change[] = [];
  readonly #writing = new Set<Write>();
  /** Counts restarts: what was under way before one is void. */
  #generation = 0;
  /** How long writes take now, times. */
  slowness = 1;
  /** No write is done before. */
  stalledUntilMs = 0;
  isFull = false;
  /** The next write ends with an error. */
  failsNextWrite = false;
  /** The next write goes elsewhere, if this says that it may. */
  misdirectsNextWrite: (() => boolean) | undefined;
  /** Called when a write begins. */
  onWrite: (durationMs: number) => void = () => undefined;

  constructor(world: World) {
    this.#world = world;
  }

  /** Bytes of all files. */
  get sizeBytes(): number {
    let size = 0;
    for (const { bytes } of this.#entries.values()) size += bytes.length;
    return size;
  }

  /** What a process that starts now sees; calls of earlier ones never settle any more, nor do anything. */
  open(directory: string): JournalFiles {
    const generation = this.#generation;
    const never = new Promise<never>(() => undefined);
    const call = <T>(action: () => Promise<T>): Promise<T> =>
      generation === this.#generation ? action() : never;
    return {
      directory,
      list: () => call(async () => [...this.#entries.keys()]),
      read: (name) => call(async () => Buffer.from(this.#get(name).bytes)),
      create: (name, sizeBytes, head) => call(() => this.#create(name, sizeBytes, head)),
      openWriter: (name) =>
        call(async () => {
          const inode = this.#get(name);
          return {
            write: (bytes, position) =>
              call(() => this.#write({ inode, bytes: Buffer.from(bytes), position })),
            close: async () => undefined,
          };
        }),
      rename: (from, to) =>
        call(async () => {
          const inode = this.#get(from);
          this.#change([
            { name: from, inode: undefined },
            { name: to, inode },
          ]);
        }),
      remove: (name) => call(async () => this.#change([{ name, inode: undefined }])),
      syncDirectory: () => call(() => this.#syncDirectory()),
      freeBytes: () => call(async () => (this.isFull ? 0 : 1e12)),
      close: async () => undefined,
    };
  }

  /** The process is gone; what it wrote stays, of a write under way perhaps a part. */
  kill(): void {
    this.#generation++;
    for (const write of this.#writing) this.#writeSome(write);
    this.#writing.clear();
    this.misdirectsNextWrite = undefined;
    this.failsNextWrite = false;
  }

  losePower(): void {
    this.kill();
    const { random } = this.#world;
    const survivors = random.below(this.#changes.length + 1);
    for (const change of this.#changes.slice(0, survivors)) {
      applyChange(this.#durableEntries, change);
    }
    this.#changes = [];
    this.#entries = new Map(this.#durableEntries);
    for (const inode of this.#entries.values()) this.#forgetCache(inode);
  }

  /** Flips one bit of what was written to a segment; false when nothing was. */
  flipBit(): boolean {
    const { random } = this.#world;
    const segments = [...this.#entries].filter(([name]) => name.endsWith(".wal"));
    if (segments.length === 0) return false;
    const [, inode] = segments[random.below(segments.length)]!;
    let end = inode.bytes.length;
    while (end > 0 && inode.bytes[end - 1] === 0) end--;
    const at = random.below(end);
    const mask = 1 << random.below(8);
    inode.bytes[at] = inode.bytes[at]! ^ mask;
    if (at < inode.durable.length) inode.durable[at] = inode.durable[at]! ^ mask;
    return true;
  }

  #get(name: string): Inode {
    const inode = this.#entries.get(name);
    if (inode !== undefined) return inode;
    throw Object.assign(new Error(`ENOENT: no such file, '${name}'`), { code: "ENOENT" });
  }

  #change(change: Change): void {
    this.#changes.push(change);
    applyChange(this.#entries, change);
  }

  #create(name: string, sizeBytes: number, head: Uint8Array): Promise<void> {
    const bytes = Buffer.alloc(sizeBytes);
    bytes.set(head);
    const inode = { bytes: Buffer.alloc(0), durable: Buffer.alloc(0) };
    this.#change([{ name, inode }]);
    return this.#write({ inode, bytes, position: 0 });
  }

  #write(write: Write): Promise<void> {
    this.#writing.add(write);
    return this.#later(() => {
      this.#writing.delete(write);
      if (this.failsNextWrite) {
        this.failsNextWrite = false;
        this.#writeSome(write);
        throw Object.assign(new Error("EIO: i/o error, write"), { code: "EIO" });
      }
      writeAt(write, this.#destinationOf(write), true);
    });
  }

  #syncDirectory(): Promise<void> {
    const count = this.#changes.length;
    return this.#later(() => {
      for (const change of this.#changes.splice(0, count)) {
        applyChange(this.#durableEntries, change);
      }
    });
  }

  /** Does it when the disk gets there, unless the process is killed before. */
  #later(effect: () => void): Promise<void> {
    const world = this.#world;
    const { syncMs, stallOneIn } = world.faults;
    const factor = this.slowness * (world.oneIn(stallOneIn) ? 50 : 1);
    const durationMs = Math.min(slowestMs, factor * (1 + world.random.below(syncMs)));
    const generation = this.#generation;
    this.onWrite(durationMs);
    return new Promise((resolve, reject) => {
      const finish = () => {
        if (generation !== this.#generation) return;
        if (this.stalledUntilMs > world.timeline.nowMs) {
          world.timeline.after(stallCheckMs, finish);
          return;
        }
        world.stir();
        try {
          effect();
          resolve();
        } catch (error) {
          reject(error instanceof Error ? error : new Error(String(error)));
        }
      };
      world.timeline.after(durationMs, finish);
    });
  }

  /** Where a write ends up: a misdirected one on other sectors of the same file. */
  #destinationOf({ inode, bytes, position }: Write): number {
    const report = this.misdirectsNextWrite;
    const sectors = Math.floor((inode.bytes.length - bytes.length) / sectorBytes);
    if (report === undefined || sectors < 1) return position;
    const elsewhere = this.#world.random.below(sectors + 1) * sectorBytes;
    if (elsewhere === position) return position;
    this.misdirectsNextWrite = undefined;
    return report() ? elsewhere : position;
  }

  /** A write that was cut off: nothing of it, all, its beginning, or any of its sectors; durable or only in the cache. */
  #writeSome({ inode, bytes, position }: Write): void {
    const { random } = this.#world;
    const way = random.below(4);
    const isDurable = random.below(2) === 0;
    const sectors = Math.ceil(bytes.length / sectorBytes);
    const beginning = random.below(sectors + 1);
    let written = 0;
    for (let sector = 0; sector < sectors; sector++) {
      const isWritten =
        way === 1 || (way === 2 && sector < beginning) || (way === 3 && random.below(2) === 0);
      if (!isWritten) continue;
      written++;
      const from = sector * sectorBytes;
      const part = bytes.subarray(from, from + sectorBytes);
      writeAt({ inode, bytes: part }, position + from, isDurable);
    }
    if (written === 0) this.#world.count("lost writes");
    else if (written < sectors) this.#world.count("torn writes");
  }

  /** Of what only the cache has, each sector is lost or not. */
  #forgetCache(inode: Inode): void {
    if (inode.bytes.equals(inode.durable)) return;
    for (let at = 0; at < inode.bytes.length; at += sectorBytes) {
      const part = inode.bytes.subarray(at, at + sectorBytes);
      if (part.equals(inode.durable.subarray(at, at + sectorBytes))) continue;
      if (this.#world.random.below(2) === 0) {
        writeAt({ inode, bytes: Buffer.from(part) }, at, true);
      }
    }
    inode.bytes = Buffer.from(inode.durable);
  }
}

function applyChange(entries: Map<string, Inode>, change: Change): void {
  for (const { name, inode } of change) {
    if (inode === undefined) entries.delete(name);
    else entries.set(name, inode);
  }
}

function writeAt(
  { inode, bytes }: Pick<Write, "inode" | "bytes">,
  position: number,
  isDurable: boolean,
): void {
  inode.bytes = enlarged(inode.bytes, position + bytes.length);
  inode.bytes.set(bytes, position);
  if (!isDurable) return;
  inode.durable = enlarged(inode.durable, position + bytes.length);
  inode.durable.set(bytes, position);
}

function enlarged(bytes: Buffer, size: number): Buffer {
  if (size <= bytes.length) return bytes;
  const larger = Buffer.alloc(size);
  bytes.copy(larger);
  return larger;
}
