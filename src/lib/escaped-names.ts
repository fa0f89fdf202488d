/**
 * Names of the namespace that stand for keys of a bucket which are no paths; see ufs/s3-names.ts for what they say. A
 * store that is listed in the order of its keys gives them in another order than that of the names.
 */
export const escapePrefix = "%S3%";

export function isEscaped(name: string): boolean {
  return name.startsWith(escapePrefix);
}
