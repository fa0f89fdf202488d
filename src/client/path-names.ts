/** Paths of the namespace: absolute, latin1 in the heap (one character per byte), UTF-8 outside. Pure. */
import { WeirError } from "../lib/errors.ts";
import type { InodeId } from "../lib/ids.ts";

/** A name in a directory. */
export interface PathPlace {
  readonly parent: InodeId;
  readonly name: string;
}

const longestName = 255;

/**
 * The names of an absolute path; none for "/". Repeated slashes count once.
 * @throws WeirError `InvalidArgument` for a path that is not absolute or has "." or ".." in it; `NameTooLong`
 */
export function splitPath(path: string): string[] {
  if (!path.startsWith("/")) {
    throw new WeirError(
      "InvalidArgument",
      `Cannot use "${path}" as a path: wanted a leading slash`,
    );
  }
  const names = path.split("/").filter((name) => name !== "");
  for (const name of names) {
    if (name === "." || name === ".." || name.includes("\0")) {
      throw new WeirError(
        "InvalidArgument",
        `Cannot use "${path}" as a path: "${name}" is no name`,
      );
    }
    if (name.length > longestName) {
      throw new WeirError(
        "NameTooLong",
        `Cannot use "${path}" as a path: a name has ${String(name.length)} bytes, wanted at most ${String(longestName)}`,
      );
    }
  }
  return names;
}

/** Text as people write it → the string of its UTF-8 bytes. */
export function fromText(text: string): string {
  return Buffer.from(text, "utf8").toString("latin1");
}

/** The string of bytes → text for people; bytes that are no UTF-8 become U+FFFD. */
export function toText(name: string): string {
  return Buffer.from(name, "latin1").toString("utf8");
}
