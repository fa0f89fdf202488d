/**
 * Several stores as one: layers in an order of priority, one of which takes what is written. Directories merge; of any other
 * name the first layer that has it is shown. What cannot be removed where it lies is hidden by a mask in the write layer
 * (union-marks.ts); masks in other layers, which were write layers once, mean nothing.
 *
 * Invariants
 * 1. A fingerprint begins with the name of its layer: an object that another layer shows now is another object. Reading by a
 *    fingerprint asks that layer alone, so it goes on while others are away, and finds a copy that was made in between.
 * 2. What was removed or moved away is shown no more, whatever layer had it; what was written is shown. A mask comes before
 *    the removal of what it would let through.
 * 3. Nothing is said to be missing, and nothing listed, while a layer that might have it does not answer.
 * 4. A write needs the write layer alone. Of a layer that does not answer it is assumed that it has the name.
 */
import { hasCode, WeirError } from "../lib/errors.ts";
import { isUnlinkedPath } from "../lib/store-names.ts";
import { shown } from "./paths.ts";
import type {
  Going,
  Move,
  Removal,
  UfsAttributes,
  UfsPage,
  UfsStat,
  UnderFileSystem,
} from "./types.ts";
import {
  checkPath,
  type Found,
  inUnion,
  namingLayer,
  parsePrint,
  printIn,
  type UnionLayer,
  UnionLayers,
} from "./union-layers.ts";
import { mergedNames } from "./union-list.ts";
import {
  dropMarksIn,
  dropProvenance,
  formerOf,
  markPrefix,
  masksIn,
  putProvenance,
} from "./union-marks.ts";
import { relocate, type Relocation } from "./union-relocate.ts";

/** What the layers have at a path. */
export interface Whereabouts {
  /** The layer that is shown; undefined: the path is not there. */
  readonly shown: string | undefined;
  /** Layers that have an object there, in order of priority, whether it is shown or not. */
  readonly layers: readonly { readonly name: string; readonly stat: UfsStat }[];
}

type FileRemoval = Extract<Removal, { of: "file" }> & Going;

export class UnionFileSystem implements UnderFileSystem {
  readonly uri: string;
  readonly readOnly: boolean;
  readonly #layers: UnionLayers;

  /** `layers` in order of priority; the one named `writeLayer` must not be read-only, unless nothing is ever written. */
  constructor(options: { uri: string; layers: readonly UnionLayer[]; writeLayer: string }) {
    this.uri = options.uri;
    this.#layers = new UnionLayers(options.uri, options.layers, options.writeLayer);
    this.readOnly = this.#layers.write.store.readOnly;
  }

  async list(
    path: string,
    options: { after?: string | undefined; limit: number; signal?: AbortSignal },
  ): Promise<UfsPage> {
    const doing = this.#doing("list", path);
    const found = await this.#layers.find(path, doing);
    if (found === undefined)
      throw new WeirError("NotFound", `${doing}: there is no such directory`);
    if (found.stat.kind !== "directory") {
      throw new WeirError("NotDirectory", `${doing}: it is a ${found.stat.kind}`);
    }
    const { counting } = found;
    const { write } = this.#layers;
    const isMasked = counting.includes(write)
      ? await namingLayer(write, masksIn(write.store, path, options.signal))
      : () => false;
    const counts = (name: string, layer: UnionLayer) =>
      !name.startsWith(markPrefix) && (layer === write || !isMasked(name));
    for (let { after } = options; ; ) {
      const { names, upTo } = await mergedNames(counting, path, { ...options, after, counts });
      const entries = await Promise.all(
        names.map(async ({ name, shown }) => shown ?? (await this.#entryOf(path, name, doing))),
      );
      const present = entries.filter((entry) => entry !== undefined);
      if (upTo === undefined) return { entries: present, last: true };
      if (present.length > 0) return { entries: present, last: false, after: upTo };
      after = upTo;
    }
  }

  async #entryOf(directory: string, name: string, doing: string) {
    const path = directory === "" ? name : `${directory}/${name}`;
    const found = await this.#layers.find(path, doing);
    return found && { name, ...inUnion(found.layer, found.stat) };
  }

  async stat(path: string): Promise<UfsStat | undefined> {
    const found = await this.#layers.find(path, this.#doing("stat", path));
    return found && inUnion(found.layer, found.stat);
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
    checkPath(path, doing);
    const { layer, fingerprint } = await this.#layers.sourceOf(path, options.fingerprint, doing);
    yield* layer.store.read(path, { ...options, fingerprint });
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
    this.#needTarget(path, this.#doing("write", path));
    const { write } = this.#layers;
    await this.#layers.makeParents(path, options);
    // What another layer has stays there, hidden: nothing has to be kept for a repetition.
    const kept = options.keeps === undefined ? undefined : parsePrint(options.keeps);
    const keeps = kept?.layer === write.name ? kept.own : undefined;
    const own = await write.store.write(path, source, { ...options, keeps });
    await this.#show(path, options);
    return printIn(write, own);
  }

  async forgetReplaced(path: string, fingerprint: string): Promise<void> {
    this.#needTarget(path, this.#doing("forget what was replaced at", path));
    const { layer, own } = parsePrint(fingerprint);
    const { write } = this.#layers;
    if (layer === write.name) await write.store.forgetReplaced(path, own);
  }

  async delete(path: string, what: Removal & Going): Promise<{ aside: boolean }> {
    const doing = this.#doing("delete", path);
    if (isUnlinkedPath(path)) {
      for (const { store } of this.#layers.all) {
        if (!store.readOnly) await store.delete(path, { of: "file", ...goingOf(what) });
      }
      return { aside: false };
    }
    this.#needTarget(path, doing);
    const found = await this.#layers.find(path, doing);
    if (what.of === "file") return await this.#deleteFile(path, found, what);
    if (found?.stat.kind !== "directory") return { aside: false };
    if (what.of === "tree") await this.#deleteTree(path, what);
    else await this.#deleteEmpty(path, what);
    return { aside: false };
  }

  async rename(from: string, to: string, how: Move & Going): Promise<{ aside: boolean }> {
    const doing = `Cannot rename ${shown(from)} to ${shown(to)} in ${this.uri}`;
    this.#needTarget(from, doing);
    this.#needTarget(to, doing);
    if (to.startsWith(`${from}/`)) {
      throw new WeirError("InvalidArgument", `${doing}: the target is inside the source`);
    }
    const found = await this.#layers.find(from, doing);
    if (found !== undefined) {
      await this.#layers.makeParents(to, how);
      return await this.#move(found, from, to, how);
    }
    if ((await this.#layers.find(to, doing)) === undefined) {
      throw new WeirError("NotFound", `${doing}: there is no ${shown(from)}`);
    }
    // It was done before: the layer knows what of it.
    return await this.#layers.write.store.rename(from, to, how).catch((thrown: unknown) => {
      if (hasCode(thrown, "NotFound")) return { aside: false };
      throw thrown;
    });
  }

  async mkdir(path: string, attributes?: UfsAttributes, going: Going = {}): Promise<void> {
    const doing = this.#doing("make directory", path);
    this.#needTarget(path, doing);
    const found = await this.#layers.find(path, doing);
    if (found !== undefined && found.stat.kind !== "directory") {
      throw new WeirError("AlreadyExists", `${doing}: there is a ${found.stat.kind}`);
    }
    const { write } = this.#layers;
    if (found === undefined || found.counting.includes(write)) {
      await this.#layers.makeParents(path, going);
      await write.store.mkdir(path, attributes, going);
    } else if (attributes !== undefined) {
      await this.setAttributes(path, attributes, going);
    }
  }

  async symlink(path: string, target: string, going: Going = {}): Promise<void> {
    this.#needTarget(path, this.#doing("make symbolic link", path));
    await this.#layers.makeParents(path, going);
    await this.#layers.write.store.symlink(path, target, going);
    await this.#show(path, going);
  }

  /**
   * Where the object lies, or in all layers that have the directory; those that are read-only keep what they have, and the
   * change is known to Weir alone.
   */
  async setAttributes(
    path: string,
    attributes: UfsAttributes,
    going: Going = {},
  ): Promise<string | undefined> {
    const doing = this.#doing("change attributes of", path);
    const found = await this.#layers.find(path, doing);
    if (found === undefined) throw new WeirError("NotFound", `${doing}: it is not there`);
    let changed: string | undefined;
    for (const layer of found.counting) {
      if (layer.store.readOnly) continue;
      const own = await layer.store.setAttributes(path, attributes, going);
      if (layer === found.layer && own !== undefined) changed = printIn(layer, own);
    }
    return changed;
  }

  async close(): Promise<void> {
    await Promise.all(this.#layers.all.map(({ store }) => store.close()));
  }

  /** In which layers an object lies, and which of them is shown. @throws WeirError when a layer does not answer */
  async whereIs(path: string): Promise<Whereabouts> {
    const found = await this.#layers.find(path, this.#doing("locate", path));
    const { all } = this.#layers;
    const stats = await Promise.all(all.map((layer) => this.#layers.statIn(layer, path)));
    const layers = all.flatMap(({ name }, place) => {
      const stat = stats[place];
      return stat === undefined ? [] : [{ name, stat }];
    });
    return { shown: found?.layer.name, layers };
  }

  /** What the object that is known by a fingerprint has for one now; undefined: another one is shown, or none. */
  async presentOf(path: string, known: string): Promise<string | undefined> {
    const found = await this.#layers.find(path, this.#doing("stat", path));
    if (found?.stat.kind !== "file") return undefined;
    const { layer, stat } = found;
    const isIt = await this.#layers.isKnownAs(path, known, layer, stat);
    return isIt ? printIn(layer, stat.fingerprint) : undefined;
  }

  /** Moves or copies an object between layers: see union-relocate.ts. */
  relocate(path: string, how: Relocation): Promise<string> {
    this.#needTarget(path, this.#doing("move", path));
    return relocate(this.#layers, path, how);
  }

  async #deleteFile(
    path: string,
    shownNow: Found | undefined,
    what: FileRemoval,
  ): Promise<{ aside: boolean }> {
    const { fingerprint, aside } = what;
    const going = goingOf(what);
    const layers = this.#layers;
    let found = shownNow;
    if (found?.stat.kind === "directory") return { aside: false };
    if (found === undefined) return { aside: await this.#isAside(aside?.path) };
    if (fingerprint !== undefined) await layers.mendCopy(path, found.layer, found.stat, going);
    if (
      fingerprint !== undefined &&
      !(await layers.isKnownAs(path, fingerprint, found.layer, found.stat))
    ) {
      return { aside: false };
    }
    if (aside?.must === true && found.layer.store.readOnly && found.stat.kind === "file") {
      // It cannot lie aside where it is.
      await this.#copyUp(path, found, going);
      found = (await layers.find(path, this.#doing("delete", path))) ?? found;
    }
    const stays = await layers.having(
      layers.others,
      path,
      ({ kind }, { store }) => store.readOnly || kind === "directory",
    );
    if (stays.length > 0) await layers.mask(path, going);
    // From the last on: what is shown goes when nothing is left that it hides.
    let isAside = false;
    for (const layer of [...layers.all].reverse()) {
      if (layer.store.readOnly) continue;
      const isShown = layer === found.layer;
      const removal = isShown ? { aside, fingerprint: found.stat.fingerprint } : {};
      const done = await layer.store.delete(path, { of: "file", ...removal, ...going });
      isAside ||= done.aside;
      await dropProvenance(layer.store, path, going);
    }
    return { aside: isAside };
  }

  async #isAside(path: string | undefined): Promise<boolean> {
    if (path === undefined) return false;
    return (await this.#layers.having(this.#layers.all, path)).length > 0;
  }

  async #deleteTree(path: string, going: Going): Promise<void> {
    const layers = this.#layers;
    const stays = await layers.having(
      layers.others,
      path,
      ({ kind }, { store }) => store.readOnly || kind !== "directory",
    );
    if (stays.length > 0) await layers.mask(path, going);
    for (const { store } of [...layers.all].reverse()) {
      if (!store.readOnly) await store.delete(path, { of: "tree", ...goingOf(going) });
    }
  }

  /** What hides the names of others below it goes last, and what hides the others themselves comes first. */
  async #deleteEmpty(path: string, what: Going): Promise<void> {
    const going = goingOf(what);
    const layers = this.#layers;
    const { entries } = await this.list(path, { limit: 1 });
    if (entries.length > 0) return;
    if ((await layers.having(layers.others, path)).length > 0) await layers.mask(path, going);
    for (const { store } of [...layers.all].reverse()) {
      if (store.readOnly) continue;
      if (store === layers.write.store) await dropMarksIn(store, path, going);
      await store.delete(path, { of: "emptyDirectory", ...going });
    }
  }

  /** Moves what is shown at a path, whose new parent is in the write layer. */
  async #move(
    found: Found,
    from: string,
    to: string,
    how: Move & Going,
  ): Promise<{ aside: boolean }> {
    const layers = this.#layers;
    const { write } = layers;
    const going = goingOf(how);
    const isDirectory = found.stat.kind === "directory";
    const isWriteLayers = found.layer === write && found.counting.length === 1;
    if (isDirectory && !(isWriteLayers && (await this.#hasRoom(to, going)))) {
      await this.#moveTree(found, from, to, going);
      return { aside: false };
    }
    let own = found.stat.fingerprint;
    if (!isWriteLayers) {
      await this.#copyUp(from, found, going);
      own = (await write.store.stat(from))?.fingerprint ?? own;
    }
    // First the mask: when it has moved, what others have of that name would be shown in its place.
    const others = await layers.having(layers.others, from);
    if (others.length > 0) await layers.mask(from, going);
    if (isWriteLayers) await layers.mendCopy(from, write, found.stat, going);
    const former = isDirectory ? [] : await formerOf(write.store, from, own);
    if (former.length > 0) await putProvenance(write.store, to, { former, now: own }, going);
    const moved = await write.store.rename(from, to, how);
    await this.#show(to, going);
    if (isDirectory) return moved;
    await dropProvenance(write.store, from, going);
    for (const { store } of others) {
      if (store.readOnly) continue;
      await store.delete(from, { of: "file", ...going });
      await dropProvenance(store, from, going);
    }
    return moved;
  }

  /** Brings what another layer shows into the write layer, where it is shown from then on. */
  async #copyUp(path: string, { layer, stat }: Found, going: Going): Promise<void> {
    await this.#layers.copy(path, { source: layer, stat, target: this.#layers.write }, going);
    await this.#show(path, going);
  }

  /**
   * Whether a directory can be put at the path in one step. One that is shown there as empty is taken away: masks in it may be
   * all that it has. In one with names an earlier attempt was cut short.
   */
  async #hasRoom(to: string, going: Going): Promise<boolean> {
    const layers = this.#layers;
    const { store } = layers.write;
    // No name of others is ever shown below it.
    if ((await layers.having(layers.others, to)).length > 0) await layers.mask(to, going);
    if ((await store.stat(to)) === undefined) return true;
    if ((await this.list(to, { limit: 1 })).entries.length > 0) return false;
    await dropMarksIn(store, to, going);
    await store.delete(to, { of: "emptyDirectory", ...going });
    return true;
  }

  /** Name by name, each of which is there or here at any time. */
  async #moveTree(found: Found, from: string, to: string, going: Going): Promise<void> {
    const layers = this.#layers;
    if ((await layers.having(layers.others, to)).length > 0) await layers.mask(to, going);
    const { mode, uid, gid } = found.stat;
    await layers.write.store.mkdir(to, { mode, uid, gid }, going);
    for (;;) {
      // Always the first page: what was moved is listed no more.
      const { entries } = await this.list(from, { limit: 100 });
      if (entries.length === 0) break;
      for (const { name, kind } of entries) {
        const of = kind === "directory" ? "directory" : "file";
        await this.rename(`${from}/${name}`, `${to}/${name}`, { of, ...going });
      }
    }
    await this.#deleteEmpty(from, going);
  }

  /** Sees to it that of a path the write layer is shown. */
  async #show(path: string, going: Going): Promise<void> {
    const layers = this.#layers;
    if (layers.all[0] === layers.write) return;
    if ((await layers.having(layers.others, path)).length === 0) return;
    await layers.mask(path, goingOf(going));
  }

  #needTarget(path: string, doing: string): void {
    checkPath(path, doing);
    if (path !== "") return;
    throw new WeirError("InvalidArgument", `${doing}: it is the root of the mount`);
  }

  #doing(verb: string, path: string): string {
    return `Cannot ${verb} ${shown(path)} in ${this.uri}`;
  }
}

/** What of an order says whether it goes on, for the steps that it is made of. */
function goingOf({ signal, permit, outlives }: Going): Going {
  return { signal, permit, outlives };
}
