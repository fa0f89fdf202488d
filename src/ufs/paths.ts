/**
 * Paths below the root of a mount: latin1 strings (one character per byte) without a leading slash, "" for the root.
 *
 * Invariant: a path that passed `componentsOf` has no empty component, no "." and no "..", so that joining it to a root
 * never leads above the root.
 */
import { createHash } from "node:crypto";
import { WeirError } from "../lib/errors.ts";
import {
  isExchangePath,
  isUnlinkedPath,
  temporaryPrefix,
  unlinkedDirectory,
} from "../lib/store-names.ts";

/** Names of what a write replaced, as long as it may be needed again. */
export const replacedPrefix = `${temporaryPrefix}old-`;

/** Where the replaced object of a name is kept: of equal length for all, since names may be as long as names can be. */
export function replacedName(name: string): string {
  const digest = createHash("sha256").update(name, "latin1").digest("hex").slice(0, 32);
  return `${replacedPrefix}${digest}`;
}

/**
 * The names of a path, [] for the root.
 * @throws WeirError `InvalidArgument` for an absolute path, an empty component, ".", "..", NUL, or a reserved name
 */
export function componentsOf(path: string, doing: string): readonly string[] {
  if (path === "") return [];
  const names = path.split("/");
  for (const name of names) {
    if (name === "" || name === "." || name === ".." || name.includes("\0")) {
      throw new WeirError(
        "InvalidArgument",
        `${doing}: a component is ${JSON.stringify(name)}, wanted names that lead down from the root of the mount`,
      );
    }
    if (name.startsWith(temporaryPrefix) && !isExchangePath(name)) {
      throw new WeirError(
        "InvalidArgument",
        `${doing}: names that begin with "${temporaryPrefix}" are reserved for writes in progress`,
      );
    }
  }
  return names;
}

/** As `componentsOf`, and where the objects of unlinked files lie: no name of the namespace leads there. */
export function placesOf(path: string, doing: string): readonly string[] {
  if (path === unlinkedDirectory || isUnlinkedPath(path)) return path.split("/");
  return componentsOf(path, doing);
}

/**
 * Refuses to make something where objects lie that change places (`exchangePath`): listings would hide it.
 * @throws WeirError `InvalidArgument`
 */
export function needLasting(path: string, doing: string): void {
  if (!isExchangePath(path)) return;
  throw new WeirError("InvalidArgument", `${doing}: the name is for objects that change places`);
}

/** The path of the directory that holds `path`, and the last name. `path` is not the root. */
export function splitPath(path: string): { parent: string; name: string } {
  const slash = path.lastIndexOf("/");
  return { parent: slash < 0 ? "" : path.slice(0, slash), name: path.slice(slash + 1) };
}

/** A path for people: bytes as UTF-8 where they are UTF-8. */
export function shown(path: string): string {
  return JSON.stringify(Buffer.from(path, "latin1").toString("utf8"));
}

/** A length check of what a writer was given. */
export function assertLength(given: number, wanted: number, doing: string): void {
  if (given !== wanted) {
    throw new WeirError(
      "InvalidArgument",
      `${doing}: the source gave ${given > wanted ? "more than " : ""}${Math.min(given, wanted)} bytes, wanted ${wanted}`,
    );
  }
}
