/** Bugs of the services around the state machine: when reads are answered. */
import type { Mutant } from "./mutant.ts";

const reads = ["test/master/services/read-point.test.ts"];

export const serviceMutants: readonly Mutant[] = [
  {
    name: "answers a read before its index is applied",
    file: "src/master/services/parts.ts",
    find: "if (machine.appliedIndex < index) {",
    replace: "if (index < 0) {",
    suites: reads,
  },
  {
    name: "reads the state before the index that the leader confirmed is applied",
    file: "src/master/services/parts.ts",
    find: `await machine.waitApplied(await abortable(confirmed, signal, "Cannot confirm the lead"), signal);`,
    replace: `await abortable(confirmed, signal, "Cannot confirm the lead");`,
    suites: reads,
  },
  {
    name: "wakes a read with the entry before the one that it waits for",
    file: "src/master/services/machine-host.ts",
    find: "this.#waiting.filter((each) => each.index <= applied);",
    replace: "this.#waiting.filter((each) => each.index <= applied + 1);",
    suites: reads,
  },
];
