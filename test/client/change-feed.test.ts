/** The change feed over links in the heap, on a clock that the test moves. */
import assert from "node:assert/strict";
import { ChangeFeed } from "../../src/client/change-feed.ts";
import { MetadataCache } from "../../src/client/metadata-cache.ts";
import type { InodeId } from "../../src/lib/ids.ts";
import { silentLogger } from "../../src/lib/logger.ts";
import type { RpcClient } from "../../src/rpc/client.ts";
import type { FileStatus } from "../../src/rpc/namespace.ts";
import { ManualClock, turn } from "../master/services/manual-clock.ts";

const inode = 7 as InodeId;
const status = (version: number) => ({ inode, size: version, version }) as FileStatus;
type Feeding = Pick<RpcClient, "address" | "call" | "stream">;

/** A master that feeds over a link which can fall silent: nothing is answered then, and nothing ends. */
class Master implements Feeding {
  readonly address: string;
  /** Nothing comes over the link. */
  isCut = false;
  /** What changes stays in the master: the client has not taken what went before. */
  isFull = false;
  /** Of an earlier version: does not say what its feed tells of. */
  isOld = false;
  /** It answers, but no majority confirms its reads. */
  isAlone = false;
  /** Where the feeds that it was asked for go on from. */
  readonly subscribed: number[] = [];
  asked = 0;
  appliedIndex = 10;
  feedIndex = 10;
  #items: object[] = [];
  #wake: () => void = () => undefined;

  constructor(address: string) {
    this.address = address;
  }

  /** A change that is committed now. */
  change(): void {
    this.feedIndex = ++this.appliedIndex;
    this.#items.push({ kind: "change", index: this.appliedIndex, inodes: [inode], names: [] });
    if (!this.isCut) this.#wake();
  }

  mend(): void {
    this.isCut = false;
    this.isFull = false;
    this.#wake();
  }

  call = ((_method: unknown, _request: unknown, { signal }: { signal: AbortSignal }) => {
    this.asked++;
    if (this.isAlone) return Promise.reject(new Error("no majority"));
    const { appliedIndex, feedIndex, isOld } = this;
    if (!this.isCut)
      return Promise.resolve({ appliedIndex, feedIndex: isOld ? undefined : feedIndex });
    return new Promise((_resolve, reject) => {
      signal.addEventListener("abort", () => reject(new Error("cancelled")));
    });
  }) as unknown as Feeding["call"];

  stream = async function* (
    this: Master,
    _method: unknown,
    { after }: { after: number },
    { signal }: { signal: AbortSignal },
  ) {
    this.subscribed.push(after);
    signal.addEventListener("abort", () => this.#wake());
    while (!signal.aborted) {
      while (!this.isCut && !this.isFull && this.#items.length > 0) yield this.#items.shift();
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    throw new Error("cancelled");
  } as unknown as Feeding["stream"];
}

describe("the change feed of a client", () => {
  let clock: ManualClock;
  let masters: Master[];
  let cache: MetadataCache;
  let feed: ChangeFeed;

  beforeEach(async () => {
    clock = new ManualClock();
    masters = [new Master("a"), new Master("b")];
    cache = new MetadataCache(clock);
    feed = new ChangeFeed({ masters, listener: cache, clock, logger: silentLogger });
    await turn();
  });
  afterEach(async () => {
    for (const master of masters) master.mend();
    await feed.close();
  });

  /** Lets time pass in steps that are short beside all timers. */
  async function pass(ms: number): Promise<void> {
    for (let passed = 0; passed < ms; passed += 50) {
      clock.advance(50);
      await turn();
    }
  }

  const at = (index: number) => ({ index, askedMs: clock.monotonicMs() });
  const put = () => cache.putStatus(status(1), at(masters[0]!.appliedIndex));

  it("vouches for what is cached as long as it is confirmed", async () => {
    put();
    for (let seconds = 0; seconds < 8; seconds++) {
      await pass(1000);
      assert.equal(cache.status(inode)?.version, 1, `after ${seconds} s`);
    }
    masters[0]!.change();
    await turn();
    assert.equal(cache.status(inode), undefined);
    assert.deepEqual(masters[0]!.subscribed, [10]);
  });

  it("serves nothing that is older than a second after a master stopped, whenever that is", async () => {
    for (const afterMs of [0, 50, 150, 250, 300, 350, 1000]) {
      await pass(3000);
      const [master] = masters.filter(({ isCut }) => !isCut);
      put();
      await pass(1500 + afterMs);
      assert.equal(cache.status(inode)?.version, 1);
      for (const each of masters) each.isCut = true;
      master!.change();
      const cutMs = clock.monotonicMs();
      while (cache.status(inode) !== undefined) await pass(50);
      assert(clock.monotonicMs() - cutMs <= 1000, `${clock.monotonicMs() - cutMs} ms`);
      // Not even when the process that asks was so slow that no timer of the feed has run.
      for (const each of masters) each.mend();
      await pass(3000);
    }
    put();
    await pass(1500);
    assert.equal(cache.status(inode)?.version, 1);
    clock.advance(1000);
    assert.equal(cache.status(inode), undefined);
  });

  it("serves nothing that is older than a second when the master is cut off from the others", async () => {
    put();
    await pass(2000);
    masters[0]!.isAlone = true;
    await pass(1000);
    assert.equal(cache.status(inode), undefined);
  });

  it("goes on with another master when one was silent for a second, from what that one has applied", async () => {
    await pass(500);
    masters[0]!.change();
    await turn();
    masters[0]!.isCut = true;
    masters[1]!.appliedIndex = 12;
    await pass(1300);
    assert.deepEqual(masters[1]!.subscribed, [12]);
    cache.putStatus(status(2), at(12));
    await pass(2000);
    assert.equal(cache.status(inode)?.version, 2);
    masters[1]!.change();
    await turn();
    assert.equal(cache.status(inode), undefined);
  });

  it("gets over a question that failed", async () => {
    put();
    await pass(1000);
    masters[0]!.isAlone = true;
    await pass(400);
    masters[0]!.isAlone = false;
    await pass(400);
    assert.equal(cache.status(inode)?.version, 1);
    await pass(1000);
    assert.deepEqual(masters[0]!.subscribed, [10], "the feed was not left");
    assert.deepEqual(masters[1]!.subscribed, []);
  });

  it("takes no answer for a confirmation that overtook a change", async () => {
    put();
    await pass(2000);
    const [master] = masters;
    master!.isFull = true;
    master!.change();
    const changedMs = clock.monotonicMs();
    while (cache.status(inode) !== undefined) await pass(50);
    assert(clock.monotonicMs() - changedMs <= 1000, `${clock.monotonicMs() - changedMs} ms`);
  });

  it("is confirmed from the time of an answer once it has told what that answer reflects", async () => {
    await pass(1000);
    const [master] = masters;
    master!.isFull = true;
    master!.change();
    await pass(600);
    cache.putStatus(status(2), at(11));
    master!.mend();
    await turn();
    await pass(2500);
    assert.equal(cache.status(inode)?.version, 2);
    assert.deepEqual(master!.subscribed, [10], "the feed was not left");
  });

  it("waits for no entry that the feed says nothing of, nor loses it to one of a master that tells less", async () => {
    const [master] = masters;
    put();
    master!.appliedIndex++;
    await pass(3000);
    assert.equal(cache.status(inode)?.version, 1);
    assert.deepEqual(master!.subscribed, [10]);

    master!.isOld = true;
    await pass(1500);
    assert.deepEqual(masters[1]!.subscribed, [10], "nothing shows that the feed is complete");
  });

  it("asks some three times a second", async () => {
    await pass(3000);
    assert(masters[0]!.asked >= 8 && masters[0]!.asked <= 12, String(masters[0]!.asked));
  });
});
