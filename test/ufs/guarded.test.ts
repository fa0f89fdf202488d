import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { systemClock } from "../../src/lib/clock.ts";
import { hasCode, WeirError } from "../../src/lib/errors.ts";
import { GuardedStore } from "../../src/ufs/guarded.ts";
import { openUfs } from "../../src/ufs/open.ts";
import { chunksOf, describeUfsContract, put, readWhole } from "../contract/ufs.ts";
import { ManualClock, turn } from "../master/services/manual-clock.ts";
import { eventually } from "../lib/eventually.ts";
import { StubbornStore } from "../lib/stubborn-store.ts";

const limits = { callMs: 10_000, stepMs: 30_000, watchMs: 30_000, inFlight: 4 };

describe("a store under guard", () => {
  const made: string[] = [];
  const openFresh = async () => {
    const directory = await mkdtemp(join(tmpdir(), "weir-guard-"));
    made.push(directory);
    return openUfs({ uri: pathToFileURL(directory).href, readOnly: false, options: {} });
  };
  after(async () => {
    for (const directory of made) await rm(directory, { recursive: true, force: true });
  });

  describe("by the contract", () => {
    describeUfsContract({
      open: async () => {
        const store = await openFresh();
        const open = () => Promise.resolve(store);
        const { uri, readOnly } = store;
        return new GuardedStore({ uri, readOnly, open, clock: systemClock, limits });
      },
      changesAttributes: true,
    });
  });

  describe("that does not answer", () => {
    let clock: ManualClock;
    let stubborn: StubbornStore;
    let guarded: GuardedStore;
    let opened: number;

    beforeEach(async () => {
      clock = new ManualClock();
      stubborn = new StubbornStore(await openFresh());
      opened = 0;
      guarded = new GuardedStore({
        ...{ uri: "file:///store", readOnly: false, clock, limits },
        open: () => {
          opened++;
          return Promise.resolve(stubborn.store);
        },
      });
      await put(guarded, "f", "content");
    });
    afterEach(async () => {
      stubborn.recover();
      await guarded.close();
    });

    /** What the promise fails with, once that much time is over. */
    const failureAfter = async (ms: number, promise: Promise<unknown>): Promise<WeirError> => {
      const failed = promise.then(
        () => assert.fail("it was answered"),
        (thrown: unknown) => thrown,
      );
      await reached();
      clock.advance(ms);
      const thrown = await failed;
      assert(thrown instanceof WeirError, String(thrown));
      return thrown;
    };
    /** Until what was called is at the store. */
    const reached = () =>
      eventually("the calls to be at the store", async () => {
        await turn();
        return stubborn.mood !== "silent" || stubborn.underWay > 0;
      });
    const makeUnhealthy = async () => {
      stubborn.mood = "silent";
      for (let i = 0; i < 3; i++) {
        const error = await failureAfter(limits.callMs, guarded.stat("f"));
        assert.equal(error.code, "DeadlineExceeded");
      }
    };

    it("ends each kind of call by a deadline that names the store and the path", async () => {
      const calls: [() => Promise<unknown>, number, RegExp][] = [
        [() => guarded.list("", { limit: 1 }), limits.callMs, /list ""/],
        [() => guarded.stat("f"), limits.callMs, /stat "f"/],
        [() => readWhole(guarded, "f"), limits.stepMs, /read "f"/],
        [() => put(guarded, "g", "x"), limits.stepMs, /write "g"/],
        [() => guarded.mkdir("d"), limits.callMs, /make directory "d"/],
        [() => guarded.symlink("l", "f"), limits.callMs, /make symbolic link "l"/],
        [() => guarded.setAttributes("f", { mode: 0o600 }), limits.callMs, /attributes of "f"/],
        [() => guarded.forgetReplaced("f", "x"), limits.callMs, /replaced at "f"/],
      ];
      for (const [call, limitMs, what] of calls) {
        stubborn.mood = "silent";
        const error = await failureAfter(limitMs, call());
        assert.equal(error.code, "DeadlineExceeded", String(what));
        assert.match(error.message, /^Cannot .* in file:\/\/\/store: the store did not answer/);
        assert.match(error.message, what);
        stubborn.recover();
        await guarded.stat("f");
      }
    });

    it("refuses at once after three failures in a row, with the reason and the time since", async () => {
      await makeUnhealthy();
      const before = stubborn.calls.length;
      clock.advance(1000);
      for (const call of [
        () => guarded.list("", { limit: 1 }),
        () => readWhole(guarded, "f"),
        () => put(guarded, "g", "x"),
        () => guarded.delete("f", { of: "file" }),
        () => guarded.mkdir("d"),
      ]) {
        await assert.rejects(call(), (thrown) => {
          assert(hasCode(thrown, "Unavailable"));
          assert.match(thrown.message, /not answered for 1 s \(Cannot stat "f".*within 10 s\)/);
          return true;
        });
      }
      assert.equal(stubborn.calls.length, before, "none of them reached the store");
      assert.equal(guarded.health.unhealthy?.forMs, 1000);
    });

    it("recovers by itself when a probe is answered, and has one probe under way at most", async () => {
      await makeUnhealthy();
      const before = stubborn.underWay;
      clock.advance(60_000);
      await turn();
      clock.advance(5000);
      await turn();
      assert.equal(stubborn.underWay, before + 1);
      stubborn.recover();
      await eventually("the store to count as healthy", () => {
        clock.advance(5000);
        return guarded.health.unhealthy === undefined;
      });
      assert.equal((await readWhole(guarded, "f")).toString(), "content");
    });

    it("takes a refusal for an answer, and forgets failures before it", async () => {
      for (let round = 0; round < 3; round++) {
        stubborn.mood = "away";
        await assert.rejects(guarded.stat("f"));
        await assert.rejects(guarded.stat("f"));
        stubborn.mood = "well";
        await assert.rejects(guarded.list("nothing", { limit: 1 }), (e) => hasCode(e, "NotFound"));
      }
      assert.equal(guarded.health.unhealthy, undefined);
    });

    it("keeps more than the bound out of the store, and calls them busy when they waited too long", async () => {
      stubborn.mood = "silent";
      const calls = Array.from({ length: 10 }, () => guarded.stat("f").catch((e: unknown) => e));
      await reached();
      await turn();
      assert.equal(stubborn.underWay, limits.inFlight);
      stubborn.recover();
      const stats = await Promise.all(calls);
      assert(stats.every((each) => !(each instanceof Error)));
      assert.equal(stubborn.underWay, 0);
    });

    it("counts calls that were given up and still hang", async () => {
      stubborn.mood = "silent";
      const all = Array.from({ length: 4 }, () => guarded.stat("f").catch((e: unknown) => e));
      await eventually("all to be there", async () => {
        await turn();
        return stubborn.underWay === 4;
      });
      clock.advance(limits.callMs);
      await Promise.all(all);
      stubborn.mood = "well";
      assert.equal(stubborn.underWay, 4);
      guarded.health.answered();
      const { length } = stubborn.calls;
      const waiting = guarded.stat("f");
      await turn();
      assert.equal(stubborn.calls.length, length, "one more was let in");
      stubborn.recover();
      assert.equal((await waiting)?.size, 7);
    });

    it("does not count the time in which a write waits for what it is to write", async () => {
      let go: () => void = () => undefined;
      const slow = async function* () {
        yield Buffer.from("12");
        await new Promise<void>((resolve) => {
          go = resolve;
        });
        yield Buffer.from("34");
      };
      const written = guarded.write("slow", slow(), { size: 4 });
      written.catch(() => undefined);
      await eventually("the source to be asked twice", async () => {
        await turn();
        clock.advance(limits.stepMs - 1);
        return go.length === 1;
      });
      clock.advance(10 * limits.stepMs);
      go();
      await written;
      assert.equal((await readWhole(guarded, "slow")).toString(), "1234");
    });

    it("blames no store for a source that fails, nor for a reader that goes away at once", async () => {
      const failing = async function* (): AsyncIterable<Uint8Array> {
        yield* chunksOf("1");
        throw new WeirError("Unavailable", "Cannot read the source: it is away");
      };
      for (let i = 0; i < 5; i++) {
        await assert.rejects(guarded.write("g", failing(), { size: 4 }));
        const signal = AbortSignal.abort(new WeirError("Cancelled", "Cannot wait: it is over"));
        await assert.rejects(guarded.list("", { limit: 1, signal }));
      }
      assert.equal(guarded.health.unhealthy, undefined);
    });

    it("asks while a tree is moved or removed whether the store still answers, and gives it up if not", async () => {
      stubborn.mood = "silent";
      const removing = guarded.delete("f", { of: "file" });
      removing.catch(() => undefined);
      await reached();
      clock.advance(limits.watchMs);
      await eventually("the probe to be there", async () => {
        await turn();
        return stubborn.calls.at(-1) === "list";
      });
      clock.advance(limits.callMs);
      await assert.rejects(removing, (thrown) => hasCode(thrown, "DeadlineExceeded"));
    });

    it("lets a removal take as long as it takes while the store answers", async () => {
      stubborn.mood = "silent";
      const removing = guarded.delete("f", { of: "file" });
      await reached();
      stubborn.mood = "well";
      for (let i = 0; i < 3; i++) {
        const { length } = stubborn.calls;
        await eventually("a probe to be answered", async () => {
          clock.advance(2000);
          await turn();
          return stubborn.calls.length > length;
        });
      }
      stubborn.recover();
      await removing;
      assert.equal(await guarded.stat("f"), undefined);
    });

    it("opens the store with the first call, once, and again when that failed", async () => {
      assert.equal(opened, 1);
      await Promise.all([guarded.stat("f"), guarded.stat("f")]);
      assert.equal(opened, 1);
      let fails = true;
      const late = new GuardedStore({
        ...{ uri: "file:///store", readOnly: false, clock, limits },
        open: () =>
          fails
            ? Promise.reject(new WeirError("NotFound", "Cannot use it: there is nothing"))
            : Promise.resolve(stubborn.store),
      });
      await assert.rejects(late.stat("f"), (e) => hasCode(e, "NotFound"));
      fails = false;
      assert.equal((await late.stat("f"))?.size, 7);
    });
  });
});
