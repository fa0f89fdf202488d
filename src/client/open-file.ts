/**
 * Open files of one client: the state that all handles of an inode share, and the handle itself.
 *
 * Invariants
 * 1. All writes of this client to one inode go through one `InodeWriter`.
 * 2. Handles of this client follow its own commits at once, those of others at the end of the bytes they know.
 */
import { WeirError } from "../lib/errors.ts";
import type { InodeId } from "../lib/ids.ts";
import type { FileStatus, WriteType } from "../rpc/namespace.ts";
import { FileReader, type ReadSources } from "./file-reader.ts";
import type { FileHandle, OpenOptions } from "./file-system.ts";
import { InodeWriter } from "./inode-writer.ts";
import { layoutWindowBytes } from "./layouts.ts";
import type { WriteTargets } from "./write-targets.ts";

/** What handles need of the client that opened them. */
export interface FileHost {
  readonly reads: ReadSources;
  readonly writes: WriteTargets;
  readonly defaultWriteType: WriteType;
  /** The masters' word on the inode, now. */
  freshStatus(inode: InodeId): Promise<FileStatus>;
  truncate(inode: InodeId, size: number): Promise<FileStatus>;
  /** Waits until the under storage holds what was written. */
  waitPersisted(inode: InodeId): Promise<void>;
  /** Drops cached copies of what is persisted. */
  free(inode: InodeId): Promise<void>;
  onClosed(file: SharedFile): void;
  /** Bytes of the file were read, as of this status. */
  onRead(status: FileStatus): void;
}

/** An inode that is open in this client, or being opened or truncated. */
export class SharedFile {
  readonly inode: InodeId;
  readonly handles = new Set<OpenFile>();
  /** Calls that wait with this object in hand: it must not be replaced by another one meanwhile. */
  pins = 0;
  writer: InodeWriter | undefined;
  /** Its last name is gone; the masters keep it until we release it. */
  unlinked = false;
  /** Versions that the masters hold for us. */
  readonly held = new Set<number>();

  constructor(inode: InodeId) {
    this.inode = inode;
  }

  /** What this client knows better than the masters: what it has written and not committed. */
  overlay(status: FileStatus): FileStatus {
    const { writer } = this;
    if (writer === undefined || !writer.dirty) return status;
    const { size, mtime, ctime } = writer.status;
    return { ...status, size, mtime, ctime };
  }

  /** Versions that its handles read and can go on reading when they are others' past. */
  get versionsRead(): ReadonlySet<number> {
    const versions = new Set<number>();
    for (const { versionRead } of this.handles) {
      if (versionRead !== undefined) versions.add(versionRead);
    }
    return versions;
  }

  committed(status: FileStatus): void {
    for (const handle of this.handles) handle.follow(status);
  }

  failed(error: WeirError): void {
    this.writer = undefined;
    for (const handle of this.handles) handle.stick(error);
  }
}

export class OpenFile implements FileHandle {
  readonly #host: FileHost;
  readonly #file: SharedFile;
  readonly #options: OpenOptions;
  readonly #reader: FileReader;
  #failure: WeirError | undefined;
  #closed = false;
  #wrote = false;
  /** The version whose reading the host knows of. */
  #toldRead = 0;

  constructor(host: FileHost, file: SharedFile, status: FileStatus, options: OpenOptions) {
    this.#host = host;
    this.#file = file;
    this.#options = options;
    this.#reader = new FileReader(host.reads, status);
    file.handles.add(this);
    // Of a small file the layout comes with the open.
    if (options.read && status.size > layoutWindowBytes) {
      this.#reader.locateAll().catch((error: unknown) => {
        const { logger } = host.writes;
        logger.debug({ inode: file.inode, error: String(error) }, "file not located ahead");
      });
    }
  }

  /** The version that it reads, if it knows where all of that is. */
  get versionRead(): number | undefined {
    const { status, isLocated } = this.#reader;
    return this.#options.read && isLocated ? status.version : undefined;
  }

  get status(): FileStatus {
    return this.#file.overlay(this.#reader.status);
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    // Never more than there is: callers may ask for far more.
    const known = Math.max(this.status.size - offset, 0);
    const target = Buffer.allocUnsafeSlow(Math.min(length, Math.max(known, 4096)));
    return target.subarray(0, await this.readInto(target, offset));
  }

  async readInto(target: Uint8Array, offset: number): Promise<number> {
    this.#check(this.#options.read, "read");
    const { status } = this.#reader;
    if (status.version !== this.#toldRead) {
      this.#toldRead = status.version;
      this.#host.onRead(status);
    }
    const { writer } = this.#file;
    if (writer !== undefined && writer.dirty) return this.#readThrough(writer, target, offset);
    if (offset >= this.#reader.status.size && target.length > 0) {
      // At the end of what is known: others may have appended.
      const fresh = await this.#host.freshStatus(this.#file.inode);
      if (fresh.version > this.#reader.status.version) this.#reader.adopt(fresh);
    }
    return this.#reader.readInto(target, offset);
  }

  async write(offset: number, data: Uint8Array): Promise<void> {
    this.#check(this.#options.write, "written");
    this.#wrote = true;
    const writer = this.#writer();
    try {
      await writer.write(this.#options.append === true ? undefined : offset, data);
    } catch (error) {
      throw this.#failure ?? error;
    }
  }

  async truncate(size: number): Promise<void> {
    this.#check(this.#options.write, "truncated");
    await this.#host.truncate(this.#file.inode, size);
  }

  async flush(): Promise<void> {
    await this.#publish({ release: true, sync: false });
  }

  async sync(): Promise<void> {
    await this.#publish({ release: false, sync: true });
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    try {
      await this.#publish({ release: true, sync: false });
    } finally {
      this.#closed = true;
      this.#reader.close();
      this.#file.handles.delete(this);
      this.#host.onClosed(this.#file);
    }
  }

  /** This client made a new version. */
  follow(status: FileStatus): void {
    if (status.version >= this.#reader.status.version) this.#reader.adopt(status);
  }

  /** What was written through this handle is lost: says so from now on. */
  stick(error: WeirError): void {
    if (this.#wrote) this.#failure ??= error;
  }

  async #publish(options: { release: boolean; sync: boolean }): Promise<void> {
    if (!this.#options.write) return;
    this.#throwFailure();
    const { writer } = this.#file;
    if (writer === undefined) return;
    const wrote = writer.busy;
    await writer.flush(options);
    this.#throwFailure();
    if (!wrote || !options.release) return;
    const type = this.#reader.status.writeType ?? this.#host.defaultWriteType;
    if (type !== "CACHE_THROUGH" && type !== "THROUGH") return;
    await this.#host.waitPersisted(this.#file.inode);
    if (type === "THROUGH") await this.#host.free(this.#file.inode);
  }

  #writer(): InodeWriter {
    this.#file.writer ??= new InodeWriter(this.#host.writes, this.#reader.status, {
      keepers: this.#options.keepers,
    });
    return this.#file.writer;
  }

  /** Bytes that are not committed come from the writer, the rest from the version below. */
  async #readThrough(writer: InodeWriter, target: Uint8Array, offset: number): Promise<number> {
    const length = Math.max(0, Math.min(target.length, writer.size - offset));
    const wanted = target.subarray(0, length);
    for (const gap of writer.overlay(wanted, offset)) {
      const from = gap.offset - offset;
      const part = wanted.subarray(from, from + gap.length);
      const got = await this.#reader.readInto(part, gap.offset);
      part.fill(0, got);
    }
    return length;
  }

  #check(allowed: boolean, done: string): void {
    if (this.#closed || !allowed) {
      const why = this.#closed ? "it is closed" : "it was not opened for that";
      throw new WeirError(
        "InvalidArgument",
        `Cannot use inode ${String(this.#file.inode)}: it was to be ${done}, and ${why}`,
      );
    }
    this.#throwFailure();
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }
}
