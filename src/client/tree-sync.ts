/**
 * Walks a tree and has each directory brought in line with its store. The walk is here and not at a master: a call is
 * about one directory and can be sent again, so a change of the leader costs nothing that was done.
 *
 * Invariants
 * 1. Depth first, some directories at a time: what is in memory grows with the depth of the tree, not with its size.
 * 2. All directories are asked for as of one cluster time: what was brought in line since then is not listed again.
 * 3. What goes wrong in one directory is counted, and keeps no other from its turn.
 */
import { hasCode, toWeirError, WeirError } from "../lib/errors.ts";
import { type InodeId, rootInodeId } from "../lib/ids.ts";
import { masterApi } from "../rpc/master-api.ts";
import type { MasterConnection } from "../rpc/master-connection.ts";
import type { Method } from "../rpc/method.ts";
import type { FileStatus } from "../rpc/namespace.ts";

/** Directories under way at once. */
const width = 8;
/** Subdirectories that are asked for at once. */
const pageLength = 256;
/** After so long a call about a large directory says how far it is. */
const answerMs = 1000;
/** Failures that are told in full. */
const toldFailures = 20;

export interface TreeSyncProgress {
  readonly directories: number;
  /** Names that the stores have in them. */
  readonly names: number;
  readonly added: number;
  readonly changed: number;
  readonly removed: number;
  /** Names that a store does not have and that stay: not persisted, or changed since. */
  readonly kept: number;
  readonly failed: number;
  /** The first of the failures. */
  readonly failures: readonly { readonly path: string; readonly message: string }[];
}

export interface TreeSyncOptions {
  readonly recursive?: boolean | undefined;
  /** `enough`: directories that are loaded are not listed again. */
  readonly known?: "enough" | "stale" | undefined;
  readonly onProgress?: ((progress: TreeSyncProgress) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

interface Place {
  readonly inode: InodeId;
  readonly path: string;
}

/** A directory whose subdirectories are gone through. */
interface Frame {
  readonly place: Place;
  readonly waiting: Place[];
  after: string | undefined;
  isWhole: boolean;
  filling: Promise<void> | undefined;
}

type Counts = { -readonly [K in keyof Omit<TreeSyncProgress, "failures">]: TreeSyncProgress[K] };

export class TreeSync {
  readonly #masters: MasterConnection;
  readonly #deadlineMs: number;
  readonly #options: TreeSyncOptions;
  readonly #signal: AbortSignal;
  readonly #frames: Frame[] = [];
  readonly #counts: Counts = {
    directories: 0,
    names: 0,
    added: 0,
    changed: 0,
    removed: 0,
    kept: 0,
    failed: 0,
  };
  readonly #failures: { path: string; message: string }[] = [];
  /** Of directories under way: what was counted of them so far. */
  readonly #partial = new Map<InodeId, number>();
  #since: number | undefined;
  #underWay = 0;
  #idle: (() => void)[] = [];

  constructor(
    parts: { readonly masters: MasterConnection; readonly deadlineMs: number },
    options: TreeSyncOptions,
  ) {
    this.#masters = parts.masters;
    this.#deadlineMs = parts.deadlineMs;
    this.#options = options;
    this.#signal = options.signal ?? new AbortController().signal;
    this.#since = options.known === "enough" ? -1 : undefined;
  }

  /** @param names of the path, from the root */
  async run(names: readonly string[]): Promise<TreeSyncProgress> {
    const place = await this.#find(names);
    if (place !== undefined) {
      await this.#syncOne(place);
      const [only] = this.#failures;
      if (only !== undefined && this.#options.recursive !== true) {
        throw new WeirError("Unavailable", `Cannot sync "${place.path}": ${only.message}`);
      }
      if (this.#options.recursive === true) {
        await Promise.all(Array.from({ length: width }, () => this.#lane()));
      }
    }
    return this.#progress();
  }

  /** The directory of a path, whose parts are brought in line on the way; undefined for anything else. */
  async #find(names: readonly string[]): Promise<Place | undefined> {
    let at: Place = { inode: rootInodeId, path: "/" };
    for (const [i, name] of names.entries()) {
      const isLast = i === names.length - 1;
      if (isLast && this.#options.known !== "enough") await this.#syncName(at, name);
      let status = await this.#lookup(at.inode, name).catch((thrown: unknown) => {
        if (!hasCode(thrown, "NotFound")) throw thrown;
        return undefined;
      });
      if (status === undefined) {
        await this.#syncName(at, name);
        status = await this.#lookup(at.inode, name);
      }
      if (isLast && status.kind !== "directory") return undefined;
      at = { inode: status.inode, path: join(at.path, name) };
    }
    return at;
  }

  async #syncName(parent: Place, name: string): Promise<void> {
    const counts = await this.#call(masterApi.syncName, { parent: parent.inode, name });
    this.#count(counts);
  }

  /** As the masters know it: what is cached here may be the very reason to ask. */
  async #lookup(parent: InodeId, name: string): Promise<FileStatus> {
    const request = { parent, name, consistency: "linearizable" } as const;
    return (await this.#call(masterApi.lookup, request)).status;
  }

  async #lane(): Promise<void> {
    for (let next = await this.#next(); next !== undefined; next = await this.#next()) {
      this.#underWay++;
      try {
        await this.#syncOne(next);
      } finally {
        this.#underWay--;
        for (const wake of this.#idle.splice(0)) wake();
      }
    }
  }

  /** The next directory; undefined when none is left and none can come. */
  async #next(): Promise<Place | undefined> {
    for (;;) {
      this.#signal.throwIfAborted();
      const top = this.#frames.at(-1);
      if (top === undefined) {
        if (this.#underWay === 0) return undefined;
        await new Promise<void>((resolve) => this.#idle.push(resolve));
        continue;
      }
      const next = top.waiting.shift();
      if (next !== undefined) return next;
      if (top.isWhole) {
        this.#frames.splice(this.#frames.indexOf(top), 1);
        continue;
      }
      top.filling ??= this.#fill(top).finally(() => {
        top.filling = undefined;
      });
      await top.filling;
    }
  }

  async #fill(frame: Frame): Promise<void> {
    const { inode, path } = frame.place;
    try {
      const request = { directory: inode, after: frame.after, limit: pageLength };
      const page = await this.#call(masterApi.subdirectories, request);
      frame.waiting.push(
        ...page.entries.map((each) => ({ inode: each.inode, path: join(path, each.name) })),
      );
      frame.after = page.after;
      frame.isWhole = page.after === undefined;
    } catch (thrown) {
      frame.isWhole = true;
      this.#fail(path, thrown);
    }
  }

  async #syncOne(place: Place): Promise<void> {
    const { inode, path } = place;
    try {
      let since = this.#since;
      for (;;) {
        const request = { directory: inode, since, waitMs: answerMs };
        const answer = await this.#call(masterApi.syncDirectory, request);
        this.#since ??= answer.since;
        since = answer.since;
        if (answer.done) {
          this.#partial.delete(inode);
          this.#count(answer);
          break;
        }
        this.#partial.set(inode, answer.names);
        this.#tell();
      }
      this.#counts.directories++;
      this.#frames.push({
        place,
        waiting: [],
        after: undefined,
        isWhole: false,
        filling: undefined,
      });
    } catch (thrown) {
      this.#partial.delete(inode);
      this.#fail(path, thrown);
    }
    this.#tell();
  }

  #count(counts: Partial<Counts>): void {
    for (const key of ["names", "added", "changed", "removed", "kept"] as const) {
      this.#counts[key] += counts[key] ?? 0;
    }
  }

  #fail(path: string, thrown: unknown): void {
    if (this.#signal.aborted) throw thrown;
    // It went while the walk came to it.
    if (hasCode(thrown, "NotFound")) return;
    this.#counts.failed++;
    if (this.#failures.length < toldFailures) {
      const { message } = toWeirError(thrown, `Cannot sync "${path}"`);
      this.#failures.push({ path, message });
    }
  }

  #progress(): TreeSyncProgress {
    let { names } = this.#counts;
    for (const partial of this.#partial.values()) names += partial;
    return { ...this.#counts, names, failures: this.#failures };
  }

  #tell(): void {
    this.#options.onProgress?.(this.#progress());
  }

  #call<Q, S>(method: Method<Q, S>, request: Q): Promise<S> {
    return this.#masters.call(method, request, {
      deadlineMs: this.#deadlineMs,
      signal: this.#signal,
      idempotent: true,
    });
  }
}

function join(directory: string, name: string): string {
  return directory === "/" ? `/${name}` : `${directory}/${name}`;
}
