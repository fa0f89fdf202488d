import assert from "node:assert/strict";
import { type AnswerTime, MetadataCache } from "../../src/client/metadata-cache.ts";
import type { Clock } from "../../src/lib/clock.ts";
import type { InodeId } from "../../src/lib/ids.ts";
import type { FileStatus } from "../../src/rpc/namespace.ts";

const inode = 7 as InodeId;
const root = 1 as InodeId;
const status = (size: number) => ({ inode, size, version: size }) as FileStatus;

interface Set {
  readonly cache: MetadataCache;
  readonly pass: (ms: number) => void;
  /** An answer at a log index to a question of this moment. */
  readonly at: (index: number) => AnswerTime;
}

function set(): Set {
  let nowMs = 0;
  const clock: Clock = {
    monotonicMs: () => nowMs,
    wallMs: () => nowMs,
    after: () => () => undefined,
  };
  const pass = (ms: number) => {
    nowMs += ms;
  };
  const at = (index: number) => ({ index, askedMs: nowMs });
  return { cache: new MetadataCache(clock, 10), pass, at };
}

describe("the metadata cache", () => {
  it("keeps entries a second without the feed, and no absences", () => {
    const { cache, pass, at } = set();
    cache.putStatus(status(1), at(5));
    cache.putAbsence(root, "a", cache.mark());
    assert.equal(cache.status(inode)?.size, 1);
    assert.equal(cache.name(root, "a"), undefined);
    pass(1001);
    assert.equal(cache.status(inode), undefined);
  });

  it("forgets what a change invalidates, and knows nothing after a gap or the loss of the feed", () => {
    const { cache, pass, at } = set();
    cache.onLive(true, 4);
    cache.putStatus(status(1), at(5));
    cache.putName(root, "a", inode, at(5));
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
    cache.putName(root, "a", inode, at(7));
    cache.onLive(false, 7);
    assert.equal(cache.name(root, "a"), undefined);
  });

  it("answers what was read or confirmed within a second, and again once the feed is confirmed", () => {
    const { cache, pass, at } = set();
    cache.onLive(true, 4);
    cache.onConfirmed(0);
    cache.putStatus(status(1), at(5));
    cache.putName(root, "a", inode, at(5));
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
    cache.putStatus(status(2), at(6));
    cache.putAbsence(root, "b", cache.mark());
    assert.deepEqual(known(), [2, undefined, undefined], "what is read anew is good for a second");
    pass(1000);
    assert.deepEqual(known(), [undefined, undefined, undefined]);
  });

  it("refuses an answer that is older than a change it has heard of", () => {
    const { cache, at } = set();
    cache.onLive(true, 0);
    const mark = cache.mark();
    cache.invalidateStatus(inode, 9);
    cache.invalidateName(root, "a", 9);
    cache.putStatus(status(1), at(8));
    cache.putAbsence(root, "a", mark);
    assert.equal(cache.status(inode), undefined);
    assert.equal(cache.name(root, "a"), undefined);
    cache.putStatus(status(2), at(9));
    assert.equal(cache.status(inode)?.size, 2);
    for (let i = 100; i < 120; i++) cache.invalidateStatus(i as InodeId, i);
    cache.putStatus({ ...status(1), inode: 8 as InodeId }, at(50));
    assert.equal(cache.status(8 as InodeId), undefined, "also of changes that it has forgotten");
  });

  it("spares a read that reflects the change, but not a result of the same entry", () => {
    const { cache, at } = set();
    cache.onLive(true, 0);
    cache.putStatus(status(1), at(9));
    cache.invalidateStatus(inode, 9);
    assert.equal(cache.status(inode)?.size, 1);
    cache.putResult(status(2), at(10));
    assert.equal(cache.status(inode)?.size, 2);
    cache.invalidateStatus(inode, 10);
    assert.equal(cache.status(inode), undefined);
  });

  it("takes the feed's word on the entry of a result, or one after it, also when it comes before the result", () => {
    for (const heard of [7, 8]) {
      const { cache, at } = set();
      cache.onLive(true, 5);
      cache.onChange({ index: heard, inodes: [inode], names: [[root, "a"]] });
      cache.putResult(status(1), at(7));
      cache.putNameResult(root, "a", inode, at(7));
      assert.equal(cache.status(inode), undefined);
      assert.equal(cache.name(root, "a"), undefined);
      cache.putResult(status(2), at(9));
      cache.putNameResult(root, "a", inode, at(9));
      assert.equal(cache.status(inode)?.size, 2, "nothing is known against a later one");
      assert.equal(cache.name(root, "a"), inode);
    }
  });

  it("takes a gap's word on results too", () => {
    const { cache, at } = set();
    cache.onLive(true, 5);
    cache.onGap(8);
    cache.putResult(status(1), at(7));
    cache.putNameResult(root, "a", inode, at(8));
    assert.equal(cache.status(inode), undefined);
    assert.equal(cache.name(root, "a"), undefined);
  });

  it("counts the age of an answer from its question", () => {
    const { cache, pass, at } = set();
    const [asked, mark] = [at(5), cache.mark()];
    const keep = () => {
      cache.putName(root, "a", inode, asked);
      cache.putStatus(status(1), asked);
      cache.putNameResult(root, "b", inode, asked);
      cache.putResult({ ...status(1), inode: 8 as InodeId }, asked);
      const names = [cache.name(root, "a"), cache.name(root, "b")];
      return [...names, cache.status(inode)?.size, cache.status(8 as InodeId)?.size];
    };
    pass(999);
    assert.deepEqual(keep(), [inode, inode, 1, 1]);
    pass(1);
    assert.deepEqual(keep(), [undefined, undefined, undefined, undefined]);
    cache.onLive(true, 4);
    pass(9000);
    cache.onConfirmed(10_000);
    cache.putAbsence(root, "c", { ...cache.mark(), askedMs: mark.askedMs });
    assert.equal(cache.name(root, "c"), undefined, "absences as well");
  });

  it("A11: is bounded", () => {
    const { cache, at } = set();
    for (let i = 0; i < 100; i++) cache.putStatus({ ...status(1), inode: i as InodeId }, at(1));
    const held = Array.from({ length: 100 }, (_, i) => cache.status(i as InodeId)).filter(Boolean);
    assert.equal(held.length, 10);
  });
});
