/**
 * The secret that masters and workers of a cluster share, and nobody else has: by it a worker is told from who only speaks
 * as one. It is kept as a key object, which shows nothing of itself in logs and errors.
 */
import { createSecretKey, type KeyObject } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { toWeirError, WeirError } from "./errors.ts";

export type ClusterSecret = KeyObject;

const leastBytes = 32;
/** Longer ones are some other file. */
const mostBytes = 4096;

/**
 * The secret in a file: its text without white space around it.
 * @throws WeirError `ConfigInvalid` when it cannot be read, others than its owner may read it, or it is too short or long
 */
export function readClusterSecret(path: string): ClusterSecret {
  const doing = `Cannot use "security.secretFile" "${path}"`;
  let text: string;
  let mode: number;
  try {
    mode = statSync(path).mode & 0o777;
    text = readFileSync(path, "utf8").trim();
  } catch (cause) {
    const { message } = toWeirError(cause, "Cannot read it");
    throw new WeirError("ConfigInvalid", `${doing}: ${message}`, { cause });
  }
  if ((mode & 0o077) !== 0) {
    const is = mode.toString(8).padStart(4, "0");
    throw new WeirError(
      "ConfigInvalid",
      `${doing}: its mode is ${is}, wanted 0600: masters and workers alone may read it. Cure: chmod 600 "${path}"`,
    );
  }
  const bytes = Buffer.from(text);
  if (bytes.length < leastBytes || bytes.length > mostBytes) {
    throw new WeirError(
      "ConfigInvalid",
      `${doing}: it has ${bytes.length} bytes of text, wanted ${leastBytes} to ${mostBytes}`,
    );
  }
  return createSecretKey(bytes);
}
