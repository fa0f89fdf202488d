/**
 * Paths at the edge: people type and read UTF-8, the namespace holds bytes as latin1 strings (one character per byte).
 * Only the CLI's commands call these.
 */
import { WeirError } from "../lib/errors.ts";

/**
 * A path as the namespace knows it: absolute, without empty, `.` or `..` parts.
 * @throws WeirError `InvalidArgument` for a relative path or one with `..`
 */
export function parsePath(text: string): string {
  if (!text.startsWith("/")) {
    throw new WeirError(
      "InvalidArgument",
      `Cannot use the path "${text}": wanted an absolute path, such as "/${text}"`,
    );
  }
  const parts = text.split("/").filter((part) => part !== "" && part !== ".");
  if (parts.includes("..")) {
    throw new WeirError("InvalidArgument", `Cannot use the path "${text}": it contains ".."`);
  }
  return Buffer.from(`/${parts.join("/")}`, "utf8").toString("latin1");
}

const strictUtf8 = new TextDecoder("utf-8", { fatal: true });

/** A name or path for people; bytes that are no UTF-8 are shown as `\xNN`. */
export function showPath(path: string): string {
  const bytes = Buffer.from(path, "latin1");
  try {
    return strictUtf8.decode(bytes);
  } catch {
    return [...bytes]
      .map((byte) =>
        byte >= 0x20 && byte < 0x7f
          ? String.fromCharCode(byte)
          : `\\x${byte.toString(16).padStart(2, "0")}`,
      )
      .join("");
  }
}

/** `directory/name` without a doubled slash. */
export function joinPath(directory: string, name: string): string {
  return directory === "/" ? `/${name}` : `${directory}/${name}`;
}

/** The last part of a path; "" for the root. */
export function lastPart(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}

/** An error's message for people: the paths in it are those of the namespace. */
export function showMessage(message: string): string {
  for (let i = 0; i < message.length; i++) {
    // Characters beyond a byte: the message is text already.
    if (message.charCodeAt(i) > 0xff) return message;
  }
  try {
    return strictUtf8.decode(Buffer.from(message, "latin1"));
  } catch {
    return message;
  }
}
