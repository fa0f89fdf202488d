import assert from "node:assert/strict";
import fc from "fast-check";
import { decodeOperation, encodeOperation, type Operation } from "../../jepsen-like/history.ts";
import { checkWitnessOrder } from "../../jepsen-like/witness-order.ts";
import {
  type CreatesInput,
  type CreatesOutput,
  createsModel,
} from "../../jepsen-like/workloads/creates-model.ts";

type Op = Operation<CreatesInput, CreatesOutput>;

const at = (calledNs: number, returnedNs: number) => ({
  client: 0,
  calledNs: BigInt(calledNs),
  returnedNs: BigInt(returnedNs),
});

const create = (name: string, position: number, called: number, returned: number): Op => ({
  ...at(called, returned),
  input: { kind: "create", name },
  result: { kind: "ok", position, output: { kind: "created", inode: position } },
});

const lost = (name: string, called: number, returned: number): Op => ({
  ...at(called, returned),
  input: { kind: "create", name },
  result: { kind: "unknown", code: "DeadlineExceeded" },
});

const listing = (names: string[], position: number, called: number, returned: number): Op => ({
  ...at(called, returned),
  input: { kind: "list" },
  result: { kind: "ok", position, output: { kind: "listed", names } },
});

const page = (after: string, names: string[], more: boolean, position: number): Op => ({
  ...at(10 * position, 10 * position + 1),
  input: { kind: "list", after },
  result: { kind: "ok", position, output: { kind: "listed", names, more } },
});

const rulesBroken = (history: Op[]) =>
  checkWitnessOrder(createsModel, history).map((violation) => violation.rule);

describe("witness order", () => {
  it("accepts every history of a correct register of names", () => {
    fc.assert(
      fc.property(fc.array(fc.boolean(), { maxLength: 60 }), (creates) => {
        const names: string[] = [];
        const history = creates.map((isCreate, i): Op => {
          if (!isCreate) return listing([...names], i, 10 * i, 10 * i + 15);
          names.push(`f${i}`);
          return create(`f${i}`, i, 10 * i, 10 * i + 15);
        });
        assert.deepEqual(checkWitnessOrder(createsModel, history), []);
      }),
    );
  });

  it("finds an acknowledged file that is missing", () => {
    assert.deepEqual(rulesBroken([create("a", 1, 0, 1), listing([], 2, 2, 3)]), ["model"]);
  });

  it("finds a file that appears twice", () => {
    const history = [create("a", 1, 0, 1), listing(["a", "a"], 2, 2, 3)];
    assert.deepEqual(rulesBroken(history), ["model"]);
    assert.deepEqual(rulesBroken([create("a", 1, 0, 1), create("a", 2, 2, 3)]), ["model"]);
  });

  it("holds a page of a listing to the names between its ends", () => {
    const made = ["a", "b", "c", "d"].map((name, i) => create(name, i, 10 * i, 10 * i + 1));
    const broken = (after: string, names: string[], more: boolean) =>
      rulesBroken([...made, page(after, names, more, 4)]);
    assert.deepEqual(broken("", ["a", "b"], true), []);
    assert.deepEqual(broken("b", ["c", "d"], false), []);
    assert.deepEqual(broken("d", [], false), []);
    assert.deepEqual(broken("a", ["c"], true), ["model"], "a name between the ends is missing");
    assert.deepEqual(broken("b", ["c"], false), ["model"], "a name behind the last is missing");
    assert.deepEqual(broken("b", ["b", "c", "d"], false), ["model"], "a name of an earlier page");
    assert.deepEqual(broken("d", [], true), ["model"], "an empty page that is not the last");
  });

  it("finds a stale read by real time, though its own state is consistent", () => {
    const history = [create("a", 5, 0, 1), listing([], 4, 2, 3)];
    assert.deepEqual(rulesBroken(history), ["real-time"]);
  });

  it("finds two writes that claim one position", () => {
    const history = [create("a", 1, 0, 5), { ...create("b", 1, 0, 5) }];
    assert.ok(rulesBroken(history).includes("unique-position"));
  });

  it("lets a write of unknown outcome appear, but not vanish again", () => {
    const seen = [lost("a", 0, 9), listing(["a"], 2, 10, 11)];
    assert.deepEqual(rulesBroken(seen), []);
    assert.deepEqual(rulesBroken([lost("a", 0, 9), listing([], 2, 10, 11)]), []);
    assert.deepEqual(rulesBroken([...seen, listing([], 3, 12, 13)]), ["model"]);
  });

  it("refuses an unknown write that is seen before it was called", () => {
    assert.deepEqual(rulesBroken([lost("a", 5, 9), listing(["a"], 2, 0, 4)]), ["model"]);
  });

  it("keeps operations through a file", () => {
    const operation = create("a", 1, 0, 1);
    assert.deepEqual(decodeOperation(encodeOperation(operation)), operation);
  });
});
