/**
 * A file system in the heap, with the interface of the client: for tests of what stands on it. One process, no
 * permissions, no limits, no access control lists but those that are just a mode.
 */
import type {
  AttributeChanges,
  CreateOptions,
  DirectoryEntry,
  FileHandle,
  FileSystem,
  OpenOptions,
  Ownership,
  RenameOptions,
} from "../../src/client/file-system.ts";
import { type ErrorCode, WeirError } from "../../src/lib/errors.ts";
import { type InodeId, rootInodeId, rootMountId } from "../../src/lib/ids.ts";
import type { FileKind, FileStatus, Timestamp } from "../../src/rpc/namespace.ts";
import { accessAclName, decodeAcl, modeOfAcl } from "../../src/rpc/acl.ts";
import { namespaceOf } from "../../src/rpc/xattr.ts";

interface Node {
  status: FileStatus;
  bytes: Buffer;
  /** Of a directory: sorted only when listed. */
  readonly names: Map<string, InodeId>;
  readonly xattrs: Map<string, Uint8Array>;
}

export class MemoryFileSystem implements FileSystem {
  readonly #nodes = new Map<InodeId, Node>();
  #nextInode = 2;
  /** Reads under way, and the most there ever were at once. */
  reads = { now: 0, most: 0 };

  constructor() {
    this.#nodes.set(
      rootInodeId,
      this.#node(rootInodeId, "directory", { mode: 0o755, uid: 0, gid: 0 }),
    );
  }

  as(): this {
    return this;
  }

  async lookup(parent: InodeId, name: string): Promise<FileStatus> {
    return this.#get(this.#child(parent, name)).status;
  }

  async getStatus(inode: InodeId): Promise<FileStatus> {
    return this.#get(inode).status;
  }

  async *list(directory: InodeId): AsyncGenerator<DirectoryEntry> {
    for (const [name, inode] of [...this.#directory(directory)].sort(([a], [b]) =>
      a < b ? -1 : 1,
    )) {
      yield { name, status: this.#get(inode).status };
    }
  }

  async create(parent: InodeId, name: string, options: CreateOptions): Promise<FileHandle> {
    const existing = this.#directory(parent).get(name);
    if (existing !== undefined && options.exclusive) fail("AlreadyExists", name);
    const status =
      existing === undefined
        ? this.#make(parent, name, "file", options)
        : this.#get(existing).status;
    return this.open(status.inode, { read: true, write: true, append: options.append });
  }

  async makeNode(
    parent: InodeId,
    name: string,
    options: Ownership & { kind: FileKind; rdev?: number | undefined },
  ): Promise<FileStatus> {
    const { inode } = this.#make(parent, name, options.kind, options);
    return this.#update(inode, { rdev: options.rdev });
  }

  async mkdir(parent: InodeId, name: string, options: Ownership): Promise<FileStatus> {
    return this.#make(parent, name, "directory", options);
  }

  async symlink(
    parent: InodeId,
    name: string,
    options: { target: string; uid: number; gid: number },
  ): Promise<FileStatus> {
    const { inode } = this.#make(parent, name, "symlink", { ...options, mode: 0o777 });
    return this.#update(inode, { target: options.target, size: options.target.length });
  }

  async link(inode: InodeId, parent: InodeId, name: string): Promise<FileStatus> {
    if (this.#directory(parent).has(name)) fail("AlreadyExists", name);
    this.#directory(parent).set(name, inode);
    return this.#update(inode, { nlink: this.#get(inode).status.nlink + 1 });
  }

  async unlink(parent: InodeId, name: string): Promise<void> {
    const inode = this.#child(parent, name);
    if (this.#get(inode).status.kind === "directory") fail("IsDirectory", name);
    this.#drop(parent, name);
  }

  async rmdir(parent: InodeId, name: string): Promise<void> {
    const inode = this.#child(parent, name);
    if (this.#directory(inode).size > 0) fail("NotEmpty", name);
    this.#drop(parent, name);
  }

  async rename(
    source: { parent: InodeId; name: string },
    target: { parent: InodeId; name: string },
    options: RenameOptions = {},
  ): Promise<void> {
    const inode = this.#child(source.parent, source.name);
    const replaced = this.#directory(target.parent).get(target.name);
    if (replaced === inode) return;
    if (options.exchange === true) {
      this.#directory(source.parent).set(source.name, replaced ?? fail("NotFound", target.name));
      this.#directory(target.parent).set(target.name, inode);
      return;
    }
    if (replaced !== undefined) {
      if (options.noReplace === true) fail("AlreadyExists", target.name);
      const node = this.#get(replaced);
      if (node.status.kind === "directory" && node.names.size > 0) fail("NotEmpty", target.name);
      this.#drop(target.parent, target.name);
    }
    this.#directory(source.parent).delete(source.name);
    this.#directory(target.parent).set(target.name, inode);
  }

  async setAttributes(inode: InodeId, changes: AttributeChanges): Promise<FileStatus> {
    const given = Object.entries(changes).filter(([, value]) => value !== undefined);
    return this.#update(inode, Object.fromEntries(given));
  }

  async getXattr(inode: InodeId, name: string): Promise<Uint8Array> {
    return this.#get(inode).xattrs.get(name) ?? fail("NoData", name);
  }

  async listXattrs(inode: InodeId): Promise<readonly string[]> {
    return [...this.#get(inode).xattrs.keys()].sort();
  }

  async setXattr(
    inode: InodeId,
    name: string,
    value: Uint8Array,
    how: "set" | "create" | "replace" = "set",
  ): Promise<FileStatus> {
    const { xattrs } = this.#get(inode);
    if (namespaceOf(name) === undefined) fail("NotSupported", name);
    if (how === "create" && xattrs.has(name)) fail("AlreadyExists", name);
    if (how === "replace" && !xattrs.has(name)) fail("NoData", name);
    if (name === accessAclName) {
      const decoded = decodeAcl(value);
      if (!("acl" in decoded)) return fail("InvalidArgument", name);
      return this.#update(inode, { mode: modeOfAcl(decoded.acl, this.#get(inode).status.mode) });
    }
    xattrs.set(name, Uint8Array.from(value));
    return this.#update(inode, { hasXattrs: true });
  }

  async removeXattr(inode: InodeId, name: string): Promise<FileStatus> {
    const { xattrs } = this.#get(inode);
    if (!xattrs.delete(name)) fail("NoData", name);
    return this.#update(inode, {});
  }

  async truncate(inode: InodeId, size: number): Promise<FileStatus> {
    const node = this.#get(inode);
    const bytes = Buffer.alloc(size);
    node.bytes.copy(bytes, 0, 0, Math.min(size, node.bytes.length));
    node.bytes = bytes;
    return this.#update(inode, { size, mtime: now() });
  }

  async open(inode: InodeId, options: OpenOptions): Promise<FileHandle> {
    const node = this.#get(inode);
    if (node.status.kind !== "file") fail("IsDirectory", String(inode));
    if (options.truncate === true) await this.truncate(inode, 0);
    return this.#handle(node, options);
  }

  wasRead(): void {}

  async statFs(): Promise<{ inodes: number; capacityBytes: number; usedBytes: number }> {
    return { inodes: this.#nodes.size, capacityBytes: 2 ** 46, usedBytes: 2 ** 40 };
  }

  #handle(node: Node, options: OpenOptions): FileHandle {
    const readInto = async (target: Uint8Array, offset: number): Promise<number> => {
      this.reads.most = Math.max(this.reads.most, ++this.reads.now);
      await new Promise((resolve) => setImmediate(resolve));
      this.reads.now--;
      return offset >= node.bytes.length ? 0 : node.bytes.copy(target, 0, offset);
    };
    return {
      get status() {
        return node.status;
      },
      readInto,
      read: async (offset, length) => {
        const target = Buffer.alloc(length);
        return target.subarray(0, await readInto(target, offset));
      },
      write: async (offset, data) => {
        const at = options.append === true ? node.bytes.length : offset;
        const end = at + data.length;
        if (end > node.bytes.length) await this.truncate(node.status.inode, end);
        node.bytes.set(data, at);
        this.#update(node.status.inode, { mtime: now() });
      },
      truncate: async (size) => {
        await this.truncate(node.status.inode, size);
      },
      flush: async () => undefined,
      sync: async () => undefined,
      close: async () => undefined,
    };
  }

  #make(parent: InodeId, name: string, kind: FileKind, ownership: Ownership): FileStatus {
    const names = this.#directory(parent);
    if (names.has(name)) fail("AlreadyExists", name);
    const inode = this.#nextInode++ as InodeId;
    const node = this.#node(inode, kind, ownership);
    this.#nodes.set(inode, node);
    names.set(name, inode);
    return node.status;
  }

  #node(inode: InodeId, kind: FileKind, { mode, uid, gid }: Ownership): Node {
    const time = now();
    const status: FileStatus = {
      inode,
      kind,
      mode,
      uid,
      gid,
      size: 0,
      nlink: 1,
      atime: time,
      mtime: time,
      ctime: time,
      version: 1,
      mountId: rootMountId,
      persistence: "none",
      loaded: true,
      target: undefined,
      lineageId: undefined,
      writeType: undefined,
      mountPoint: false,
    };
    return { status, bytes: Buffer.alloc(0), names: new Map(), xattrs: new Map() };
  }

  #update(inode: InodeId, changes: Partial<FileStatus>): FileStatus {
    const node = this.#get(inode);
    node.status = { ...node.status, ...changes, ctime: now(), version: node.status.version + 1 };
    return node.status;
  }

  #drop(parent: InodeId, name: string): void {
    const inode = this.#child(parent, name);
    this.#directory(parent).delete(name);
    this.#update(inode, { nlink: this.#get(inode).status.nlink - 1 });
  }

  #child(parent: InodeId, name: string): InodeId {
    return this.#directory(parent).get(name) ?? fail("NotFound", name);
  }

  #directory(inode: InodeId): Map<string, InodeId> {
    const node = this.#get(inode);
    return node.status.kind === "directory" ? node.names : fail("NotDirectory", String(inode));
  }

  #get(inode: InodeId): Node {
    return this.#nodes.get(inode) ?? fail("NotFound", String(inode));
  }
}

function fail(code: ErrorCode, what: string): never {
  throw new WeirError(code, `Cannot use "${what}": ${code}`);
}

function now(): Timestamp {
  const ms = Date.now();
  return { sec: Math.floor(ms / 1000), nsec: (ms % 1000) * 1_000_000 };
}
