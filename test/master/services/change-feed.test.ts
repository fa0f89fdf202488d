import assert from "node:assert/strict";
import type { InodeId } from "../../../src/lib/ids.ts";
import { ChangeFeed, type FeedItem } from "../../../src/master/services/change-feed.ts";

const change = (index: number) => ({ index, inodes: [index as InodeId], names: [] });

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
    for (let index = 11; index <= 40; index++) feed.publish(change(index));
    const items = await take(feed, 20, 20);
    assert.deepEqual(
      items.map((item) => [item.kind, item.index]),
      Array.from({ length: 20 }, (_, i) => ["change", 21 + i]),
    );
  });

  it("starts with what comes next when no index is named", async () => {
    const feed = new ChangeFeed(10);
    feed.publish(change(11));
    const items = take(feed, 0, 1);
    feed.publish(change(12));
    assert.deepEqual(
      (await items).map(({ index }) => index),
      [12],
    );
  });

  it("wakes subscribers that wait", async () => {
    const feed = new ChangeFeed(0);
    const first = take(feed, 5, 2);
    await Promise.resolve();
    feed.publish(change(6));
    feed.publish(change(7));
    assert.deepEqual(
      (await first).map(({ index }) => index),
      [6, 7],
    );
  });

  it("says that there is a gap to whoever is too far behind, then goes on", async () => {
    const feed = new ChangeFeed(0);
    for (let index = 1; index <= 10_000; index++) feed.publish(change(index));
    const [gap] = await take(feed, 5, 1);
    assert.deepEqual(gap, { kind: "gap", index: 10_000 });
    assert.deepEqual(
      (await take(feed, 10_000 - 8192, 2)).map(({ kind, index }) => [kind, index]),
      [
        ["change", 10_000 - 8191],
        ["change", 10_000 - 8190],
      ],
    );
  });

  it("knows nothing of the time before it was started or reset", async () => {
    const feed = new ChangeFeed(10);
    assert.deepEqual((await take(feed, 3, 1))[0], { kind: "gap", index: 10 });
    feed.publish(change(11));
    feed.reset(50);
    assert.deepEqual((await take(feed, 11, 1))[0], { kind: "gap", index: 50 });
  });

  it("remembers entries without changes as seen", async () => {
    const feed = new ChangeFeed(1);
    feed.publish({ index: 2, inodes: [], names: [] });
    const items = take(feed, 0, 1);
    feed.publish(change(3));
    assert.equal((await items)[0]!.index, 3);
  });
});
