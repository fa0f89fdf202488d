/** A layout that is put together from several answers, while the file may become another. */
import assert from "node:assert/strict";
import { inPages } from "../../src/client/layouts.ts";
import type { FileLayout, Segment } from "../../src/rpc/namespace.ts";

/** Answers like a master that tells of `most` bytes, each a hole of its own. */
function answering(versionOf: (asked: number) => number) {
  const asked: { offset: number; length: number; most: number | undefined }[] = [];
  const ask = async (page: (typeof asked)[number]): Promise<FileLayout> => {
    asked.push(page);
    const { offset, length } = page;
    const told = page.most === undefined ? length : Math.min(length, 10);
    const segments = Array.from({ length: told }, (_, i): Segment => {
      return { fileOffset: offset + i, length: 1, block: undefined, locations: [] };
    });
    const status = { version: versionOf(asked.length) } as FileLayout["status"];
    const end = told < length ? offset + told : undefined;
    return { status, blockSizeBytes: 100, segments, ufs: undefined, end };
  };
  return { ask, asked };
}

const wanted = Array.from({ length: 35 }, (_, i) => 5 + i);
const range = { offset: 5, length: 35 };
const offsetsOf = ({ segments }: FileLayout) => segments.map(({ fileOffset }) => fileOffset);

describe("A layout in pages", () => {
  it("goes on where the answer ended, up to what was asked for", async () => {
    const { ask, asked } = answering(() => 1);
    const layout = await inPages(range, ask);
    assert.deepEqual(offsetsOf(layout), wanted);
    assert.equal(layout.end, undefined);
    assert.equal(asked.length, 4);
  });

  it("is of one version: it begins anew when another one comes", async () => {
    const { ask, asked } = answering((n) => (n < 3 ? 1 : 2));
    const layout = await inPages(range, ask);
    assert.deepEqual(offsetsOf(layout), wanted);
    assert.equal(layout.status.version, 2);
    assert.equal(asked.length, 3 + 4);
  });

  it("is asked for as a whole when others come again and again", async () => {
    const { ask, asked } = answering((n) => n);
    const layout = await inPages(range, ask);
    assert.deepEqual(offsetsOf(layout), wanted);
    assert.deepEqual(asked.at(-1), { ...range, most: undefined });
  });
});
