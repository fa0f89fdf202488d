/**
 * The POSIX operations, once, in terms of inodes, names and handles: what a transport translates requests of the kernel
 * to. Failures are WeirErrors; the transport maps them to errno.
 *
 * Invariants
 * 1. All is asked for in the name of one caller, to whom new inodes belong: of this process, where the transport does not
 *    know who calls. One that does asks `as` that one.
 * 2. A handle number is valid from `open` or `create` to `release`, and is not 0.
 */
import type { AttributeChanges, FileHandle, FileSystem } from "../client/file-system.ts";
import { WeirError } from "../lib/errors.ts";
import { type InodeId, rootInodeId } from "../lib/ids.ts";
import { permission } from "../rpc/access.ts";
import type { Caller, FileKind, FileStatus, Timestamp } from "../rpc/namespace.ts";

/** stat(2), with times in milliseconds since 1970. */
export interface Attributes {
  readonly ino: number;
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  /** Of a device, as the kernel writes it. */
  readonly rdev: number;
  readonly size: number;
  /** In units of 512 bytes. */
  readonly blocks: number;
  readonly blksize: number;
  readonly atime: number;
  readonly mtime: number;
  readonly ctime: number;
}

export interface Place {
  readonly parent: InodeId;
  readonly name: string;
}

const typeBits: Readonly<Record<FileKind, number>> = {
  file: 0o100000,
  directory: 0o040000,
  symlink: 0o120000,
  fifo: 0o010000,
  socket: 0o140000,
  charDevice: 0o020000,
  blockDevice: 0o060000,
};
/** What mknod(2) makes. */
const nodeKinds = ["file", "fifo", "socket", "charDevice", "blockDevice"] as const;
const typeMask = 0o170000;
const permissionMask = 0o7777;

/** open(2) flags of Linux. */
const flagBits = { accessMode: 0o3, readOnly: 0, writeOnly: 1, truncate: 0o1000, append: 0o2000 };
const renameFlags = { noReplace: 1, exchange: 2 };
const xattrFlags = { create: 1, replace: 2 };
/** What programs should read and write at once: the largest request of libfuse 2. */
const preferredBytes = 128 * 1024;
/** chown(2): leave as it is. */
const unchangedId = 0xffff_ffff;

/** Files that are open through a mount, whoever opened them. */
interface OpenHandles {
  readonly handles: Map<number, FileHandle>;
  next: number;
}

export class PosixOperations {
  readonly #fileSystem: FileSystem;
  readonly #readOnly: boolean;
  readonly #owner: { readonly uid: number; readonly gid: number };
  readonly #open: OpenHandles;

  /** `open`: the handles of another one, to whom this one's are known as well. */
  constructor(
    fileSystem: FileSystem,
    options: { readOnly: boolean; owner: { uid: number; gid: number } },
    open: OpenHandles = { handles: new Map(), next: 1 },
  ) {
    this.#fileSystem = fileSystem;
    this.#readOnly = options.readOnly;
    const { uid, gid } = options.owner;
    this.#owner = { uid, gid };
    this.#open = open;
  }

  /** The operations of another caller on the same mount: for transports that know who calls. */
  as(caller: Caller): PosixOperations {
    const options = { readOnly: this.#readOnly, owner: caller };
    return new PosixOperations(this.#fileSystem.as(caller), options, this.#open);
  }

  /** Files that are open through this mount. */
  get openHandles(): number {
    return this.#open.handles.size;
  }

  /** The inode at the end of a walk from the root. @throws WeirError `NotFound`, `NotDirectory` */
  async walk(names: readonly string[]): Promise<FileStatus> {
    let status: FileStatus | undefined;
    for (const name of names) {
      status = await this.#fileSystem.lookup(status?.inode ?? rootInodeId, name);
    }
    return status ?? this.#fileSystem.getStatus(rootInodeId);
  }

  attributes(status: FileStatus): Attributes {
    const { inode, kind, mode, uid, gid, size, nlink } = status;
    return {
      ino: inode,
      mode: typeBits[kind] | mode,
      nlink: Math.max(nlink, 1),
      uid,
      gid,
      rdev: kernelDevice(status.rdev ?? 0),
      size,
      blocks: Math.ceil(size / 512),
      blksize: preferredBytes,
      atime: milliseconds(status.atime),
      mtime: milliseconds(status.mtime),
      ctime: milliseconds(status.ctime),
    };
  }

  async list(directory: FileStatus): Promise<{ name: string; attributes: Attributes }[]> {
    const entries: { name: string; attributes: Attributes }[] = [];
    for await (const { name, status } of this.#fileSystem.list(directory.inode)) {
      entries.push({ name, attributes: this.attributes(status) });
    }
    return entries;
  }

  async open(inode: InodeId, flags: number): Promise<number> {
    const access = flags & flagBits.accessMode;
    const write = access !== flagBits.readOnly;
    const truncate = (flags & flagBits.truncate) !== 0;
    if (write || truncate) this.#refuseReadOnly("open a file for writing");
    return this.#enter(
      await this.#fileSystem.open(inode, {
        // Reading what one writes is refused by the kernel where it must be.
        read: true,
        write,
        append: (flags & flagBits.append) !== 0,
        truncate,
        access:
          (access === flagBits.writeOnly ? 0 : permission.read) |
          (write || truncate ? permission.write : 0),
      }),
    );
  }

  /** Makes a file that was not there and opens it to read and write. */
  async create({ parent, name }: Place, mode: number): Promise<number> {
    this.#refuseReadOnly(`create "${name}"`);
    const handle = await this.#fileSystem.create(parent, name, {
      mode: mode & permissionMask,
      ...this.#owner,
      exclusive: true,
    });
    return this.#enter(handle);
  }

  /** Fills `target`; answers the number of bytes, fewer only at the end of the file. */
  read(handle: number, target: Uint8Array, offset: number): Promise<number> {
    return this.#handle(handle).readInto(target, offset);
  }

  write(handle: number, data: Uint8Array, offset: number): Promise<void> {
    return this.#handle(handle).write(offset, data);
  }

  flush(handle: number): Promise<void> {
    return this.#handle(handle).flush();
  }

  sync(handle: number): Promise<void> {
    return this.#handle(handle).sync();
  }

  async release(handle: number): Promise<void> {
    const open = this.#handle(handle);
    this.#open.handles.delete(handle);
    await open.close();
  }

  async truncate(inode: InodeId, size: number): Promise<void> {
    this.#refuseReadOnly("truncate a file");
    await this.#fileSystem.truncate(inode, size);
  }

  truncateOpen(handle: number, size: number): Promise<void> {
    return this.#handle(handle).truncate(size);
  }

  async mkdir({ parent, name }: Place, mode: number): Promise<void> {
    this.#refuseReadOnly(`create directory "${name}"`);
    const ownership = { mode: mode & permissionMask, ...this.#owner };
    await this.#fileSystem.mkdir(parent, name, ownership);
  }

  /** mknod(2); `device` as the kernel writes it, of no meaning but for devices. */
  async makeNode({ parent, name }: Place, mode: number, device: number): Promise<void> {
    this.#refuseReadOnly(`create "${name}"`);
    const type = mode & typeMask;
    const kind = type === 0 ? "file" : nodeKinds.find((each) => typeBits[each] === type);
    if (kind === undefined) {
      throw new WeirError(
        "InvalidArgument",
        `Cannot create "${name}": wanted a file, fifo, socket or device`,
      );
    }
    const ownership = { mode: mode & permissionMask, ...this.#owner };
    const rdev = kind === "charDevice" || kind === "blockDevice" ? deviceOf(device) : undefined;
    await this.#fileSystem.makeNode(parent, name, { ...ownership, kind, rdev });
  }

  /** setxattr(2), `flags` with XATTR_CREATE and XATTR_REPLACE. */
  async setXattr(inode: InodeId, name: string, value: Uint8Array, flags: number): Promise<void> {
    this.#refuseReadOnly(`set attribute "${name}"`);
    const how =
      (flags & xattrFlags.create) !== 0
        ? "create"
        : (flags & xattrFlags.replace) !== 0
          ? "replace"
          : "set";
    await this.#fileSystem.setXattr(inode, name, value, how);
  }

  getXattr(inode: InodeId, name: string): Promise<Uint8Array> {
    return this.#fileSystem.getXattr(inode, name);
  }

  listXattrs(inode: InodeId): Promise<readonly string[]> {
    return this.#fileSystem.listXattrs(inode);
  }

  async removeXattr(inode: InodeId, name: string): Promise<void> {
    this.#refuseReadOnly(`remove attribute "${name}"`);
    await this.#fileSystem.removeXattr(inode, name);
  }

  async symlink({ parent, name }: Place, target: string): Promise<void> {
    this.#refuseReadOnly(`create link "${name}"`);
    await this.#fileSystem.symlink(parent, name, { target, ...this.#owner });
  }

  readlink(status: FileStatus): string {
    if (status.kind === "symlink" && status.target !== undefined) {
      this.#fileSystem.wasRead(status);
      return status.target;
    }
    throw new WeirError(
      "InvalidArgument",
      `Cannot read inode ${String(status.inode)} as a link: it is a ${status.kind}`,
    );
  }

  async link(inode: InodeId, { parent, name }: Place): Promise<void> {
    this.#refuseReadOnly(`create link "${name}"`);
    await this.#fileSystem.link(inode, parent, name);
  }

  async unlink({ parent, name }: Place): Promise<void> {
    this.#refuseReadOnly(`remove "${name}"`);
    await this.#fileSystem.unlink(parent, name);
  }

  async rmdir({ parent, name }: Place): Promise<void> {
    this.#refuseReadOnly(`remove directory "${name}"`);
    await this.#fileSystem.rmdir(parent, name);
  }

  /** renameat2(2), `flags` with RENAME_NOREPLACE or RENAME_EXCHANGE. */
  async rename(source: Place, target: Place, flags = 0): Promise<void> {
    this.#refuseReadOnly(`rename "${source.name}"`);
    if ((flags & ~(renameFlags.noReplace | renameFlags.exchange)) !== 0) {
      throw new WeirError(
        "InvalidArgument",
        `Cannot rename "${source.name}": flags ${String(flags)} are not supported`,
      );
    }
    await this.#fileSystem.rename(source, target, {
      noReplace: (flags & renameFlags.noReplace) !== 0,
      exchange: (flags & renameFlags.exchange) !== 0,
    });
  }

  chmod(inode: InodeId, mode: number): Promise<void> {
    return this.#change(inode, { mode: mode & permissionMask });
  }

  chown(inode: InodeId, uid: number, gid: number): Promise<void> {
    return this.#change(inode, {
      uid: uid === unchangedId ? undefined : uid,
      gid: gid === unchangedId ? undefined : gid,
    });
  }

  /** Sets both times, in milliseconds since 1970. */
  utimens(inode: InodeId, atimeMs: number, mtimeMs: number): Promise<void> {
    return this.#change(inode, { atime: timestamp(atimeMs), mtime: timestamp(mtimeMs) });
  }

  /** access(2) for write: the kernel checks permission bits by itself. */
  checkAccess(mode: number): void {
    const wantsWrite = (mode & 2) !== 0;
    if (wantsWrite) this.#refuseReadOnly("write");
  }

  async statFs(): Promise<{
    blockBytes: number;
    blocks: number;
    freeBlocks: number;
    inodes: number;
  }> {
    const { inodes, capacityBytes, usedBytes } = await this.#fileSystem.statFs();
    // The binding has 32 bits for the numbers of blocks.
    let blockBytes = 4096;
    while (capacityBytes / blockBytes >= 2 ** 32) blockBytes *= 2;
    const blocks = Math.floor(capacityBytes / blockBytes);
    const freeBlocks = Math.max(0, blocks - Math.ceil(usedBytes / blockBytes));
    return { blockBytes, blocks, freeBlocks, inodes };
  }

  /** Closes what the kernel left open; answers the failures. */
  async releaseAll(): Promise<unknown[]> {
    const handles = [...this.#open.handles.values()];
    this.#open.handles.clear();
    const settled = await Promise.allSettled(handles.map((handle) => handle.close()));
    return settled.flatMap((each) => (each.status === "rejected" ? [each.reason as unknown] : []));
  }

  async #change(inode: InodeId, changes: AttributeChanges): Promise<void> {
    this.#refuseReadOnly("change attributes");
    await this.#fileSystem.setAttributes(inode, changes);
  }

  #enter(handle: FileHandle): number {
    const number = this.#open.next;
    this.#open.next = number === 0x7fff_ffff ? 1 : number + 1;
    this.#open.handles.set(number, handle);
    return number;
  }

  #handle(number: number): FileHandle {
    const handle = this.#open.handles.get(number);
    if (handle === undefined) {
      throw new WeirError(
        "InvalidArgument",
        `Cannot use file handle ${String(number)}: it is not open`,
      );
    }
    return handle;
  }

  #refuseReadOnly(doing: string): void {
    if (!this.#readOnly) return;
    throw new WeirError("ReadOnly", `Cannot ${doing}: the mount is read-only`);
  }
}

function milliseconds({ sec, nsec }: Timestamp): number {
  // The transport has unsigned numbers; earlier times show as 1970.
  return Math.max(0, sec * 1000 + Math.floor(nsec / 1_000_000));
}

function timestamp(ms: number): Timestamp {
  const sec = Math.floor(ms / 1000);
  return { sec, nsec: (Math.floor(ms) - sec * 1000) * 1_000_000 };
}

/** A device number of ours (major · 2^32 + minor) as the kernel writes it in 32 bits. */
function kernelDevice(rdev: number): number {
  const major = Math.floor(rdev / 2 ** 32);
  const minor = rdev % 2 ** 32;
  return ((minor & 0xff) | ((major & 0xfff) << 8) | ((minor & 0xfff00) << 12)) >>> 0;
}

function deviceOf(kernel: number): number {
  const major = (kernel >>> 8) & 0xfff;
  const minor = (kernel & 0xff) | ((kernel >>> 12) & 0xfff00);
  return major * 2 ** 32 + minor;
}
