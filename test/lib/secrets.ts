/** Files with secrets of clusters. */
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";

/** Writes a new secret that a cluster may use; resolves with its text. */
export async function writeSecret(path: string): Promise<string> {
  const text = randomBytes(32).toString("hex");
  await writeFile(path, `${text}\n`, { mode: 0o600 });
  return text;
}
