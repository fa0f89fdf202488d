/**
 * The public programming interface of Weir.
 *
 * ```ts
 * import { connect } from "weir";
 *
 * const weir = await connect({ configFile: "weir.yaml" });
 * await weir.writeFile("/data/hello.txt", "hello");
 * for await (const chunk of weir.readFile("/data/hello.txt")) process.stdout.write(chunk);
 * await weir.close();
 * ```
 *
 * Paths are absolute and UTF-8. All calls end by their deadline (`client.operationTimeoutMs`) and reject with a
 * `WeirError`, whose `code` is of a closed list and whose `outcome` says whether the call may have taken effect.
 */
import { readFile } from "node:fs/promises";
import { type Config, loadConfig } from "../lib/config.ts";
import { silentLogger } from "../lib/logger.ts";
import type { Caller, FileStatus, LineageInfo, MountInfo, WorkerInfo } from "../rpc/namespace.ts";
import { type AccessLists, WeirClient, type WriteFileOptions } from "./client.ts";
import type { FileHandle, RenameOptions } from "./file-system.ts";
import type { MountChanges, MountOptions, UnionOptions } from "./mounts.ts";
import { fromText, toText } from "./path-names.ts";

export { type ErrorCode, type Outcome, WeirError } from "../lib/errors.ts";
export type { FileStatus, LineageInfo, MountInfo, WorkerInfo } from "../rpc/namespace.ts";
export type { Acl, AclEntry, AclTag } from "../rpc/acl.ts";
export type { AccessLists, WriteFileOptions } from "./client.ts";
export type { FileHandle, RenameOptions } from "./file-system.ts";
export type { Layer, LayerChange, MountChanges, MountOptions, UnionOptions } from "./mounts.ts";

export interface ConnectOptions {
  /** Path of weir.yaml; WEIR_* variables of the environment override it. */
  readonly configFile?: string | undefined;
  /** Keys of the configuration as paths, e.g. `{ "client.writeType": "CACHE_THROUGH" }`; they override all else. */
  readonly settings?: Readonly<Record<string, unknown>> | undefined;
  /** Shown beside this client's session; default "sdk". */
  readonly name?: string | undefined;
  /** Who asks; default: the user of this process. Masters believe it, as far as they are configured to. */
  readonly user?: User | undefined;
}

/** Who asks, by number. */
export interface User {
  readonly uid: number;
  readonly gid: number;
  /** Further groups. */
  readonly groups?: readonly number[] | undefined;
}

function callerOf({ uid, gid, groups = [] }: User): Caller {
  return { uid, gid, groups };
}

/** A program that makes files of files. */
export interface JobOptions {
  /** Program and arguments, without a shell; `{in}`, `{out}`, `{in:N}`, `{out:N}` stand for paths. */
  readonly argv: readonly string[];
  readonly environment?: Readonly<Record<string, string>> | undefined;
  /** Default: one hour. */
  readonly timeoutMs?: number | undefined;
  /** Standard output becomes output 0. */
  readonly captureStdout?: boolean | undefined;
}

/** Opens a client. That no cluster is there shows at the first call. @throws WeirError `ConfigInvalid` */
export async function connect(options: ConnectOptions = {}): Promise<Weir> {
  const { configFile, settings, name, user } = options;
  const file =
    configFile === undefined
      ? undefined
      : { path: configFile, text: await readFile(configFile, "utf8") };
  const config: Config = loadConfig({ file, environment: process.env, flags: settings });
  return new Weir(
    await WeirClient.connect({
      config,
      logger: silentLogger,
      name: name ?? "sdk",
      caller: user && callerOf(user),
    }),
  );
}

/** A client of a Weir cluster. */
export class Weir {
  readonly #client: WeirClient;

  constructor(client: WeirClient) {
    this.#client = client;
  }

  /** The same client for another user, for programs that serve several; closing one closes all. */
  as(user: User): Weir {
    return new Weir(this.#client.as(callerOf(user)));
  }

  /** Permission bits, 0 … 0o7777; for the owner. @throws WeirError `NotPermitted` */
  async chmod(path: string, mode: number): Promise<void> {
    await this.#client.setAttributes(fromText(path), { mode });
  }

  /** Owner and group; absent: as it is. @throws WeirError `NotPermitted` */
  async chown(path: string, owner: { uid?: number; gid?: number }): Promise<void> {
    await this.#client.setAttributes(fromText(path), owner);
  }

  /** Sets both times to now; for whoever may write the file. @throws WeirError `PermissionDenied` */
  async touch(path: string): Promise<void> {
    await this.#client.setAttributes(fromText(path), { touch: true });
  }

  /** @throws WeirError `NotFound`, `NotDirectory` */
  stat(path: string): Promise<FileStatus> {
    return this.#client.stat(fromText(path));
  }

  exists(path: string): Promise<boolean> {
    return this.#client.exists(fromText(path));
  }

  /** The names in a directory in byte order. Bytes that are no UTF-8 show as U+FFFD. */
  async *list(path: string): AsyncGenerator<{ name: string; status: FileStatus }> {
    for await (const { name, status } of this.#client.list(fromText(path))) {
      yield { name: toText(name), status };
    }
  }

  /** Makes a directory; with `parents` also those above it, and an existing one is fine. */
  async mkdir(path: string, options: { parents?: boolean; mode?: number } = {}): Promise<void> {
    await this.#client.mkdir(fromText(path), options);
  }

  remove(path: string, options: { recursive?: boolean } = {}): Promise<void> {
    return this.#client.remove(fromText(path), options);
  }

  /** As rename(2), within one mount; an existing target is replaced, unless `noReplace` or `exchange` is asked for. */
  rename(from: string, to: string, options: RenameOptions = {}): Promise<void> {
    return this.#client.rename(fromText(from), fromText(to), options);
  }

  /** The value of an extended attribute, such as `user.comment`. @throws WeirError `NoData` where there is none */
  getXattr(path: string, name: string): Promise<Uint8Array> {
    return this.#client.getXattr(fromText(path), fromText(name));
  }

  /** Names of all extended attributes, in byte order. */
  async listXattrs(path: string): Promise<string[]> {
    return (await this.#client.listXattrs(fromText(path))).map(toText);
  }

  /** As setxattr(2): `create` refuses an attribute that is there, `replace` one that is not. Text is set as UTF-8. */
  async setXattr(
    path: string,
    name: string,
    value: Uint8Array | string,
    how: "set" | "create" | "replace" = "set",
  ): Promise<void> {
    const bytes = typeof value === "string" ? Buffer.from(value, "utf8") : value;
    await this.#client.setXattr(fromText(path), fromText(name), bytes, how);
  }

  async removeXattr(path: string, name: string): Promise<void> {
    await this.#client.removeXattr(fromText(path), fromText(name));
  }

  /** The access control lists of a path: what the mode says where there is no more. See acl(5). */
  async getAcls(path: string): Promise<AccessLists> {
    const { access, defaults } = await this.#client.getAcls(fromText(path));
    return { access, defaults };
  }

  /** Sets the lists that are given. An empty one takes the list away: then the mode alone decides. */
  async setAcls(path: string, lists: Partial<AccessLists>): Promise<void> {
    await this.#client.setAcls(fromText(path), lists);
  }

  /** The bytes of a file, or of [offset, offset + length) of it, in chunks of up to 1 MiB. */
  readFile(
    path: string,
    range: { offset?: number; length?: number } = {},
  ): AsyncGenerator<Uint8Array> {
    return this.#client.readFile(fromText(path), range);
  }

  /** Writes a file whole, replacing what is there; text is written as UTF-8. Resolves when the write type is fulfilled. */
  writeFile(
    path: string,
    source: AsyncIterable<Uint8Array> | Iterable<Uint8Array> | Uint8Array | string,
    options: WriteFileOptions = {},
  ): Promise<FileStatus> {
    const bytes = typeof source === "string" ? Buffer.from(source, "utf8") : source;
    return this.#client.writeFile(fromText(path), bytes, options);
  }

  /** Opens an existing file: to read (`r`), to read and write (`r+`), to append (`a`). Close the handle. */
  open(path: string, mode: "r" | "r+" | "a" = "r"): Promise<FileHandle> {
    return this.#client.open(fromText(path), mode);
  }

  /** Mounts `file:///dir` or `s3://bucket/prefix`. Credentials in `options` are never shown again. */
  async mount(path: string, uri: string, options: MountOptions = {}): Promise<void> {
    await this.#client.mount(fromText(path), uri, options);
  }

  /** Mounts several stores under one path, in order of priority, one of which takes what is written. */
  mountUnion(path: string, options: UnionOptions): Promise<void> {
    return this.#client.mountUnion(fromText(path), options);
  }

  /** Changes a mount while it is in use; what `changes` does not name stays. */
  updateMount(path: string, changes: MountChanges): Promise<void> {
    return this.#client.updateMount(fromText(path), changes);
  }

  /** `force`: also when something below is in no store; that is lost. Resolves with the number of changes given up. */
  unmount(path: string, options: { readonly force?: boolean } = {}): Promise<number> {
    return this.#client.unmount(fromText(path), options);
  }

  mounts(): Promise<readonly MountInfo[]> {
    return this.#client.mounts();
  }

  workers(): Promise<readonly WorkerInfo[]> {
    return this.#client.workers();
  }

  /** Queues the write to the under storage of a file, or all below a directory; with `wait` until it is there. */
  persist(path: string, options: { wait?: boolean } = {}): Promise<number> {
    return this.#client.persist(fromText(path), options);
  }

  /** Drops cached copies of what is persisted. */
  free(path: string): Promise<number> {
    return this.#client.free(fromText(path));
  }

  /** Records how `outputs` are made of `inputs`, so that they can be made again when they are lost. Answers its id. */
  recordLineage(lineage: {
    inputs: readonly string[];
    outputs: readonly string[];
    job: JobOptions;
  }): Promise<number> {
    const { argv, environment, timeoutMs, captureStdout } = lineage.job;
    return this.#client.recordLineage({
      inputs: lineage.inputs.map(fromText),
      outputs: lineage.outputs.map(fromText),
      job: {
        argv,
        environment: environment ?? {},
        timeoutMs: timeoutMs ?? 3_600_000,
        captureStdout: captureStdout ?? false,
      },
    });
  }

  /** Runs a recorded job; resolves when its outputs are there. @throws WeirError `JobFailed` */
  runLineage(lineage: number): Promise<LineageInfo> {
    return this.#client.runLineage(lineage as LineageInfo["id"]);
  }

  lineages(): AsyncGenerator<LineageInfo> {
    return this.#client.lineages();
  }

  /** Rebuilds a lost file; answers how many jobs were run: 0 when it was whole. */
  recover(path: string): Promise<number> {
    return this.#client.recover(fromText(path));
  }

  /** Publishes what open files have written, and ends the session. */
  close(): Promise<void> {
    return this.#client.close();
  }
}
