/**
 * An under file system: a store below a mount. Paths are latin1 strings (one character per byte) relative to the
 * mount's root, without a leading slash; "" is the root.
 *
 * All operations are idempotent, reject with a WeirError whose message names the store and the path, and never read a
 * whole object into memory.
 */
export interface UfsTimestamp {
  readonly sec: number;
  readonly nsec: number;
}

export interface UfsStat {
  readonly kind:
    | "file"
    | "directory"
    | "symlink"
    | "fifo"
    | "socket"
    | "charDevice"
    | "blockDevice";
  readonly size: number;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: UfsTimestamp;
  /**
   * What tells one content from another: the etag of an object; size and times of a local file. One that goes on behind
   * another one and a "-" is of the same content, and says more.
   */
  readonly fingerprint: string;
  /** Of a symbolic link, shown and never followed. */
  readonly target: string | undefined;
}

export interface UfsListEntry extends UfsStat {
  readonly name: string;
}

export interface UfsPage {
  readonly entries: readonly UfsListEntry[];
  readonly last: boolean;
  /** Where the next page begins, if that is not behind the last entry. */
  readonly after?: string | undefined;
}

export interface UfsAttributes {
  readonly mode?: number | undefined;
  readonly uid?: number | undefined;
  readonly gid?: number | undefined;
  readonly mtime?: UfsTimestamp | undefined;
}

/** Whether the work is still the caller's to do. */
export interface Going {
  readonly signal?: AbortSignal | undefined;
  /** Called right before each step that others see; throws when the step must not be taken any more. */
  readonly permit?: (() => void) | undefined;
  /** Called with the end of the work itself, where a call ends before that does. */
  readonly outlives?: ((ended: Promise<unknown>) => void) | undefined;
}

/** What is to become of the bytes of a file that is removed or replaced. */
export interface Aside {
  /** An `unlinkedPath`, where they stay readable. */
  readonly path: string;
  /** False: only where that costs no more than removing them. */
  readonly must: boolean;
}

/**
 * What is to be removed: exactly one object that is no directory; a directory if nothing lies below it; or all below a
 * path, whoever put it there.
 */
export type Removal =
  | {
      readonly of: "file";
      /** Only an object that has it is removed: another one was put there by somebody else. */
      readonly fingerprint?: string | undefined;
      readonly aside?: Aside | undefined;
    }
  | { readonly of: "emptyDirectory" | "tree" };

export interface Move {
  readonly of: "file" | "directory";
  /** For the object that is replaced. */
  readonly aside?: Aside | undefined;
}

export interface UnderFileSystem {
  /** Shown to people, without credentials. */
  readonly uri: string;
  readonly readOnly: boolean;
  /**
   * Names directly below `path` in byte order, `after` exclusive. Where names are escaped (lib/escaped-names.ts), those may
   * come in any page, and `limit` counts what they stand for.
   */
  list(
    path: string,
    options: { after?: string | undefined; limit: number; signal?: AbortSignal },
  ): Promise<UfsPage>;
  stat(path: string): Promise<UfsStat | undefined>;
  /**
   * Bytes [offset, offset + length), in chunks of any size.
   * @throws WeirError `Stale` when the object no longer has `fingerprint`, `NotFound` when it is gone
   */
  read(
    path: string,
    options: {
      offset: number;
      length: number;
      fingerprint?: string | undefined;
      signal?: AbortSignal;
    },
  ): AsyncIterable<Uint8Array>;
  /**
   * Writes the object whole, straight to its key, with parents; resolves with its fingerprint when it is durable. If the
   * object that it replaces has the fingerprint `keeps`, that one stays readable by it, hidden, until `forgetReplaced`:
   * the write may be repeated from a source that reads there. As far as the store can do that.
   */
  write(
    path: string,
    source: AsyncIterable<Uint8Array>,
    options: {
      size: number;
      attributes?: UfsAttributes;
      keeps?: string | undefined;
    } & Going,
  ): Promise<string>;
  /** Lets go of what a write at `path` kept, if it has the fingerprint. */
  forgetReplaced(path: string, fingerprint: string): Promise<void>;
  /** Missing is done. Resolves with whether the object lies aside now. */
  delete(path: string, what: Removal & Going): Promise<{ readonly aside: boolean }>;
  /**
   * Moves an object, or a directory with all below; replaces an object at the target. A missing source with a present
   * target is done. Resolves with whether what was replaced lies aside now.
   */
  rename(from: string, to: string, how: Move & Going): Promise<{ readonly aside: boolean }>;
  mkdir(path: string, attributes?: UfsAttributes, going?: Going): Promise<void>;
  symlink(path: string, target: string, going?: Going): Promise<void>;
  /**
   * Resolves with the fingerprint that the object has now, where attributes are a part of it (mtime of a local file);
   * undefined where they are not.
   */
  setAttributes(
    path: string,
    attributes: UfsAttributes,
    going?: Going,
  ): Promise<string | undefined>;
  close(): Promise<void>;
}
