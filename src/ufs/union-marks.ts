/**
 * What a union of stores keeps in its layers beside the objects: small objects with reserved names, hidden from listings.
 *
 * - A *mask* `.weir-layer-mask-HASH` beside a name, in the write layer, says that of this name, and of all below it, that
 *   layer counts alone, also if it has nothing there: so it hides what other layers have and cannot be removed.
 * - A *provenance* `.weir-layer-from-HASH` says of which fingerprints the object beside it is a copy, as long as it has one
 *   fingerprint itself: who knows the object by where it was before finds it here.
 *
 * HASH is of the name, so that a mark is no longer than other names may be; a mask has the name as its content, for people.
 */
import { createHash } from "node:crypto";
import { hasCode } from "../lib/errors.ts";
import { contentPart } from "./local-stat.ts";
import { splitPath } from "./paths.ts";
import type { Going, UnderFileSystem } from "./types.ts";

export const markPrefix = ".weir-layer-";
const maskPrefix = `${markPrefix}mask-`;
const provenancePrefix = `${markPrefix}from-`;
/** Former fingerprints that a copy is known by; earlier ones are forgotten. */
const maxFormer = 8;
const pageLength = 1000;
/** A mark is never longer; what is, is none. */
const maxMarkBytes = 16_384;

function markPath(prefix: string, path: string): string {
  const { parent, name } = splitPath(path);
  const mark = prefix + hashOf(name);
  return parent === "" ? mark : `${parent}/${mark}`;
}

function hashOf(name: string): string {
  return createHash("sha256").update(name, "latin1").digest("hex").slice(0, 32);
}

export async function hasMask(store: UnderFileSystem, path: string): Promise<boolean> {
  return (await store.stat(markPath(maskPrefix, path))) !== undefined;
}

export async function putMask(store: UnderFileSystem, path: string, going: Going): Promise<void> {
  const { name } = splitPath(path);
  await putMark(store, markPath(maskPrefix, path), Buffer.from(name, "latin1"), going);
}

export async function dropMask(store: UnderFileSystem, path: string, going: Going): Promise<void> {
  await store.delete(markPath(maskPrefix, path), { of: "file", ...going });
}

/** Takes all marks out of a directory in which nothing else is left. */
export async function dropMarksIn(
  store: UnderFileSystem,
  directory: string,
  going: Going,
): Promise<void> {
  for (;;) {
    if ((await store.stat(directory)) === undefined) return;
    const { entries, last } = await store.list(directory, { after: markPrefix, limit: pageLength });
    const marks = entries.filter(({ name }) => name.startsWith(markPrefix));
    for (const { name } of marks) {
      await store.delete(`${directory}/${name}`, { of: "file", ...going });
    }
    if (last || marks.length < entries.length || marks.length === 0) return;
  }
}

/** The masks of a directory, as a question for each name. */
export async function masksIn(
  store: UnderFileSystem,
  directory: string,
  signal: AbortSignal | undefined,
): Promise<(name: string) => boolean> {
  const hashes = new Set<string>();
  let after = maskPrefix;
  for (;;) {
    const page = await store.list(directory, {
      ...{ after, limit: pageLength },
      ...(signal === undefined ? {} : { signal }),
    });
    for (const { name } of page.entries) {
      if (!name.startsWith(maskPrefix)) return (of) => hashes.size > 0 && hashes.has(hashOf(of));
      hashes.add(name.slice(maskPrefix.length));
    }
    const last = page.entries.at(-1);
    if (page.last || last === undefined) break;
    after = last.name;
  }
  return (of) => hashes.size > 0 && hashes.has(hashOf(of));
}

interface Provenance {
  /** Fingerprints, with their layers, that the object had elsewhere; the latest last. */
  readonly former: readonly string[];
  /** Its own in the layer. */
  readonly now: string;
}

/** Whether two fingerprints, of one layer, are of one content: a move or a chmod changes a part of some. */
export function isSameContent(a: string, b: string): boolean {
  return contentPart(a) === contentPart(b);
}

/** Whether the object at `path`, which has the fingerprint `now`, is a copy of what had the fingerprint `former`. */
export async function isCopyOf(
  store: UnderFileSystem,
  path: string,
  { former, now }: { former: string; now: string },
): Promise<boolean> {
  const found = await provenanceOf(store, path);
  if (found === undefined || !isSameContent(found.now, now)) return false;
  return found.former.some((each) => isSameContent(each, former));
}

/** Former fingerprints of the object at `path`, if it still is that copy. */
export async function formerOf(
  store: UnderFileSystem,
  path: string,
  now: string,
): Promise<readonly string[]> {
  const found = await provenanceOf(store, path);
  return found !== undefined && isSameContent(found.now, now) ? found.former : [];
}

export async function putProvenance(
  store: UnderFileSystem,
  path: string,
  of: Provenance,
  going: Going,
): Promise<void> {
  const value = { former: of.former.slice(-maxFormer), now: of.now };
  const content = Buffer.from(JSON.stringify(value));
  await putMark(store, markPath(provenancePrefix, path), content, going);
}

export async function dropProvenance(
  store: UnderFileSystem,
  path: string,
  going: Going,
): Promise<void> {
  await store.delete(markPath(provenancePrefix, path), { of: "file", ...going });
}

async function provenanceOf(store: UnderFileSystem, path: string): Promise<Provenance | undefined> {
  const parts: Uint8Array[] = [];
  try {
    const range = { offset: 0, length: maxMarkBytes };
    for await (const part of store.read(markPath(provenancePrefix, path), range)) parts.push(part);
    const value = JSON.parse(Buffer.concat(parts).toString()) as Partial<Provenance>;
    const { former, now } = value;
    return Array.isArray(former) && typeof now === "string" ? { former, now } : undefined;
  } catch (thrown) {
    if (hasCode(thrown, "NotFound", "NotDirectory") || thrown instanceof SyntaxError) return;
    throw thrown;
  }
}

async function putMark(
  store: UnderFileSystem,
  path: string,
  content: Buffer,
  going: Going,
): Promise<void> {
  async function* source(): AsyncIterable<Uint8Array> {
    yield await Promise.resolve(content);
  }
  await store.write(path, source(), { size: content.length, ...going });
}
