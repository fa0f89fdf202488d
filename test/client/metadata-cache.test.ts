import assert from "node:assert/strict";
import { MetadataCache } from "../../src/client/metadata-cache.ts";
import type { Clock } from "../../src/lib/clock.ts";
import type { InodeId } from "../../src/lib/ids.ts";
import type { FileStatus } from "../../src/rpc/namespace.ts";

const inode = 7 as InodeId;
const root = 1 as InodeId;
const status = (size: number) => ({ inode, size, version: size }) as FileStatus;

function set(): { cache: MetadataCache; pass: (ms: number) => void } {
  let nowMs = 0;
  const clock: Clock = {
    monotonicMs: () => nowMs,
    wallMs: () => nowMs,
    after: () => () => undefined,
  };
  const pass = (ms: number) => {
    nowMs += ms;
  };
  return { cache: new MetadataCache(clock, 10), pass };
}

describe("the metadata cache", () => {
  it("keeps entries a second without the feed, and no absences", () => {
    const { cache, pass } = set();
    cache.putStatus(status(1), 5);
    cache.putAbsence(root, "a", cache.mark());
    assert.equal(cache.status(inode)?.size, 1);
    assert.equal(cache.name(root, "a"), undefined);
    pass(1001);
    assert.equal(cache.status(inode), undefined);
  });

  it("forgets what a change invalidates, and knows nothing after a gap or the loss of the feed", () => {
    const { cache, pass } = set();
    cache.onLive(true, 4);
    cache.putStatus(status(1), 5);
    cache.putName(root, "a", inode, 5);
    cache.putAbsence(root, "b", cache.mark());
    pass(2000);
    cache.onConfirmed(1500);
    assert.equal(cache.status(inode)?.size, 1);
    assert.equal(cache.name(root, "b"), "absent");
    cache.invalidateName(root, "b", 6);
    cache.invalidateStatus(inode, 6);
    assert.equal(cache.status(inode), undefined);
    assert.equal(cache.name(root, "b"), undefined);
    assert.equal(cache.name(root, "a"), inode);
    cache.onGap(7);
    assert.equal(cache.name(root, "a"), undefined);
    cache.putName(root, "a", inode, 7);
    cache.onLive(false, 7);
    assert.equal(cache.name(root, "a"), undefined);
  });

  it("answers what was read or confirmed within a second, and again once the feed is confirmed", () => {
    const { cache, pass } = set();
    cache.onLive(true, 4);
    cache.onConfirmed(0);
    cache.putStatus(status(1), 5);
    cache.putName(root, "a", inode, 5);
    cache.putAbsence(root, "b", cache.mark());
    const known = () => [cache.status(inode)?.size, cache.name(root, "a"), cache.name(root, "b")];
    pass(999);
    assert.deepEqual(known(), [1, inode, "absent"]);
    pass(1);
    assert.deepEqual(known(), [undefined, undefined, undefined]);
    cache.onConfirmed(300);
    assert.deepEqual(known(), [1, inode, "absent"]);
    pass(299);
    assert.deepEqual(known(), [1, inode, "absent"]);
    pass(1);
    assert.deepEqual(known(), [undefined, undefined, undefined]);
    cache.putStatus(status(2), 6);
    cache.putAbsence(root, "b", cache.mark());
    assert.deepEqual(known(), [2, undefined, undefined], "what is read anew is good for a second");
    pass(1000);
    assert.deepEqual(known(), [undefined, undefined, undefined]);
  });

  it("refuses an answer that is older than a change it has heard of", () => {
    const { cache } = set();
    cache.onLive(true, 0);
    const mark = cache.mark();
    cache.invalidateStatus(inode, 9);
    cache.invalidateName(root, "a", 9);
    cache.putStatus(status(1), 8);
    cache.putAbsence(root, "a", mark);
    assert.equal(cache.status(inode), undefined);
    assert.equal(cache.name(root, "a"), undefined);
    cache.putStatus(status(2), 9);
    assert.equal(cache.status(inode)?.size, 2);
    for (let i = 100; i < 120; i++) cache.invalidateStatus(i as InodeId, i);
    cache.putStatus({ ...status(1), inode: 8 as InodeId }, 50);
    assert.equal(cache.status(8 as InodeId), undefined, "also of changes that it has forgotten");
  });

  it("spares a read that reflects the change, but not a result of the same entry", () => {
    const { cache } = set();
    cache.onLive(true, 0);
    cache.putStatus(status(1), 9);
    cache.invalidateStatus(inode, 9);
    assert.equal(cache.status(inode)?.size, 1);
    cache.putResult(status(2), 10);
    assert.equal(cache.status(inode)?.size, 2);
    cache.invalidateStatus(inode, 10);
    assert.equal(cache.status(inode), undefined);
  });

  it("A11: is bounded", () => {
    const { cache } = set();
    for (let i = 0; i < 100; i++) cache.putStatus({ ...status(1), inode: i as InodeId }, 1);
    const held = Array.from({ length: 100 }, (_, i) => cache.status(i as InodeId)).filter(Boolean);
    assert.equal(held.length, 10);
  });
});
