import assert from "node:assert/strict";
import type { InodeId } from "../../../src/lib/ids.ts";
import { ChangeFeed, type FeedItem } from "../../../src/master/services/change-feed.ts";

const change = (index: number) => ({ index, inodes: [index as InodeId], names: [] });

function publish(feed: ChangeFeed, { index, ...lists }: ReturnType<typeof change>): void {
  feed.publish(index, { size: 1, ...lists });
}

/** More than others have room for beside it. */
const size = 4096;

/** The next `count` items of a subscription. */
async function take(feed: ChangeFeed, after: number, count: number): Promise<FeedItem[]> {
  const controller = new AbortController();
  const items: FeedItem[] = [];
  for await (const item of feed.subscribe(after, controller.signal)) {
    items.push(item);
    if (items.length === count) controller.abort();
  }
  return items;
}

describe("ChangeFeed", () => {
  it("gives every change after an index, in order", async () => {
    const feed = new ChangeFeed(10);
    for (let index = 11; index <= 40; index++) feed.publish(index, { ...change(index), size });
    const items = await take(feed, 20, 20);
    assert.deepEqual(
      items,
      Array.from({ length: 20 }, (_, i) => ({ kind: "change", ...change(21 + i) })),
    );
  });

  it("gives in one item what has come since the last one, up to a size", async () => {
    const feed = new ChangeFeed(10);
    for (let index = 11; index <= 40; index++) publish(feed, change(index));
    feed.publish(41, { ...change(41), names: [[1 as InodeId, "a"]], size: size - 30 });
    feed.publish(42, { ...change(42), size: 1 });
    feed.publish(43, { ...change(43), size: 2 * size });
    publish(feed, change(44));
    const inodes = (from: number, to: number) =>
      Array.from({ length: to - from + 1 }, (_, i) => (from + i) as InodeId);
    assert.deepEqual(await take(feed, 10, 4), [
      { kind: "change", index: 41, inodes: inodes(11, 41), names: [[1, "a"]] },
      { kind: "change", index: 42, inodes: inodes(42, 42), names: [] },
      { kind: "change", index: 43, inodes: inodes(43, 43), names: [] },
      { kind: "change", index: 44, inodes: inodes(44, 44), names: [] },
    ]);
  });

  it("knows up to where it tells: not of entries without changes", async () => {
    const feed = new ChangeFeed(10);
    assert.equal(feed.lastTold, 10);
    publish(feed, change(11));
    feed.publish(12, { size: 0, inodes: [], names: [] });
    assert.equal(feed.lastTold, 11);
    assert.equal((await take(feed, 10, 1))[0]!.index, 11);
    feed.reset(20);
    assert.equal(feed.lastTold, 20);
    assert((await take(feed, 11, 1))[0]!.index >= 20);
  });

  it("starts with what comes next when no index is named", async () => {
    const feed = new ChangeFeed(10);
    publish(feed, change(11));
    const items = take(feed, 0, 1);
    publish(feed, change(12));
    assert.deepEqual(
      (await items).map(({ index }) => index),
      [12],
    );
  });

  it("wakes subscribers that wait", async () => {
    const feed = new ChangeFeed(0);
    const first = take(feed, 5, 2);
    await Promise.resolve();
    publish(feed, change(6));
    await new Promise((resolve) => setImmediate(resolve));
    publish(feed, change(7));
    assert.deepEqual(
      (await first).map(({ index }) => index),
      [6, 7],
    );
  });

  it("says that there is a gap to whoever is too far behind, then goes on", async () => {
    const feed = new ChangeFeed(0);
    for (let index = 1; index <= 10_000; index++) publish(feed, change(index));
    const [gap] = await take(feed, 5, 1);
    assert.deepEqual(gap, { kind: "gap", index: 10_000 });
    assert.deepEqual(
      (await take(feed, 10_000 - 8192, 2)).map(({ kind, index }) => [kind, index]),
      [
        ["change", 10_000 - 4096],
        ["change", 10_000],
      ],
    );
  });

  it("keeps fewer entries where each changes much", async () => {
    const feed = new ChangeFeed(0);
    const large = { size: 100_000 };
    for (let index = 1; index <= 5; index++) feed.publish(index, { ...change(index), ...large });
    assert.deepEqual((await take(feed, 2, 1))[0], { kind: "gap", index: 5 });
    assert.deepEqual(
      (await take(feed, 3, 2)).map(({ kind, index }) => [kind, index]),
      [
        ["change", 4],
        ["change", 5],
      ],
    );
    feed.publish(6, { ...change(6), size: 1_000_000 });
    assert.deepEqual((await take(feed, 5, 1))[0], { kind: "change", ...change(6) });
  });

  it("knows nothing of the time before it was started or reset", async () => {
    const feed = new ChangeFeed(10);
    assert.deepEqual((await take(feed, 3, 1))[0], { kind: "gap", index: 10 });
    publish(feed, change(11));
    feed.reset(50);
    assert.deepEqual((await take(feed, 11, 1))[0], { kind: "gap", index: 50 });
  });

  it("remembers entries without changes as seen", async () => {
    const feed = new ChangeFeed(1);
    feed.publish(2, { size: 0, inodes: [], names: [] });
    const items = take(feed, 0, 1);
    publish(feed, change(3));
    assert.equal((await items)[0]!.index, 3);
  });
});
