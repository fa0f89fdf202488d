/**
 * Readable traces of the consensus core, as golden files: `transcripts/*.txt`, in the language of `transcripts/lib/script.ts`.
 * With UPDATE_TRANSCRIPTS=1 they are written anew; what changed is to be read as a diff, like code.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { replay } from "./transcripts/lib/script.ts";

const directory = join(import.meta.dirname, "transcripts");

describe("raft transcripts", () => {
  for (const name of readdirSync(directory).filter((each) => each.endsWith(".txt"))) {
    it(titleOf(name), () => {
      const path = join(directory, name);
      const recorded = readFileSync(path, "utf8");
      const replayed = replay(recorded);
      if (process.env["UPDATE_TRANSCRIPTS"] === "1") writeFileSync(path, replayed);
      else assert.equal(replayed, recorded, "UPDATE_TRANSCRIPTS=1 writes it anew");
    });
  }
});

/** What the first line of a transcript claims. */
function titleOf(name: string): string {
  const [first = ""] = readFileSync(join(directory, name), "utf8").split("\n");
  return first.replace(/^# */, "");
}
