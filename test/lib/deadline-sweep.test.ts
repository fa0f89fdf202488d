import assert from "node:assert/strict";
import { DeadlineSweep } from "../../src/lib/deadline-sweep.ts";
import { eventually } from "./eventually.ts";

interface Item {
  readonly name: string;
  readonly deadlineMs: number;
}

describe("DeadlineSweep", () => {
  let open: Set<Item>;
  let late: string[];
  let early: string[];
  let sweep: DeadlineSweep<Item>;

  beforeEach(() => {
    open = new Set();
    late = [];
    early = [];
    sweep = new DeadlineSweep<Item>({
      open: () => open,
      deadlineMs: (item) => item.deadlineMs,
      onLate: (item) => {
        if (performance.now() < item.deadlineMs) early.push(item.name);
        late.push(item.name);
        open.delete(item);
      },
    });
  });

  afterEach(() => sweep.stop());

  function add(name: string, inMs: number): Item {
    const item = { name, deadlineMs: performance.now() + inMs };
    open.add(item);
    sweep.watch(item.deadlineMs);
    return item;
  }

  it("ends each item once, after its deadline, whatever the order they came in", async () => {
    for (const [name, inMs] of Object.entries({ c: 60, a: 5, d: 90, b: 30 })) add(name, inMs);
    await eventually("all to be late", () => late.length === 4);
    assert.deepEqual(late.toSorted(), ["a", "b", "c", "d"]);
    assert.deepEqual(early, []);
  });

  it("leaves alone what was over before, and goes on with what comes after", async () => {
    const over = add("over", 10);
    add("far", 60_000);
    open.delete(over);
    add("first", 15);
    await eventually("the first", () => late.length === 1);
    add("second", 1);
    await eventually("the second", () => late.length === 2);
    assert.deepEqual(late, ["first", "second"]);
    assert.deepEqual(
      [...open].map(({ name }) => name),
      ["far"],
    );
  });
});
