/**
 * The file system as programs see it, in terms of inodes and handles: what FUSE, the gateways and the path level stand
 * on. Names are latin1 strings, one character per byte. Every operation ends by its deadline and rejects with a
 * WeirError; `errnoOf` maps its code.
 */
import type { InodeId } from "../lib/ids.ts";
import type { Caller, FileKind, FileStatus, Timestamp, WriteType } from "../rpc/namespace.ts";

/** Who and what a new inode belongs to; permission bits 0 … 0o7777. */
export interface Ownership {
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Bits that are taken from `mode`, unless the directory has a default access control list. */
  readonly umask?: number | undefined;
}

export interface DirectoryEntry {
  readonly name: string;
  readonly status: FileStatus;
}

export interface AttributeChanges {
  readonly mode?: number | undefined;
  readonly uid?: number | undefined;
  readonly gid?: number | undefined;
  readonly atime?: Timestamp | undefined;
  readonly mtime?: Timestamp | undefined;
  /** Both times become now, by the masters' clock: for whoever may write the file. Others can only be set by its owner. */
  readonly touch?: boolean | undefined;
}

export interface RenameOptions {
  /** Fail with `AlreadyExists` when the target is there. */
  readonly noReplace?: boolean | undefined;
  /** The two names change places; both must be there. */
  readonly exchange?: boolean | undefined;
}

export interface OpenOptions {
  readonly read: boolean;
  readonly write: boolean;
  /** Every write goes to the end of the file, whatever its offset. */
  readonly append?: boolean | undefined;
  readonly truncate?: boolean | undefined;
  /** What the caller must be permitted, a sum of `permission`; by default to read and to write as asked for above. */
  readonly access?: number | undefined;
  /** Copies of data that is not persisted; by default what the configuration says. */
  readonly keepers?: number | undefined;
}

export interface CreateOptions extends Ownership {
  /** Fail with `AlreadyExists` when the name is taken; otherwise the existing file is opened. */
  readonly exclusive: boolean;
  readonly writeType?: WriteType | undefined;
  readonly keepers?: number | undefined;
  readonly append?: boolean | undefined;
}

/**
 * An open file. Reads see what this client wrote, flushed or not; what other clients commit shows after the end of the
 * bytes that were known. An error of a write sticks: every later flush and sync reports it.
 */
export interface FileHandle {
  /** As of the version that the handle reads, with the size that this client made it. */
  readonly status: FileStatus;
  /** Bytes [offset, offset + length), fewer at the end of the file; the caller owns the array. */
  read(offset: number, length: number): Promise<Uint8Array>;
  /** Fills `target` from `offset` and answers how many bytes there were: fewer only at the end of the file. */
  readInto(target: Uint8Array, offset: number): Promise<number>;
  /** Takes all of `data`, which is copied. In append mode `offset` is ignored. */
  write(offset: number, data: Uint8Array): Promise<void>;
  truncate(size: number): Promise<void>;
  /** Publishes what was written: other clients see it, and it survives as its write type says. Ends the write lease. */
  flush(): Promise<void>;
  /** As `flush`, and on disk where the tier is one; keeps the write lease. */
  sync(): Promise<void>;
  /** Flushes, and forgets the handle also when that fails. */
  close(): Promise<void>;
}

export interface FileSystem {
  /** The same file system in the name of another caller; undefined: the superuser. */
  as(caller: Caller | undefined): FileSystem;
  /** @throws WeirError `NotFound`, `NotDirectory` */
  lookup(parent: InodeId, name: string): Promise<FileStatus>;
  getStatus(inode: InodeId): Promise<FileStatus>;
  /** All names of a directory in byte order, without `.` and `..`. */
  list(directory: InodeId): AsyncIterable<DirectoryEntry>;
  create(parent: InodeId, name: string, options: CreateOptions): Promise<FileHandle>;
  /** Makes an inode without content: a fifo, a socket, a device (`rdev`: major · 2^32 + minor), an empty file. */
  makeNode(
    parent: InodeId,
    name: string,
    options: Ownership & { kind: FileKind; rdev?: number | undefined },
  ): Promise<FileStatus>;
  mkdir(parent: InodeId, name: string, options: Ownership): Promise<FileStatus>;
  symlink(
    parent: InodeId,
    name: string,
    options: { target: string; uid: number; gid: number },
  ): Promise<FileStatus>;
  link(inode: InodeId, parent: InodeId, name: string): Promise<FileStatus>;
  unlink(parent: InodeId, name: string): Promise<void>;
  rmdir(parent: InodeId, name: string): Promise<void>;
  /** rename(2): an existing target is replaced; with `exchange` the two change places. */
  rename(
    source: { parent: InodeId; name: string },
    target: { parent: InodeId; name: string },
    options?: RenameOptions,
  ): Promise<void>;
  setAttributes(inode: InodeId, changes: AttributeChanges): Promise<FileStatus>;
  /** The value of an extended attribute; the name has its namespace. @throws WeirError `NoData` where there is none */
  getXattr(inode: InodeId, name: string): Promise<Uint8Array>;
  /** Names of all extended attributes, in byte order. */
  listXattrs(inode: InodeId): Promise<readonly string[]>;
  /** @throws WeirError `AlreadyExists`, `NoData` as `how` asks; `NotSupported` for a namespace that there is not */
  setXattr(
    inode: InodeId,
    name: string,
    value: Uint8Array,
    how?: "set" | "create" | "replace",
  ): Promise<FileStatus>;
  removeXattr(inode: InodeId, name: string): Promise<FileStatus>;
  truncate(inode: InodeId, size: number): Promise<FileStatus>;
  open(inode: InodeId, options: OpenOptions): Promise<FileHandle>;
  /** A symbolic link was read, for its access time: its target came with the status. Files and directories tell themselves. */
  wasRead(status: FileStatus): void;
  statFs(): Promise<{ inodes: number; capacityBytes: number; usedBytes: number }>;
}
