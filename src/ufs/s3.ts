/**
 * A bucket, or a prefix of one, as an under file system. How paths and kinds are said in keys: s3-keys.ts, s3-names.ts.
 *
 * Invariants
 * 1. A fingerprint is the etag: equal etags have equal bytes, also after a copy of equal part sizes; a read asks for its
 *    etag, so bytes of two versions are never mixed.
 * 2. No object is in memory whole, unless it is smaller than two parts of an upload.
 * 3. Credentials appear in no message and no address.
 *
 * `rename` copies and deletes: an object is at both places in between, and asking again goes on where it stopped. That of a
 * file copies nothing twice; that of a directory copies those again that are still at both places.
 * `setAttributes` changes nothing: S3 can change metadata only by copying the object, so attributes are those of the
 * write.
 */
import { isDeepStrictEqual } from "node:util";
import type { HeadObjectCommandOutput, S3Client } from "@aws-sdk/client-s3";
import { hasCode, WeirError } from "../lib/errors.ts";
import { isUnlinkedPath, temporaryPrefix } from "../lib/store-names.ts";
import { isNoSuchObject, needPermit, refuseIfAborted, s3Error } from "./errors.ts";
import { componentsOf, needLasting, placesOf, shown } from "./paths.ts";
import {
  directory,
  fileEntry,
  fingerprintOf,
  isHidden,
  type ListedObject,
  type ListedPage,
  statOf,
  textOf,
  toPage,
} from "./s3-answers.ts";
import { clientOf, type Sdk } from "./s3-client.ts";
import { copyParts } from "./s3-copy.ts";
import {
  below,
  copySource,
  fromMetadata,
  keyBelow,
  linkMetadata,
  nameOfText,
  needKeyLength,
  possiblyHidden,
  replacedKey,
  toMetadata,
} from "./s3-keys.ts";
import { digestOf, nameOf, objectNameOf, type ParsedName, parseName } from "./s3-names.ts";
import { partBytesOf, smallestPartBytes, upload } from "./s3-upload.ts";
import type {
  Going,
  Move,
  Removal,
  UfsAttributes,
  UfsListEntry,
  UfsPage,
  UfsStat,
  UnderFileSystem,
} from "./types.ts";

/** The most that a store lists or deletes at once. */
const pageLimit = 1000;
/** Requests under way at once for one listing or one rename. */
const concurrency = 16;
/** A body that breaks off is asked for again from where it stopped, so many times without a byte in between. */
const bodyAttempts = 4;
/** Keys of a directory that are looked at to see whether it is empty: a marker, and what is hidden. */
const emptyDirectoryKeys = 100;
/** CopyObject takes no larger source. */
const maxCopyBytes = 5 * 1024 ** 3;

/** Where a path leads. */
interface Place {
  readonly key: string;
  /** The object of that key alone is meant, whatever lies below it. */
  readonly isObject: boolean;
}

/** @throws WeirError `InvalidArgument` for options that make no sense; the store is not contacted */
export async function openS3(
  address: { readonly bucket: string; readonly prefix: string },
  options: Readonly<Record<string, string>>,
): Promise<UnderFileSystem> {
  return new S3FileSystem(await import("@aws-sdk/client-s3"), address, options);
}

/** Keys, and the paths that they are of. */
interface Renaming {
  readonly source: string;
  readonly target: string;
  readonly from: string;
  readonly to: string;
}

class S3FileSystem implements UnderFileSystem {
  readonly uri: string;
  readonly readOnly = false;
  readonly #sdk: Sdk;
  readonly #client: S3Client;
  readonly #bucket: string;
  readonly #prefix: string;

  constructor(
    sdk: Sdk,
    { bucket, prefix }: { readonly bucket: string; readonly prefix: string },
    options: Readonly<Record<string, string>>,
  ) {
    this.uri = prefix === "" ? `s3://${bucket}` : `s3://${bucket}/${prefix}`;
    this.#bucket = bucket;
    this.#prefix = prefix;
    this.#sdk = sdk;
    this.#client = clientOf(sdk, options, this.uri);
  }

  async list(
    path: string,
    options: { after?: string | undefined; limit: number; signal?: AbortSignal },
  ): Promise<UfsPage> {
    const doing = this.#doing("list", path);
    const { key: directoryKey } = await this.#place(path, doing);
    const prefix = below(directoryKey);
    const after = options.after ?? "";
    // By part, in latin1.
    const objects = new Map<string, ListedObject>();
    const directories = new Set<string>();
    /** An empty part comes with the first page, whatever its limit: there is no going on from it. */
    const seen = () => new Set([...objects.keys(), ...directories, ""]).size - 1;
    const startAfter = after === "" ? undefined : prefix + textOf(after);
    let lastKey = "";
    // A page that ends in a directory is gone on from by token: its key would bring the directory again.
    let token: string | undefined;
    let last = false;
    let sawAnything = false;
    while (!last && seen() < options.limit) {
      const page = await this.#listPage(
        { prefix, delimiter: "/", startAfter, token, limit: options.limit - seen() + 1 },
        doing,
        options.signal,
      );
      sawAnything ||= page.keys.length + page.prefixes.length > 0;
      for (const object of page.keys) {
        const part = nameOfText(object.key.slice(prefix.length));
        // Without content it only says that the directory is there.
        if (part === "" ? after !== "" || object.size === 0 : part <= after) continue;
        if (!isHidden(part)) objects.set(part, object);
      }
      for (const each of page.prefixes) {
        const part = nameOfText(each.slice(prefix.length, -1));
        // As a name, an empty one sorts before all others.
        if (part === "" ? after === "" : part > after && !isHidden(part)) directories.add(part);
      }
      last = page.token === undefined;
      token = page.token;
      lastKey = nameOfText(page.lastKey.slice(prefix.length));
    }
    if (!sawAnything && path !== "" && (await this.stat(path))?.kind !== "directory") {
      throw new WeirError("NotFound", `${doing}: there is no such directory`);
    }
    if (!last) {
      const shown = { parts: [...objects.keys(), ...directories], directories, lastKey };
      const hidden = possiblyHidden(shown, after);
      if (after === "" && !directories.has("")) hidden.push("");
      for (const part of hidden) {
        if (await this.#hasPrefix(`${prefix}${textOf(part)}/`, doing, options.signal)) {
          directories.add(part);
        }
      }
    }
    const parts = [...new Set([...objects.keys(), ...directories])].sort();
    const page = parts.slice(0, options.limit + (parts[0] === "" ? 1 : 0));
    const entries = await inParallel(
      entriesOf(page, { objects, directories }),
      ({ entry, object }) =>
        object === undefined ? Promise.resolve(entry) : this.#withTarget(entry, object, doing),
    );
    const isLast = last && page.length === parts.length;
    return isLast ? { entries, last: true } : { entries, last: false, after: page.at(-1) };
  }

  async stat(path: string): Promise<UfsStat | undefined> {
    const doing = this.#doing("stat", path);
    const { key, isObject } = await this.#place(path, doing);
    if (isObject) {
      const object = await this.#head(key, doing);
      return object === undefined ? undefined : statOf(object);
    }
    const [head, hasBelow] = await Promise.all([
      path === "" ? undefined : this.#head(key, doing),
      path === "" ? true : this.#hasBelow(key, doing),
    ]);
    // With something below it, what has the name is the directory.
    if (!hasBelow) return head === undefined ? undefined : statOf(head);
    const marker = key === "" ? undefined : await this.#head(below(key), doing);
    const attributes = fromMetadata(marker?.Metadata ?? {});
    return {
      ...directory,
      mode: attributes.mode ?? directory.mode,
      uid: attributes.uid ?? directory.uid,
      gid: attributes.gid ?? directory.gid,
      mtime: attributes.mtime ?? directory.mtime,
    };
  }

  async *read(
    path: string,
    options: {
      offset: number;
      length: number;
      fingerprint?: string | undefined;
      signal?: AbortSignal;
    },
  ): AsyncIterable<Uint8Array> {
    const doing = this.#doing("read", path);
    let { key } = await this.#place(path, doing);
    const replaced = replacedKey(key);
    let { offset, length, fingerprint } = options;
    let failures = 0;
    while (length > 0) {
      refuseIfAborted(options.signal, doing);
      let received = 0;
      try {
        const body = await this.#get({ key, offset, length, fingerprint }, options.signal);
        if (body === undefined) return;
        // What the first answer was decides for those after it.
        fingerprint = body.fingerprint;
        length = Math.min(length, body.length);
        for await (const chunk of body.chunks) {
          received += chunk.length;
          offset += chunk.length;
          length -= chunk.length;
          yield chunk;
        }
        if (length > 0) {
          throw new WeirError("Unavailable", `${doing}: the store broke off ${length} bytes early`);
        }
      } catch (thrown) {
        const error = s3Error(thrown, doing, options.signal);
        const isOther = hasCode(error, "Stale", "NotFound") && received === 0;
        if (isOther && key !== replaced && (await this.#has(replaced, fingerprint, doing))) {
          key = replaced!;
          continue;
        }
        failures = received > 0 ? 1 : failures + 1;
        if (error.code !== "Unavailable" || failures >= bodyAttempts) throw error;
      }
    }
  }

  async write(
    path: string,
    source: AsyncIterable<Uint8Array>,
    options: {
      size: number;
      attributes?: UfsAttributes;
      keeps?: string | undefined;
    } & Going,
  ): Promise<string> {
    const doing = this.#doing("write", path);
    needLasting(path, doing);
    const { key } = await this.#target(path, doing);
    const metadata = toMetadata(options.attributes ?? {});
    const { size, signal, permit, keeps } = options;
    const replaced = replacedKey(key);
    if (keeps !== undefined && replaced !== undefined) {
      const head = await this.#head(key, doing);
      // A copy within the store, which keeps the fingerprint as a rename does.
      if (head !== undefined && fingerprintOf(head.ETag ?? "") === keeps) {
        needPermit(options, doing);
        await this.#copy(key, replaced, head, doing);
      }
    }
    const etag = await this.#run(doing, signal, () =>
      upload(
        {
          sdk: this.#sdk,
          client: this.#client,
          bucket: this.#bucket,
          key,
          metadata,
          size,
          signal,
          permit,
          doing,
        },
        source,
      ),
    );
    const fingerprint = fingerprintOf(etag ?? "");
    if (fingerprint !== "") return fingerprint;
    // Ceph's gateway does not say it at the end of an upload in parts.
    return fingerprintOf((await this.#head(key, doing))?.ETag ?? "");
  }

  async forgetReplaced(path: string, fingerprint: string): Promise<void> {
    const doing = this.#doing("forget what was replaced at", path);
    const key = replacedKey((await this.#target(path, doing)).key);
    if (await this.#has(key, fingerprint, doing)) await this.#deleteKey(key!, doing);
  }

  async delete(path: string, what: Removal & Going): Promise<{ aside: boolean }> {
    const doing = this.#doing("delete", path);
    const isAside = isUnlinkedPath(path);
    const { key } = await (isAside ? this.#place(path, doing) : this.#target(path, doing));
    switch (what.of) {
      case "file":
        return this.#deleteFile(key, what, doing);
      case "emptyDirectory":
        await this.#deleteEmpty(key, what, doing);
        return { aside: false };
      case "tree":
        await this.#deleteBelow(key, what, doing);
        return { aside: false };
    }
  }

  /** Exactly this key: objects below a prefix of its name are others. */
  async #deleteFile(
    key: string,
    what: Extract<Removal, { of: "file" }> & Going,
    doing: string,
  ): Promise<{ aside: boolean }> {
    const { fingerprint } = what;
    const aside =
      what.aside === undefined ? undefined : (await this.#place(what.aside.path, doing)).key;
    const keeps = what.aside?.must === true && aside !== undefined;
    if (keeps || fingerprint !== undefined) {
      const head = await this.#head(key, doing);
      const isOther =
        head !== undefined &&
        fingerprint !== undefined &&
        fingerprintOf(head.ETag ?? "") !== fingerprint;
      if (head !== undefined && keeps && !isOther) {
        needPermit(what, doing);
        await this.#copy(key, aside, head, doing);
      }
      if (head === undefined || isOther) {
        return { aside: keeps && (await this.#head(aside, doing)) !== undefined };
      }
    }
    needPermit(what, doing);
    // What was put aside by an attempt that nobody heard of is not wanted any more.
    const others = [replacedKey(key), keeps ? undefined : aside];
    const keys = [key, ...others].filter((each) => each !== undefined);
    await Promise.all(keys.map((each) => this.#deleteKey(each, doing)));
    return { aside: keeps };
  }

  /** The marker of a directory, and what is hidden, unless there is more below. */
  async #deleteEmpty(key: string, going: Going, doing: string): Promise<void> {
    const { keys, token } = await this.#listPage(
      { prefix: below(key), limit: emptyDirectoryKeys },
      doing,
      going.signal,
    );
    const isOurs = ({ key: each, size }: ListedObject) => {
      const name = each.slice(below(key).length);
      if (name === "") return size === 0;
      return name.startsWith(temporaryPrefix) && !name.includes("/");
    };
    if (token !== undefined || !keys.every(isOurs)) return;
    needPermit(going, doing);
    await Promise.all(keys.map((each) => this.#deleteKey(each.key, doing)));
  }

  async rename(from: string, to: string, how: Move & Going): Promise<{ aside: boolean }> {
    const doing = `Cannot rename ${shown(from)} to ${shown(to)} in ${this.uri}`;
    const { key: source } = await this.#target(from, doing);
    const { key: target } = await this.#target(to, doing);
    if (to.startsWith(`${from}/`)) {
      throw new WeirError("InvalidArgument", `${doing}: the target is inside the source`);
    }
    if (from === to) return { aside: false };
    if (how.of === "file") return this.#renameFile({ source, target, from, to }, how, doing);
    await this.#renameBelow({ source, target, from, to }, how, doing);
    return { aside: false };
  }

  async #renameFile(of: Renaming, how: Move & Going, doing: string): Promise<{ aside: boolean }> {
    const { source, target } = of;
    const replaced = replacedKey(source);
    const [head, present, kept] = await Promise.all([
      this.#head(source, doing),
      this.#head(target, doing),
      replaced === undefined ? undefined : this.#head(replaced, doing),
    ]);
    const aside =
      how.aside?.must === true ? (await this.#place(how.aside.path, doing)).key : undefined;
    const keptAt = replacedKey(target);
    if (kept !== undefined && keptAt !== undefined) {
      needPermit(how, doing);
      await this.#copy(replaced!, keptAt, kept, doing);
      await this.#deleteKey(replaced!, doing);
    }
    if (head === undefined) await this.#needMoved(of, doing);
    else {
      if (aside !== undefined && present !== undefined) {
        await this.#copyAside({ target, aside, head, present }, how, doing);
      }
      if (present === undefined || !isCopy(present, head)) {
        needPermit(how, doing);
        await this.#copy(source, target, head, doing);
      }
      needPermit(how, doing);
      await this.#deleteKey(source, doing);
    }
    return { aside: aside !== undefined && (await this.#head(aside, doing)) !== undefined };
  }

  /** What the rename will replace. After a crash the target may be the source's copy already: then it was put aside. */
  async #copyAside(
    of: {
      readonly target: string;
      readonly aside: string;
      readonly head: HeadObjectCommandOutput;
      readonly present: HeadObjectCommandOutput;
    },
    going: Going,
    doing: string,
  ): Promise<void> {
    const { target, aside, head, present } = of;
    const kept = await this.#head(aside, doing);
    if (kept !== undefined && present.ETag === head.ETag) return;
    needPermit(going, doing);
    await this.#copy(target, aside, present, doing);
  }

  /** Nothing lies at the source: the rename was done before, or cannot be. */
  async #needMoved({ from, to }: Renaming, doing: string): Promise<void> {
    if ((await this.stat(to)) !== undefined) return;
    throw new WeirError("NotFound", `${doing}: there is no ${shown(from)}`);
  }

  async #renameBelow(of: Renaming, going: Going, doing: string): Promise<void> {
    const { source, target } = of;
    if (!(await this.#hasBelow(source, doing))) return this.#needMoved(of, doing);
    for await (const keys of this.#keysBelow(source, doing)) {
      await inParallel(keys, async (key) => {
        const each = await this.#head(key, doing);
        if (each === undefined) return;
        needPermit(going, doing);
        await this.#copy(key, target + key.slice(source.length), each, doing);
      });
    }
    await this.#deleteBelow(source, going, doing);
  }

  async mkdir(path: string, attributes?: UfsAttributes, going: Going = {}): Promise<void> {
    const doing = this.#doing("make directory", path);
    needLasting(path, doing);
    const { key, isObject } = await this.#target(path, doing);
    if (isObject) throw new WeirError("InvalidArgument", `${doing}: it is the name of an object`);
    if ((await this.#head(key, doing)) !== undefined) {
      throw new WeirError("AlreadyExists", `${doing}: there is something that is no directory`);
    }
    needPermit(going, doing);
    await this.#putEmpty(below(key), toMetadata(attributes ?? {}), doing);
  }

  async symlink(path: string, target: string, going: Going = {}): Promise<void> {
    const doing = this.#doing("make symbolic link", path);
    needLasting(path, doing);
    needPermit(going, doing);
    const { key } = await this.#target(path, doing);
    await this.#putEmpty(key, linkMetadata(target, doing), doing);
  }

  setAttributes(): Promise<undefined> {
    return Promise.resolve(undefined);
  }

  close(): Promise<void> {
    this.#client.destroy();
    return Promise.resolve();
  }

  #doing(verb: string, path: string): string {
    return `Cannot ${verb} ${shown(path)} in ${this.uri}`;
  }

  /** As `#place`, of what can be changed. */
  async #target(path: string, doing: string): Promise<Place> {
    if (path === "") {
      throw new WeirError("InvalidArgument", `${doing}: it is the root of the mount`);
    }
    componentsOf(path, doing);
    return this.#place(path, doing);
  }

  /**
   * The key of a path. The store is asked only for parts that are longer than names.
   * @throws WeirError `InvalidArgument` for a path that does not lead down, `NameTooLong`
   */
  async #place(path: string, doing: string): Promise<Place> {
    let key = this.#prefix;
    let isObject = false;
    for (const name of placesOf(path, doing)) {
      if (isObject) throw new WeirError("NotDirectory", `${doing}: an object is on the way`);
      const parsed = parseName(name, doing);
      const part = parsed.kind === "part" ? parsed.part : await this.#longPart(key, parsed, doing);
      key = keyBelow(key, part);
      isObject = parsed.isObject;
    }
    needKeyLength(key, doing);
    return { key, isObject };
  }

  /** The part below a key of which only the beginning and the digest are known. */
  async #longPart(
    directoryKey: string,
    { head, digest }: Extract<ParsedName, { kind: "long" }>,
    doing: string,
  ): Promise<string> {
    const prefix = below(directoryKey);
    let token: string | undefined;
    do {
      const page = await this.#listPage(
        { prefix: prefix + head, delimiter: "/", token, limit: pageLimit },
        doing,
        undefined,
      );
      const keys = page.keys.map(({ key }) => key);
      const parts = [...keys, ...page.prefixes.map((each) => each.slice(0, -1))];
      const found = parts.find((each) => digestOf(each.slice(prefix.length)) === digest);
      if (found !== undefined) return found.slice(prefix.length);
      token = page.token;
    } while (token !== undefined);
    throw new WeirError("NotFound", `${doing}: no key begins so and has this digest`);
  }

  /** Errors of the SDK become WeirErrors that begin with `doing`. */
  async #run<T>(doing: string, signal: AbortSignal | undefined, use: () => Promise<T>): Promise<T> {
    try {
      return await use();
    } catch (thrown) {
      throw s3Error(thrown, doing, signal);
    }
  }

  /** What a HEAD of the key says; undefined where there is no object. */
  async #head(key: string, doing: string): Promise<HeadObjectCommandOutput | undefined> {
    try {
      return await this.#client.send(
        new this.#sdk.HeadObjectCommand({ Bucket: this.#bucket, Key: key }),
      );
    } catch (thrown) {
      if (isNoSuchObject(thrown)) return undefined;
      throw s3Error(thrown, doing);
    }
  }

  /** Undefined: nothing lies in the range. `length` is what will come, at most what was asked. */
  async #get(
    range: { key: string; offset: number; length: number; fingerprint: string | undefined },
    signal: AbortSignal | undefined,
  ): Promise<
    { chunks: AsyncIterable<Uint8Array>; length: number; fingerprint: string } | undefined
  > {
    const { key, offset, length, fingerprint } = range;
    try {
      const answer = await this.#client.send(
        new this.#sdk.GetObjectCommand({
          Bucket: this.#bucket,
          Key: key,
          Range: `bytes=${offset}-${offset + length - 1}`,
          ...(fingerprint === undefined ? {} : { IfMatch: `"${fingerprint}"` }),
        }),
        signal === undefined ? {} : { abortSignal: signal },
      );
      return {
        chunks: answer.Body as unknown as AsyncIterable<Uint8Array>,
        length: answer.ContentLength ?? 0,
        fingerprint: fingerprintOf(answer.ETag ?? ""),
      };
    } catch (thrown) {
      const status = (thrown as { $metadata?: { httpStatusCode?: number } }).$metadata;
      if (status?.httpStatusCode === 416) return undefined;
      throw thrown;
    }
  }

  /** Whether the key has an object of that fingerprint. */
  async #has(
    key: string | undefined,
    fingerprint: string | undefined,
    doing: string,
  ): Promise<boolean> {
    if (key === undefined || fingerprint === undefined) return false;
    return fingerprintOf((await this.#head(key, doing))?.ETag ?? "") === fingerprint;
  }

  #hasBelow(key: string, doing: string): Promise<boolean> {
    return this.#hasPrefix(below(key), doing, undefined);
  }

  async #hasPrefix(
    prefix: string,
    doing: string,
    signal: AbortSignal | undefined,
  ): Promise<boolean> {
    const page = await this.#listPage({ prefix, limit: 1 }, doing, signal);
    return page.keys.length > 0;
  }

  async #listPage(
    of: {
      prefix: string;
      delimiter?: string;
      startAfter?: string | undefined;
      token?: string | undefined;
      limit: number;
    },
    doing: string,
    signal: AbortSignal | undefined,
  ): Promise<ListedPage> {
    return this.#run(doing, signal, async () =>
      toPage(
        await this.#client.send(
          new this.#sdk.ListObjectsV2Command({
            Bucket: this.#bucket,
            Prefix: of.prefix,
            Delimiter: of.delimiter,
            StartAfter: of.startAfter,
            ContinuationToken: of.token,
            MaxKeys: Math.min(of.limit, pageLimit),
            EncodingType: "url",
          }),
          signal === undefined ? {} : { abortSignal: signal },
        ),
      ),
    );
  }

  /** All keys below `key`, in batches. */
  async *#keysBelow(key: string, doing: string): AsyncIterable<string[]> {
    let startAfter: string | undefined;
    do {
      const page = await this.#listPage(
        { prefix: below(key), startAfter, limit: pageLimit },
        doing,
        undefined,
      );
      if (page.keys.length > 0) yield page.keys.map((each) => each.key);
      startAfter = page.token === undefined ? undefined : page.lastKey;
    } while (startAfter !== undefined);
  }

  async #deleteKey(key: string, doing: string): Promise<void> {
    await this.#run(doing, undefined, () =>
      this.#client.send(new this.#sdk.DeleteObjectCommand({ Bucket: this.#bucket, Key: key })),
    );
  }

  async #deleteBelow(key: string, going: Going, doing: string): Promise<void> {
    for await (const keys of this.#keysBelow(key, doing)) {
      needPermit(going, doing);
      const { Errors = [] } = await this.#run(doing, undefined, () =>
        this.#client.send(
          new this.#sdk.DeleteObjectsCommand({
            Bucket: this.#bucket,
            Delete: { Objects: keys.map((each) => ({ Key: each })), Quiet: true },
          }),
        ),
      );
      const first = Errors[0];
      if (first !== undefined) {
        const thrown = { name: first.Code, message: `${first.Key ?? ""}: ${first.Message ?? ""}` };
        throw s3Error(thrown, doing);
      }
    }
  }

  async #copy(
    source: string,
    target: string,
    head: HeadObjectCommandOutput,
    doing: string,
  ): Promise<void> {
    const size = head.ContentLength ?? 0;
    const etag = fingerprintOf(head.ETag ?? "");
    const partBytes = partBytesOf(size);
    // The etag of an upload in parts depends on their sizes: it is kept only by copying part by part.
    const uploadedByParts =
      size > smallestPartBytes && etag.endsWith(`-${Math.ceil(size / partBytes)}`);
    const to = { Bucket: this.#bucket, Key: target };
    const from = { CopySource: copySource(this.#bucket, source), CopySourceIfMatch: `"${etag}"` };
    await this.#run(doing, undefined, async () => {
      if (uploadedByParts || size > maxCopyBytes) {
        await copyParts(this.#sdk, this.#client, to, from, {
          size,
          partBytes,
          metadata: head.Metadata ?? {},
        });
      } else {
        await this.#client.send(new this.#sdk.CopyObjectCommand({ ...to, ...from }));
      }
    });
  }

  async #putEmpty(key: string, metadata: Record<string, string>, doing: string): Promise<void> {
    const command = new this.#sdk.PutObjectCommand({
      Bucket: this.#bucket,
      Key: key,
      Metadata: metadata,
      Body: Buffer.alloc(0),
    });
    await this.#run(doing, undefined, () => this.#client.send(command));
  }

  /** Only empty objects can be links: they alone cost a HEAD. */
  async #withTarget(
    entry: UfsListEntry,
    { key, size }: ListedObject,
    doing: string,
  ): Promise<UfsListEntry> {
    if (size > 0) return entry;
    const head = await this.#head(key, doing);
    return head === undefined ? entry : { name: entry.name, ...statOf(head) };
  }
}

/** Whether one object is as good as a copy of the other: what a copy would make anew, bytes and attributes, is there. */
function isCopy(present: HeadObjectCommandOutput, of: HeadObjectCommandOutput): boolean {
  return present.ETag === of.ETag && isDeepStrictEqual(present.Metadata, of.Metadata);
}

/** The entries of some parts, with the objects behind those that are files. */
function entriesOf(
  parts: readonly string[],
  of: {
    readonly objects: ReadonlyMap<string, ListedObject>;
    readonly directories: ReadonlySet<string>;
  },
): { entry: UfsListEntry; object: ListedObject | undefined }[] {
  return parts.flatMap((part) => {
    const object = of.objects.get(part);
    const isDirectory = of.directories.has(part);
    const text = textOf(part);
    const shown: { entry: UfsListEntry; object: ListedObject | undefined }[] = [];
    if (isDirectory) shown.push({ entry: { name: nameOf(text), ...directory }, object: undefined });
    if (object !== undefined) {
      const name = isDirectory || part === "" ? objectNameOf(text) : nameOf(text);
      shown.push({ entry: fileEntry(name, object), object });
    }
    return shown;
  });
}

/** Results in the order of the items, a bounded number under way. */
async function inParallel<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results = new Array<R>(items.length);
  let next = 0;
  const lane = async () => {
    while (next < items.length) {
      const index = next++;
      results[index] = await work(items[index]!);
    }
  };
  await Promise.all(Array.from({ length: Math.min(concurrency, items.length) }, lane));
  return results;
}
