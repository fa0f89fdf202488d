/**
 * The transport over fuse-native (libfuse 2): translates its callbacks, which speak of paths, to the operations.
 *
 * What the binding cannot do, and what follows: times have milliseconds; `create` does not say how the file was opened,
 * so it is always exclusive (a lock file must not be shared by two mounts); who calls is not known. And libfuse 2 drops a
 * change of only one of the two times before it comes here: `tar -x` and `touch -m` leave the time of the write.
 *
 * Invariants
 * 1. Every callback is answered exactly once, and only when nobody writes to its buffer any more.
 * 2. This process never touches the mount: it would wait for itself.
 */
import { createRequire } from "node:module";
import { errnoOf, toWeirError, WeirError } from "../lib/errors.ts";
import type { Logger } from "../lib/logger.ts";
import { nameOf, textOf } from "./names.ts";
import type { Attributes, Place, PosixOperations } from "./operations.ts";

/** A callback of fuse-native: the first argument is a negative errno, or what the operation answers. */
type Reply = (result: number, ...values: unknown[]) => void;
type Handler = (...values: never[]) => void;

/** Answers the kernel: a negative errno or the number of bytes, and the buffer that the binding lent. */
type Signal = (result: number, buffer: ArrayBufferLike) => void;

interface Fuse {
  readonly ops: Readonly<Record<string, Handler>>;
  _op_getxattr: (signal: Signal, path: string, name: string, room: Buffer) => void;
  _op_listxattr: (signal: Signal, path: string, room: Buffer) => void;
  mount(callback: (error: Error | null) => void): void;
  /** What the native half calls, by its number of the operation. */
  readonly _handlers: (
    | ((native: Buffer, operation: number, ...values: unknown[]) => void)
    | undefined
  )[];
}

type FuseClass = new (
  mountPoint: string,
  operations: Readonly<Record<string, Handler>>,
  options: Readonly<Record<string, unknown>>,
) => Fuse;

export interface NativeMountOptions {
  readonly mountPoint: string;
  readonly allowOther: boolean;
  readonly readOnly: boolean;
  /** Lifetime of attributes and names in the kernel, in milliseconds. */
  readonly kernelCacheMs: number;
}

/**
 * Loads the binding.
 * @throws WeirError `NotSupported` with the cure when it is not installed or its library is missing
 */
export function loadFuse(): FuseClass {
  try {
    return createRequire(import.meta.url)("fuse-native") as FuseClass;
  } catch (cause) {
    const { code } = cause as { code?: unknown };
    const cure =
      code === "MODULE_NOT_FOUND"
        ? "the package fuse-native is not installed; run `npm install` again, its messages say why it was left out"
        : `its library cannot be loaded (${firstLine(cause)}); on Debian: apt-get install libfuse2`;
    throw new WeirError("NotSupported", `Cannot use FUSE: ${cure}`, { cause });
  }
}

/** Mounts; resolves when the kernel has the file system. */
export async function mountNative(
  operations: PosixOperations,
  options: NativeMountOptions,
  logger: Logger,
): Promise<void> {
  const FuseNative = loadFuse();
  const fuse = new FuseNative(options.mountPoint, handlersOf(operations, logger), {
    // The operations have deadlines of their own; a reply by a timer would free a buffer that is being filled.
    timeout: false,
    defaultPermissions: true,
    autoCache: true,
    allowOther: options.allowOther,
    fsname: "weir",
    // The binding has no place for other options of libfuse, but joins all into one string.
    subtype: ["weir", ...libfuseOptions(options)].join(","),
  });
  repairUtimens(fuse);
  repairXattrs(fuse);
  await new Promise<void>((resolve, reject) => {
    fuse.mount((cause) => {
      if (cause === null) resolve();
      else {
        const message = `Cannot mount at "${options.mountPoint}": ${cause.message}`;
        reject(new WeirError("Unavailable", message, { cause }));
      }
    });
  });
}

function libfuseOptions({ kernelCacheMs, readOnly }: NativeMountOptions): string[] {
  const seconds = String(kernelCacheMs / 1000);
  return [
    // Without it every write is 4 KiB.
    "big_writes",
    "max_write=131072",
    "max_readahead=1048576",
    "max_background=32",
    "atomic_o_trunc",
    "use_ino",
    `attr_timeout=${seconds}`,
    `entry_timeout=${seconds}`,
    "negative_timeout=0",
    ...(readOnly ? ["ro"] : []),
  ];
}

function handlersOf(operations: PosixOperations, logger: Logger): Record<string, Handler> {
  /** Runs an operation and answers; `answer` makes the callback's arguments of what it resolved with. */
  const run = <T>(
    doing: string,
    reply: Reply,
    operation: () => Promise<T>,
    answer: (value: T) => [number, ...unknown[]] = () => [0],
  ) => {
    operation().then(
      (value) => reply(...answer(value)),
      (thrown: unknown) => {
        const error = toWeirError(thrown, `Cannot ${doing}`);
        if (!expected.has(error.code)) {
          logger.warn({ doing, code: error.code, error: error.message }, "operation failed");
        }
        reply(errnoOf[error.code]);
      },
    );
  };
  const statusAt = (path: string) => operations.walk(namesOf(path));
  const placeAt = async (path: string): Promise<Place> => {
    const names = namesOf(path);
    const name = names.pop();
    if (name === undefined) {
      throw new WeirError("InvalidArgument", `Cannot do that to "${path}": it is the root`);
    }
    return { parent: (await operations.walk(names)).inode, name };
  };

  return {
    getattr: (path: string, reply: Reply) => {
      run(
        "stat",
        reply,
        async () => operations.attributes(await statusAt(path)),
        (attributes) => [0, attributes],
      );
    },
    readdir: (path: string, reply: Reply) => {
      run(
        "list",
        reply,
        async () => {
          const directory = await statusAt(path);
          const own = operations.attributes(directory);
          return { own, entries: await operations.list(directory) };
        },
        ({ own, entries }) => {
          const names = [".", ".."];
          const attributes: Attributes[] = [own, own];
          for (const entry of entries) {
            names.push(textOf(entry.name));
            attributes.push(entry.attributes);
          }
          return [0, names, attributes];
        },
      );
    },
    open: (path: string, flags: number, reply: Reply) => {
      run(
        "open",
        reply,
        async () => operations.open((await statusAt(path)).inode, flags),
        (handle) => [0, handle],
      );
    },
    create: (path: string, mode: number, reply: Reply) => {
      run(
        "create",
        reply,
        async () => operations.create(await placeAt(path), mode),
        (handle) => [0, handle],
      );
    },
    read: (
      _path: string,
      handle: number,
      buffer: Buffer,
      length: number,
      offset: number,
      reply: Reply,
    ) => {
      run(
        "read",
        reply,
        async () => operations.read(handle, buffer.subarray(0, length), offset),
        (count) => [count],
      );
    },
    write: (
      _path: string,
      handle: number,
      buffer: Buffer,
      length: number,
      offset: number,
      reply: Reply,
    ) => {
      run(
        "write",
        reply,
        async () => operations.write(handle, buffer.subarray(0, length), offset),
        () => [length],
      );
    },
    flush: (_path: string, handle: number, reply: Reply) => {
      run("flush", reply, async () => operations.flush(handle));
    },
    // The order is that of the binding's code; its documentation has it the other way round.
    fsync: (_path: string, _dataOnly: number, handle: number, reply: Reply) => {
      run("sync", reply, async () => operations.sync(handle));
    },
    release: (_path: string, handle: number, reply: Reply) => {
      run("close", reply, async () => operations.release(handle));
    },
    truncate: (path: string, size: number, reply: Reply) => {
      run("truncate", reply, async () => operations.truncate((await statusAt(path)).inode, size));
    },
    ftruncate: (_path: string, handle: number, size: number, reply: Reply) => {
      run("truncate", reply, async () => operations.truncateOpen(handle, size));
    },
    mkdir: (path: string, mode: number, reply: Reply) => {
      run("make a directory", reply, async () => operations.mkdir(await placeAt(path), mode));
    },
    mknod: (path: string, mode: number, device: number, reply: Reply) => {
      run("make a node", reply, async () => operations.makeNode(await placeAt(path), mode, device));
    },
    setxattr: (
      path: string,
      name: string,
      value: Buffer,
      _position: number,
      flags: number,
      reply: Reply,
    ) => {
      // The bytes are the kernel's again once this is answered.
      const kept = Uint8Array.from(value);
      run("set an attribute", reply, async () =>
        operations.setXattr((await statusAt(path)).inode, nameOf(name), kept, flags),
      );
    },
    getxattr: (path: string, name: string, _position: number, reply: Reply) => {
      run(
        "read an attribute",
        reply,
        async () => operations.getXattr((await statusAt(path)).inode, nameOf(name)),
        (value) => [0, value],
      );
    },
    listxattr: (path: string, reply: Reply) => {
      run(
        "list attributes",
        reply,
        async () => operations.listXattrs((await statusAt(path)).inode),
        (names) => [0, Buffer.from(names.map((name) => `${name}\0`).join(""), "latin1")],
      );
    },
    removexattr: (path: string, name: string, reply: Reply) => {
      run("remove an attribute", reply, async () =>
        operations.removeXattr((await statusAt(path)).inode, nameOf(name)),
      );
    },
    unlink: (path: string, reply: Reply) => {
      run("unlink", reply, async () => operations.unlink(await placeAt(path)));
    },
    rmdir: (path: string, reply: Reply) => {
      run("remove a directory", reply, async () => operations.rmdir(await placeAt(path)));
    },
    rename: (from: string, to: string, reply: Reply) => {
      run("rename", reply, async () => {
        const [source, target] = await Promise.all([placeAt(from), placeAt(to)]);
        await operations.rename(source, target);
      });
    },
    link: (existing: string, path: string, reply: Reply) => {
      run("link", reply, async () => {
        const [status, place] = await Promise.all([statusAt(existing), placeAt(path)]);
        await operations.link(status.inode, place);
      });
    },
    symlink: (target: string, path: string, reply: Reply) => {
      run("link", reply, async () => operations.symlink(await placeAt(path), nameOf(target)));
    },
    readlink: (path: string, reply: Reply) => {
      run(
        "read a link",
        reply,
        async () => textOf(operations.readlink(await statusAt(path))),
        (target) => [0, target],
      );
    },
    chmod: (path: string, mode: number, reply: Reply) => {
      run("chmod", reply, async () => operations.chmod((await statusAt(path)).inode, mode));
    },
    chown: (path: string, uid: number, gid: number, reply: Reply) => {
      run("chown", reply, async () => operations.chown((await statusAt(path)).inode, uid, gid));
    },
    utimens: (path: string, atimeMs: number, mtimeMs: number, reply: Reply) => {
      run("set times", reply, async () =>
        operations.utimens((await statusAt(path)).inode, atimeMs, mtimeMs),
      );
    },
    access: (path: string, mode: number, reply: Reply) => {
      run("access", reply, async () => {
        await statusAt(path);
        operations.checkAccess(mode);
      });
    },
    statfs: (_path: string, reply: Reply) => {
      run(
        "stat the file system",
        reply,
        () => operations.statFs(),
        ({ blockBytes, blocks, freeBlocks, inodes }) => [
          0,
          {
            bsize: blockBytes,
            frsize: blockBytes,
            blocks,
            bfree: freeBlocks,
            bavail: freeBlocks,
            files: Math.min(inodes, 0xffff_ffff),
            ffree: 0xffff_ffff - Math.min(inodes, 0xffff_ffff),
            favail: 0xffff_ffff - Math.min(inodes, 0xffff_ffff),
            namemax: 255,
          },
        ],
      );
    },
  };
}

/** Failures that are everyday answers of a file system. */
const expected: ReadonlySet<string> = new Set([
  "NotFound",
  "AlreadyExists",
  "NotDirectory",
  "IsDirectory",
  "NotEmpty",
  "PermissionDenied",
  "NotPermitted",
  "ReadOnly",
  "CrossMount",
  "InvalidArgument",
  "NoData",
  "NotSupported",
]);

function namesOf(path: string): string[] {
  return path
    .split("/")
    .filter((name) => name !== "")
    .map(nameOf);
}

/** The binding's number of utimens, and where its thread-local record has the two times (LP64). */
const utimensOperation = 12;
const recordOffsets = { atime: 104, mtime: 112 };

/**
 * fuse-native 2.2.6 hands over the access time twice. The record that it passes as the first argument holds both; it is
 * read from there, if the access time is found where it should be.
 */
function repairUtimens(fuse: Fuse): void {
  const original = fuse._handlers[utimensOperation];
  if (original === undefined) return;
  fuse._handlers[utimensOperation] = (native, operation, ...values) => {
    const [path, atimeLow, atimeHigh] = values as [string, number, number];
    const atime = BigInt(atimeHigh) * 2n ** 32n + BigInt(atimeLow);
    if (
      native.length >= recordOffsets.mtime + 8 &&
      native.readBigUInt64LE(recordOffsets.atime) === atime
    ) {
      const low = native.readUInt32LE(recordOffsets.mtime);
      const high = native.readUInt32LE(recordOffsets.mtime + 4);
      original.call(
        fuse,
        native,
        operation,
        path,
        atimeLow,
        atimeHigh,
        low,
        high,
        ...values.slice(5),
      );
    } else {
      original.call(fuse, native, operation, ...values);
    }
  };
}

/**
 * fuse-native 2.2.6 copies as much of an attribute as there is room for and says that it was all, upon which libfuse reads
 * beyond the buffer; and it writes names as text. Both answers are bytes here, and ERANGE where there is no room for them;
 * no room at all asks for their number.
 */
function repairXattrs(fuse: Fuse): void {
  const answer = (signal: Signal, room: Buffer) => (result: number, value?: Uint8Array) => {
    if (value === undefined) signal(result, room.buffer);
    else if (room.length === 0) signal(value.length, room.buffer);
    else if (value.length > room.length) signal(notEnoughRoom, room.buffer);
    else {
      room.set(value);
      signal(value.length, room.buffer);
    }
  };
  fuse._op_getxattr = (signal, path, name, room) => {
    const getxattr = fuse.ops["getxattr"] as (...values: unknown[]) => void;
    getxattr(path, name, 0, answer(signal, room));
  };
  fuse._op_listxattr = (signal, path, room) => {
    const listxattr = fuse.ops["listxattr"] as (...values: unknown[]) => void;
    listxattr(path, answer(signal, room));
  };
}

/** ERANGE. */
const notEnoughRoom = -34;

function firstLine(thrown: unknown): string {
  return (thrown instanceof Error ? thrown.message : String(thrown)).split("\n")[0]!;
}
