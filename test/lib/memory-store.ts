/**
 * A store in the heap that does what local directories do, a step at a time: `beforeStep` is awaited before each change that
 * others see, `inFlight` when it cannot be called back any more, and `afterStep` before its caller hears of it.
 */
import { WeirError } from "../../src/lib/errors.ts";
import { temporaryPrefix } from "../../src/lib/store-names.ts";
import { needPermit, refuseIfAborted } from "../../src/ufs/errors.ts";
import {
  assertLength,
  componentsOf,
  needLasting,
  placesOf,
  replacedName,
  splitPath,
} from "../../src/ufs/paths.ts";
import type {
  Aside,
  Going,
  Move,
  Removal,
  UfsAttributes,
  UfsListEntry,
  UfsStat,
  UnderFileSystem,
} from "../../src/ufs/types.ts";

interface MemoryNode {
  readonly stat: UfsStat;
  readonly content: Buffer;
}

const nothing = Buffer.alloc(0);

export class MemoryStore implements UnderFileSystem {
  readonly uri = "memory://store";
  readonly readOnly = false;
  /** By path; directories too. */
  readonly nodes = new Map<string, MemoryNode>();
  beforeStep: () => Promise<void> = () => Promise.resolve();
  inFlight: () => Promise<void> = () => Promise.resolve();
  afterStep: () => Promise<void> = () => Promise.resolve();
  #prints = 0;

  constructor() {
    this.#put("", "directory", {}, nothing);
  }

  list(path: string, options: { after?: string | undefined; limit: number }) {
    const prefix = path === "" ? "" : `${path}/`;
    if (this.nodes.get(path)?.stat.kind !== "directory") {
      return Promise.reject(this.#error("NotFound", "list", path));
    }
    const names = [...this.nodes.keys()]
      .filter((each) => each !== "" && each.startsWith(prefix))
      .map((each) => each.slice(prefix.length))
      .filter((name) => !name.includes("/") && !name.startsWith(temporaryPrefix))
      .filter((name) => options.after === undefined || name > options.after)
      .sort();
    const entries: UfsListEntry[] = names
      .slice(0, options.limit)
      .map((name) => ({ name, ...this.nodes.get(prefix + name)!.stat }));
    return Promise.resolve({ entries, last: names.length <= options.limit });
  }

  stat(path: string): Promise<UfsStat | undefined> {
    return Promise.resolve(this.nodes.get(path)?.stat);
  }

  async *read(
    path: string,
    options: { offset: number; length: number; fingerprint?: string | undefined },
  ): AsyncIterable<Uint8Array> {
    placesOf(path, "Cannot read");
    const { fingerprint, offset, length } = options;
    const found = [path, replacedPath(path)].map((each) => this.nodes.get(each));
    const node = found.find(
      (each) => each?.stat.fingerprint === (fingerprint ?? each?.stat.fingerprint),
    );
    if (found[0] === undefined && (fingerprint === undefined || node === undefined)) {
      throw this.#error("NotFound", "read", path);
    }
    if (node === undefined) throw this.#error("Stale", "read", path);
    yield await Promise.resolve(node.content.subarray(offset, offset + length));
  }

  async write(
    path: string,
    source: AsyncIterable<Uint8Array>,
    options: { size: number; attributes?: UfsAttributes; keeps?: string | undefined } & Going,
  ): Promise<string> {
    componentsOf(path, "Cannot write");
    needLasting(path, "Cannot write");
    const parts: Uint8Array[] = [];
    for await (const part of source) {
      refuseIfAborted(options.signal, "Cannot write");
      parts.push(part);
    }
    const content = Buffer.concat(parts);
    assertLength(content.length, options.size, "Cannot write");
    return this.#change(options, "write", path, () => {
      this.#makeParents(path);
      const present = this.nodes.get(path);
      if (present?.stat.kind === "directory") throw this.#error("IsDirectory", "write", path);
      if (present !== undefined && present.stat.fingerprint === options.keeps) {
        this.nodes.set(replacedPath(path), present);
      }
      return this.#put(path, "file", { mode: 0o644, ...options.attributes }, content);
    });
  }

  forgetReplaced(path: string, fingerprint: string): Promise<void> {
    const kept = replacedPath(path);
    if (this.nodes.get(kept)?.stat.fingerprint === fingerprint) this.nodes.delete(kept);
    return Promise.resolve();
  }

  async delete(path: string, what: Removal & Going): Promise<{ aside: boolean }> {
    placesOf(path, "Cannot delete");
    if (path === "") throw this.#error("InvalidArgument", "delete", path);
    await this.#change(what, "delete", path, () => {
      const stat = this.nodes.get(path)?.stat;
      if (stat === undefined || (stat.kind === "directory") === (what.of === "file")) return;
      if (what.of === "file") {
        const { fingerprint, aside } = what;
        if (fingerprint !== undefined && fingerprint !== stat.fingerprint) return;
        this.#keep(path, aside);
      }
      const below = this.#below(path);
      if (what.of === "emptyDirectory" && !below.every(isHidden)) return;
      for (const each of [...below, replacedPath(path), path]) this.nodes.delete(each);
    });
    return { aside: what.of === "file" && this.#lies(what.aside) };
  }

  async rename(from: string, to: string, how: Move & Going): Promise<{ aside: boolean }> {
    componentsOf(from, "Cannot rename");
    componentsOf(to, "Cannot rename");
    if (to.startsWith(`${from}/`)) throw this.#error("InvalidArgument", "rename", from);
    await this.#change(how, "rename", from, () => {
      if (!this.nodes.has(from)) {
        if (this.nodes.has(to)) return;
        throw this.#error("NotFound", "rename", from);
      }
      this.#makeParents(to);
      this.#keep(to, how.aside);
      if (!this.#below(to).every(isHidden)) throw this.#error("NotEmpty", "rename", from);
      for (const each of [from, ...this.#below(from)]) {
        this.#move(each, to + each.slice(from.length));
      }
      this.nodes.delete(replacedPath(to));
      this.#move(replacedPath(from), replacedPath(to));
    });
    return { aside: this.#lies(how.aside) };
  }

  async mkdir(path: string, attributes: UfsAttributes = {}, going: Going = {}): Promise<void> {
    componentsOf(path, "Cannot make");
    needLasting(path, "Cannot make");
    await this.#change(going, "make directory", path, () => {
      this.#makeParents(path);
      const present = this.nodes.get(path);
      if (present !== undefined && present.stat.kind !== "directory") {
        throw this.#error("AlreadyExists", "make directory", path);
      }
      this.#put(path, "directory", attributes, nothing);
    });
  }

  async symlink(path: string, target: string, going: Going = {}): Promise<void> {
    componentsOf(path, "Cannot make");
    needLasting(path, "Cannot make");
    await this.#change(going, "make symbolic link", path, () => {
      this.#makeParents(path);
      this.#put(path, "symlink", {}, nothing, target);
    });
  }

  async setAttributes(path: string, attributes: UfsAttributes, going: Going = {}) {
    return this.#change(going, "change attributes of", path, () => {
      const node = this.nodes.get(path);
      if (node === undefined) throw this.#error("NotFound", "change attributes of", path);
      const stat = { ...node.stat, ...withoutAbsent(attributes) };
      // As of local files: the same object, told from others by its time as well.
      const [object] = stat.fingerprint.split("@");
      const { sec, nsec } = stat.mtime;
      const fingerprint =
        attributes.mtime === undefined
          ? stat.fingerprint
          : `${object!}@${String(sec)}.${String(nsec)}`;
      this.nodes.set(path, { stat: { ...stat, fingerprint }, content: node.content });
      return fingerprint;
    });
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  async #change<T>(going: Going, verb: string, path: string, change: () => T): Promise<T> {
    await this.beforeStep();
    needPermit(going, `Cannot ${verb} "${path}"`);
    await this.inFlight();
    const result = change();
    await this.afterStep();
    return result;
  }

  #put(
    path: string,
    kind: UfsStat["kind"],
    attributes: UfsAttributes,
    content: Buffer,
    target?: string,
  ): string {
    const { mode = 0o755, uid = 0, gid = 0, mtime = { sec: 0, nsec: 0 } } = attributes;
    const fingerprint = `print ${String(++this.#prints)}`;
    const size = kind === "file" ? content.length : 0;
    const stat = { kind, size, mode, uid, gid, mtime, fingerprint, target };
    this.nodes.set(path, { stat, content });
    return fingerprint;
  }

  #makeParents(path: string): void {
    const { parent } = splitPath(path);
    const above = this.nodes.get(parent);
    if (above?.stat.kind === "directory") return;
    if (above !== undefined) throw this.#error("NotDirectory", "use", path);
    this.#makeParents(parent);
    this.#put(parent, "directory", {}, nothing);
  }

  #move(from: string, to: string): void {
    const node = this.nodes.get(from);
    if (node === undefined) return;
    this.nodes.set(to, node);
    this.nodes.delete(from);
  }

  #below(path: string): string[] {
    return [...this.nodes.keys()].filter((each) => each.startsWith(`${path}/`));
  }

  #keep(path: string, aside: Aside | undefined): void {
    const node = this.nodes.get(path);
    if (aside === undefined || node?.stat.kind !== "file") return;
    this.nodes.set(aside.path, node);
  }

  #lies(aside: Aside | undefined): boolean {
    return aside !== undefined && this.nodes.has(aside.path);
  }

  #error(code: ConstructorParameters<typeof WeirError>[0], verb: string, path: string): WeirError {
    return new WeirError(code, `Cannot ${verb} "${path}" in ${this.uri}: ${code}`);
  }
}

/** Whether a path is of what stores show to nobody. */
export function isHidden(path: string): boolean {
  return path.split("/").some((name) => name.startsWith(temporaryPrefix));
}

/** Where the object lies that a write of the path replaced. */
function replacedPath(path: string): string {
  const { parent, name } = splitPath(path);
  return parent === "" ? replacedName(name) : `${parent}/${replacedName(name)}`;
}

function withoutAbsent(attributes: UfsAttributes): Partial<UfsStat> {
  return Object.fromEntries(Object.entries(attributes).filter(([, value]) => value !== undefined));
}
