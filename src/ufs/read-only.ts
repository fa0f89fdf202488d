/** A read-only view of a store: what would change it is refused before it is tried. */
import { WeirError } from "../lib/errors.ts";
import { shown } from "./paths.ts";
import type { UnderFileSystem } from "./types.ts";

export function readOnlyView(store: UnderFileSystem): UnderFileSystem {
  const refuse = (verb: string) => (path: string) =>
    Promise.reject(
      new WeirError(
        "ReadOnly",
        `Cannot ${verb} ${shown(path)} in ${store.uri}: the mount is read-only`,
      ),
    );
  return {
    uri: store.uri,
    readOnly: true,
    list: (path, options) => store.list(path, options),
    stat: (path) => store.stat(path),
    read: (path, options) => store.read(path, options),
    write: refuse("write"),
    forgetReplaced: refuse("change"),
    delete: refuse("delete"),
    rename: refuse("rename"),
    mkdir: refuse("make directory"),
    symlink: refuse("make symbolic link"),
    setAttributes: refuse("change attributes of"),
    close: () => store.close(),
  };
}
