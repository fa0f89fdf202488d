/** Addresses of stores: `file:///dir` and `s3://bucket/prefix`. */
import { WeirError } from "../lib/errors.ts";

export type StoreAddress =
  | { readonly scheme: "file" /** Bytes of an absolute path. */; readonly directory: Buffer }
  | {
      readonly scheme: "s3";
      readonly bucket: string;
      /** Without slashes at its ends; "" is the whole bucket. */
      readonly prefix: string;
    };

/**
 * The parts of an address.
 * @throws WeirError `InvalidArgument`: unknown scheme, relative path, credentials in the address, bad bucket name
 */
export function parseStoreUri(uri: string): StoreAddress {
  const refuse = (why: string) =>
    new WeirError("InvalidArgument", `Cannot use "${hide(uri)}": ${why}`);
  const parts = /^([a-z][a-z0-9+.-]*):\/\/([^/]*)(.*)$/s.exec(uri);
  if (parts === null) {
    throw refuse("it is no address of a store, wanted file:///DIRECTORY or s3://BUCKET/PREFIX");
  }
  const [, scheme, authority, path] = parts as unknown as [string, string, string, string];
  if (uri.includes("\0")) throw refuse("it has a NUL byte");
  switch (scheme) {
    case "file":
      if (authority !== "") {
        throw refuse(
          `the path is relative or names the host "${authority}", wanted file:///DIRECTORY`,
        );
      }
      if (path === "") throw refuse("it names no directory, wanted file:///DIRECTORY");
      return { scheme, directory: unescape(path, refuse) };
    case "s3":
      if (authority.includes("@")) {
        throw refuse(
          "it has credentials in it, wanted them as the options accessKey and secretKey",
        );
      }
      if (!/^[a-zA-Z0-9][a-zA-Z0-9._-]{1,254}$/.test(authority)) {
        throw refuse(`"${authority}" is no name of a bucket`);
      }
      return { scheme, bucket: authority, prefix: prefixOf(path, refuse) };
    default:
      throw refuse(`no store is known for the scheme "${scheme}", wanted file or s3`);
  }
}

function prefixOf(path: string, refuse: (why: string) => WeirError): string {
  const prefix = path.replace(/^\/+|\/+$/g, "");
  if (prefix.split("/").some((name) => name === "." || name === "..")) {
    throw refuse('its prefix has a component "." or ".."');
  }
  if (prefix.includes("//")) throw refuse("its prefix has an empty component");
  return prefix;
}

/** Percent escapes as bytes, so that any directory can be named. */
function unescape(path: string, refuse: (why: string) => WeirError): Buffer {
  const pieces = path.split(/%([0-9a-fA-F]{2})/);
  const bytes = pieces.map((piece, index) => {
    if (index % 2 === 1) return Buffer.from(piece, "hex");
    if (piece.includes("%"))
      throw refuse('it has a "%" that is no escape, wanted %25 for the sign');
    return Buffer.from(piece, "utf8");
  });
  const whole = Buffer.concat(bytes);
  if (whole.includes(0)) throw refuse("it has a NUL byte");
  return whole;
}

/** The address without what may be credentials. */
function hide(uri: string): string {
  return uri.replace(/:\/\/[^/@]*@/, "://…@");
}
