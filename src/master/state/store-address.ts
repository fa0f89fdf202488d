/**
 * The shape that the address of a store must have to be worth a place in the mount table. What each kind of store wants
 * of it beyond that is known to the workers, which open it.
 */

const maxLength = 4096;

/** What is wrong with the address, with what would be right; undefined when nothing is. */
export function flawOfStore(uri: string): string | undefined {
  const wanted = "wanted file:///DIRECTORY or s3://BUCKET/PREFIX";
  if (uri.length > maxLength) {
    return `the address has ${uri.length} characters, wanted at most ${maxLength}`;
  }
  const parts = /^([a-z][a-z0-9+.-]*):\/\/([^/]*)(.*)$/s.exec(uri);
  if (parts === null) return `it is no address of a store, ${wanted}`;
  const [, scheme, authority, path] = parts as unknown as [string, string, string, string];
  if (uri.includes("\0")) return `the address has a NUL byte, ${wanted}`;
  if (scheme === "file") {
    if (authority !== "") return "the path is relative or names a host, wanted file:///DIRECTORY";
    return path === "" ? "it names no directory, wanted file:///DIRECTORY" : undefined;
  }
  if (scheme === "s3") {
    if (authority.includes("@")) {
      return "it has credentials in it, wanted them as the options accessKey and secretKey";
    }
    return authority === "" ? "it names no bucket, wanted s3://BUCKET/PREFIX" : undefined;
  }
  return `no store is known for the scheme "${scheme}", ${wanted}`;
}

/**
 * Where a store is, so that of two stores one is inside of the other if its place begins with the other's. Different
 * names of one place are beyond it: symbolic links, two names of one host.
 */
export function placeOfStore(uri: string, options: Readonly<Record<string, string>>): string {
  const parts = /^([a-z][a-z0-9+.-]*):\/\/([^/]*)(.*)$/s.exec(uri);
  if (parts === null) return uri;
  const [, scheme, authority, path] = parts as unknown as [string, string, string, string];
  if (scheme === "file") return `file:/${namesOf(unescaped(path))}`;
  const endpoint = (options["endpoint"] ?? "").toLowerCase().replace(/\/$/, "");
  return `${scheme}:${endpoint}|${authority}/${namesOf(path)}`;
}

/** Whether the first of two places is the second, or inside of it. */
export function isInside(place: string, other: string): boolean {
  return place.startsWith(other);
}

/** The names of a path, each with a "/" behind it; "." and ".." are followed. */
function namesOf(path: string): string {
  const names: string[] = [];
  for (const name of path.split("/")) {
    if (name === "..") names.pop();
    else if (name !== "" && name !== ".") names.push(`${name}/`);
  }
  return names.join("");
}

/** With escapes of bytes as the characters that they make in an address written without them, where they make any. */
function unescaped(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch {
    return path;
  }
}
