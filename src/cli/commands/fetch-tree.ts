/** Has workers read what none of them has: the misses of a read fill their tiers, and this client drops the bytes. */
import type { WeirClient } from "../../client/client.ts";
import { attempt } from "../attempt.ts";
import { showPath } from "../paths.ts";
import { eachOf } from "./each-of.ts";
import type { Transferred } from "./transfer.ts";

/** A file, or all files below a directory; counts what had to be read. */
export async function fetchTree(client: WeirClient, path: string): Promise<Transferred> {
  const total = { files: 0, bytes: 0 };
  await eachOf(
    client.walk(path),
    async ({ path: at, status }) => {
      if (status.kind !== "file" || status.size === 0) return;
      await attempt({ verb: "fetch", subjects: [showPath(at)] }, async () => {
        const bytes = await fetchFile(client, at);
        total.bytes += bytes;
        if (bytes > 0) total.files++;
      });
    },
    () => Promise.resolve(),
  );
  return total;
}

async function fetchFile(client: WeirClient, path: string): Promise<number> {
  const { segments } = await client.locations(path);
  let bytes = 0;
  for (const { fileOffset, length, block, locations } of segments) {
    // Holes are nowhere, and what a worker has need not be moved.
    if (block === undefined || locations.length > 0) continue;
    for await (const chunk of client.readFile(path, { offset: fileOffset, length })) {
      bytes += chunk.length;
    }
  }
  return bytes;
}
