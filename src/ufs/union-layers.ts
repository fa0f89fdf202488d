/**
 * The layers of a union, in order of priority: what they have at a path, which of them is shown there, and how something gets
 * from one to another. What is written goes to the write layer; masks (union-marks.ts) count in that one alone.
 */
import { createHash } from "node:crypto";
import { hasCode, toWeirError, WeirError } from "../lib/errors.ts";
import { isUnlinkedPath } from "../lib/store-names.ts";
import { secondsOf } from "./local-stat.ts";
import { placesOf, shown, splitPath } from "./paths.ts";
import type { Going, UfsStat, UnderFileSystem } from "./types.ts";
import {
  formerOf,
  hasMask,
  isCopyOf,
  isSameContent,
  markPrefix,
  putMask,
  putProvenance,
} from "./union-marks.ts";

export interface UnionLayer {
  /** Part of fingerprints: never that of another store in the same union. */
  readonly name: string;
  readonly store: UnderFileSystem;
}

/** What is shown at a path. */
export interface Found {
  readonly layer: UnionLayer;
  readonly stat: UfsStat;
  /** Layers that count there: of a directory those that have it. */
  readonly counting: readonly UnionLayer[];
}

export class UnionLayers {
  readonly all: readonly UnionLayer[];
  readonly write: UnionLayer;
  readonly #uri: string;

  constructor(uri: string, all: readonly UnionLayer[], writeLayer: string) {
    this.#uri = uri;
    this.all = all;
    this.write = this.named(writeLayer);
  }

  /** @throws WeirError `InvalidArgument` */
  named(name: string): UnionLayer {
    const layer = this.all.find((each) => each.name === name);
    if (layer !== undefined) return layer;
    const known = this.all.map((each) => each.name).join(", ");
    throw new WeirError(
      "InvalidArgument",
      `Cannot use layer "${name}" of ${this.#uri}: wanted one of ${known}`,
    );
  }

  /** Those beside the write layer. */
  get others(): readonly UnionLayer[] {
    return this.all.filter((layer) => layer !== this.write);
  }

  /** What is shown at a path. @throws WeirError when a layer that might have it does not answer */
  async find(path: string, doing: string): Promise<Found | undefined> {
    checkPath(path, doing);
    let counting: readonly UnionLayer[] = this.all;
    let found: Found | undefined;
    for (const prefix of path === "" ? [""] : ["", ...prefixesOf(path)]) {
      if (found !== undefined && found.stat.kind !== "directory") return undefined;
      const mayBeMasked = prefix !== "" && counting.length > 1 && counting.includes(this.write);
      const [masked, all] = await Promise.all([
        mayBeMasked ? this.hasMask(prefix) : false,
        Promise.all(counting.map((layer) => this.statIn(layer, prefix))),
      ]);
      const stats = masked ? [all[counting.indexOf(this.write)]] : all;
      if (masked) counting = [this.write];
      if (prefix === "") this.#needRoots(stats, doing);
      const place = stats.findIndex((stat) => stat !== undefined);
      if (place < 0) return undefined;
      const [layer, stat] = [counting[place]!, stats[place]!];
      counting =
        stat.kind === "directory"
          ? counting.filter((_, at) => stats[at]?.kind === "directory")
          : [layer];
      found = { layer, stat, counting };
    }
    return found;
  }

  /** A layer whose root is gone is away: what it had is not to be taken for removed. */
  #needRoots(roots: readonly (UfsStat | undefined)[], doing: string): void {
    const place = roots.findIndex((root) => root === undefined);
    if (place < 0) return;
    const { name, store } = this.all[place]!;
    throw new WeirError("Unavailable", `${doing}: there is no ${store.uri} (layer "${name}")`);
  }

  /** Undefined also for names that the store could not have. */
  async statIn(layer: UnionLayer, path: string): Promise<UfsStat | undefined> {
    try {
      return await namingLayer(layer, layer.store.stat(path));
    } catch (thrown) {
      if (hasCode(thrown, "InvalidArgument", "NameTooLong")) return undefined;
      throw thrown;
    }
  }

  /** Layers among `of` that have, or may have since they do not answer, something at the path that `which` is true of. */
  async having(
    of: readonly UnionLayer[],
    path: string,
    which: (stat: UfsStat, layer: UnionLayer) => boolean = () => true,
  ): Promise<UnionLayer[]> {
    const have = await Promise.all(
      of.map(async (layer) => {
        try {
          const stat = await this.statIn(layer, path);
          return stat !== undefined && which(stat, layer);
        } catch (thrown) {
          if (isAway(thrown)) return true;
          throw thrown;
        }
      }),
    );
    return of.filter((_, place) => have[place]);
  }

  hasMask(path: string): Promise<boolean> {
    return namingLayer(this.write, hasMask(this.write.store, path));
  }

  /** Of the path the write layer counts alone from now on. */
  async mask(path: string, going: Going): Promise<void> {
    await this.makeParents(path, going);
    await putMask(this.write.store, path, going);
  }

  /** Makes the directories above a path that a layer does not have, as they are shown. */
  async makeParents(path: string, going: Going, layer = this.write): Promise<void> {
    const { parent } = splitPath(path);
    if (parent === "") return;
    const { store } = layer;
    const there = await store.stat(parent);
    if (there?.kind === "directory") return;
    const doing = `Cannot make directory ${shown(parent)} in ${store.uri}`;
    if (there !== undefined) {
      throw new WeirError(
        "NotDirectory",
        `${doing}: layer "${layer.name}" has a ${there.kind} there, hidden by a directory of another one`,
      );
    }
    await this.makeParents(parent, going, layer);
    const above = await this.find(parent, doing).catch((thrown: unknown) => {
      if (isAway(thrown)) return undefined;
      throw thrown;
    });
    const { mode, uid, gid } = above?.stat ?? {};
    const attributes = above?.stat.kind === "directory" ? { mode, uid, gid } : undefined;
    await store.mkdir(parent, attributes, going);
  }

  /**
   * Copies a file or link from a layer to the same path of another one, where it is known by its former fingerprints too.
   * @throws WeirError `NotSupported` for what has no content
   */
  async copy(
    path: string,
    { source, stat, target }: { source: UnionLayer; stat: UfsStat; target: UnionLayer },
    going: Going,
  ): Promise<void> {
    await this.makeParents(path, going, target);
    if (stat.kind === "symlink") {
      await target.store.symlink(path, stat.target!, going);
      return;
    }
    if (stat.kind !== "file") {
      throw new WeirError(
        "NotSupported",
        `Cannot copy ${shown(path)} from ${source.store.uri} to ${target.store.uri}: it is a ${stat.kind}`,
      );
    }
    const { size, fingerprint, mode, uid, gid, mtime } = stat;
    const content = source.store.read(path, { offset: 0, length: size, fingerprint });
    const attributes = { mode, uid, gid, mtime };
    const now = await target.store.write(path, content, { size, attributes, ...going });
    const former = [
      ...(await formerOf(source.store, path, fingerprint)),
      printIn(source, fingerprint),
    ];
    await putProvenance(target.store, path, { former, now }, going);
  }

  /**
   * Lets an object be known as the copy that it is, where an attempt was cut short before it said so: size, times and bytes
   * are those of what another layer has there.
   */
  async mendCopy(path: string, layer: UnionLayer, stat: UfsStat, going: Going): Promise<void> {
    const { kind, size, fingerprint: now } = stat;
    if (kind !== "file" || (await formerOf(layer.store, path, now)).length > 0) return;
    for (const source of this.all) {
      if (source === layer) continue;
      const original = await this.statIn(source, path).catch((thrown: unknown) => {
        if (isAway(thrown)) return undefined;
        throw thrown;
      });
      if (original?.kind !== "file" || original.size !== size) continue;
      // A copy's time may be rounded.
      if (Math.abs(secondsOf(original.mtime) - secondsOf(stat.mtime)) > 0.001) continue;
      const { fingerprint } = original;
      const isSame = await areSameBytes(
        source.store.read(path, { offset: 0, length: size, fingerprint }),
        layer.store.read(path, { offset: 0, length: size, fingerprint: now }),
      );
      if (!isSame) continue;
      const former = await formerOf(source.store, path, fingerprint);
      const all = [...former, printIn(source, fingerprint)];
      await putProvenance(layer.store, path, { former: all, now }, going);
      return;
    }
  }

  /** Whether what a layer has is what had the fingerprint once, here or elsewhere. */
  async isKnownAs(
    path: string,
    wanted: string,
    layer: UnionLayer,
    stat: UfsStat,
  ): Promise<boolean> {
    const now = stat.fingerprint;
    if (isSameContent(printIn(layer, now), wanted)) return true;
    return await isCopyOf(layer.store, path, { former: wanted, now });
  }

  /** Where to read what has the fingerprint, or what is shown. @throws WeirError `NotFound` */
  async sourceOf(
    path: string,
    wanted: string | undefined,
    doing: string,
  ): Promise<{ layer: UnionLayer; fingerprint: string | undefined }> {
    if (wanted === undefined) {
      const found = await this.find(path, doing);
      if (found === undefined) throw new WeirError("NotFound", `${doing}: it is not there`);
      return { layer: found.layer, fingerprint: found.stat.fingerprint };
    }
    const { layer: name, own } = parsePrint(wanted);
    const layer = this.all.find((each) => each.name === name);
    const there = layer && (await this.statIn(layer, path));
    if (layer !== undefined && there !== undefined) {
      // Nothing but the layer itself knows what lies aside.
      const isIts = isSameContent(there.fingerprint, own) || isUnlinkedPath(path);
      if (isIts) return { layer, fingerprint: own };
    }
    for (const other of this.all) {
      const stat = await this.statIn(other, path).catch(() => undefined);
      if (stat === undefined) continue;
      // A place aside is of one file alone, which may have come here from another layer.
      if (isUnlinkedPath(path)) return { layer: other, fingerprint: undefined };
      if (await isCopyOf(other.store, path, { former: wanted, now: stat.fingerprint })) {
        return { layer: other, fingerprint: stat.fingerprint };
      }
    }
    // What it replaced may be kept there: the layer knows.
    if (layer !== undefined && there !== undefined) return { layer, fingerprint: own };
    throw new WeirError("NotFound", `${doing}: layer "${name}" has it no more`);
  }
}

/** What fails says in which layer. */
export async function namingLayer<T>(layer: UnionLayer, result: Promise<T>): Promise<T> {
  try {
    return await result;
  } catch (thrown) {
    const { code, message, outcome } = toWeirError(thrown, `Cannot use ${layer.store.uri}`);
    throw new WeirError(code, `${message} (layer "${layer.name}")`, { cause: thrown, outcome });
  }
}

/** @throws WeirError `InvalidArgument` for what leads nowhere, or to what is ours */
export function checkPath(path: string, doing: string): void {
  if (!placesOf(path, doing).some((name) => name.startsWith(markPrefix))) return;
  throw new WeirError(
    "InvalidArgument",
    `${doing}: names that begin with "${markPrefix}" are reserved for what a union keeps`,
  );
}

/** A path and those above it, the top first. */
export function prefixesOf(path: string): string[] {
  const names = path.split("/");
  return names.map((_, end) => names.slice(0, end + 1).join("/"));
}

/** The fingerprint in the union of what has one in a layer. */
export function printIn(layer: UnionLayer, fingerprint: string): string {
  return `${layer.name}:${fingerprint}`;
}

/** What a layer has, as it is in the union. */
export function inUnion<S extends UfsStat>(layer: UnionLayer, stat: S): S {
  return { ...stat, fingerprint: printIn(layer, stat.fingerprint) };
}

export function parsePrint(fingerprint: string): { layer: string; own: string } {
  const colon = fingerprint.indexOf(":");
  return { layer: fingerprint.slice(0, colon), own: fingerprint.slice(colon + 1) };
}

async function areSameBytes(
  one: AsyncIterable<Uint8Array>,
  other: AsyncIterable<Uint8Array>,
): Promise<boolean> {
  const [a, b] = [createHash("sha256"), createHash("sha256")];
  for await (const part of one) a.update(part);
  for await (const part of other) b.update(part);
  return a.digest().equals(b.digest());
}

/** Whether a store did not answer. */
function isAway(thrown: unknown): boolean {
  return hasCode(thrown, "Unavailable", "DeadlineExceeded");
}
