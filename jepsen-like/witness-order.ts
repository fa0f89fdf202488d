/**
 * Linearizability by witness: every answered operation names the log position that it reflects. If replaying the
 * operations in that order explains every output, and the order agrees with real time, the history is linearizable;
 * finding a violation takes O(n log n), not a search. What it trusts is only that positions are what the server says:
 * a server that lies about them fails the replay or the real-time rule.
 *
 * An operation of unknown outcome has no position. It may appear in the state from some read on (`mayAppear`), and once
 * seen it stays.
 */
import type { Operation } from "./history.ts";

/** A sequential specification of what the workload does. */
export interface Model<State, Input, Output> {
  readonly init: () => State;
  readonly isWrite: (input: Input) => boolean;
  /** Applies an acknowledged write; an answer is an explanation why this output cannot be. */
  readonly write: (state: State, input: Input, output: Output) => string | undefined;
  /** Compares a read with the state; `maybe` holds the inputs of unknown writes called before the read returned. */
  readonly read: (
    state: State,
    input: Input,
    output: Output,
    maybe: readonly Input[],
  ) => string | undefined;
}

export interface Violation<Input, Output> {
  readonly rule: "model" | "real-time" | "unique-position";
  readonly explanation: string;
  readonly operation: Operation<Input, Output>;
  /** The operation that this one contradicts, where there is one. */
  readonly against?: Operation<Input, Output>;
}

type Answered<Input, Output> = Operation<Input, Output> & {
  readonly result: { readonly kind: "ok"; readonly output: Output; readonly position: number };
};

/** All violations of a history; empty when it is linearizable. */
export function checkWitnessOrder<State, Input, Output>(
  model: Model<State, Input, Output>,
  history: readonly Operation<Input, Output>[],
): Violation<Input, Output>[] {
  const answered = history.filter(
    (operation): operation is Answered<Input, Output> => operation.result.kind === "ok",
  );
  return [
    ...checkPositions(model, answered),
    ...checkRealTime(model, answered),
    ...replay(model, answered, history),
  ];
}

/** Two writes never take one position. */
function checkPositions<State, Input, Output>(
  model: Model<State, Input, Output>,
  answered: readonly Answered<Input, Output>[],
): Violation<Input, Output>[] {
  const writers = new Map<number, Answered<Input, Output>>();
  const violations: Violation<Input, Output>[] = [];
  for (const operation of answered) {
    if (!model.isWrite(operation.input)) continue;
    const { position } = operation.result;
    const against = writers.get(position);
    if (against === undefined) writers.set(position, operation);
    else {
      const explanation = `two writes at position ${position}`;
      violations.push({ rule: "unique-position", explanation, operation, against });
    }
  }
  return violations;
}

/** An operation called after another returned must not be ordered before it. */
function checkRealTime<State, Input, Output>(
  model: Model<State, Input, Output>,
  answered: readonly Answered<Input, Output>[],
): Violation<Input, Output>[] {
  const byCall = answered.toSorted((a, b) => compare(a.calledNs, b.calledNs));
  const byReturn = answered.toSorted((a, b) => compare(a.returnedNs, b.returnedNs));
  const violations: Violation<Input, Output>[] = [];
  let returned = 0;
  let latest: Answered<Input, Output> | undefined;
  for (const operation of byCall) {
    while (returned < byReturn.length && byReturn[returned]!.returnedNs < operation.calledNs) {
      const candidate = byReturn[returned++]!;
      if (latest === undefined || candidate.result.position > latest.result.position) {
        latest = candidate;
      }
    }
    if (latest === undefined) continue;
    const { position } = operation.result;
    const floor = latest.result.position;
    if (position < floor || (position === floor && model.isWrite(operation.input))) {
      const explanation = `it has position ${position}, though ${floor} had returned before its call`;
      violations.push({ rule: "real-time", explanation, operation, against: latest });
    }
  }
  return violations;
}

function replay<State, Input, Output>(
  model: Model<State, Input, Output>,
  answered: readonly Answered<Input, Output>[],
  history: readonly Operation<Input, Output>[],
): Violation<Input, Output>[] {
  const unknown = history.filter(
    (operation) => operation.result.kind === "unknown" && model.isWrite(operation.input),
  );
  const order = answered.toSorted(
    (a, b) =>
      a.result.position - b.result.position ||
      Number(model.isWrite(b.input)) - Number(model.isWrite(a.input)),
  );
  const violations: Violation<Input, Output>[] = [];
  const state = model.init();
  for (const operation of order) {
    const { output } = operation.result;
    const maybe = model.isWrite(operation.input)
      ? []
      : unknown
          .filter((write) => write.calledNs < operation.returnedNs)
          .map((write) => write.input);
    const explanation = model.isWrite(operation.input)
      ? model.write(state, operation.input, output)
      : model.read(state, operation.input, output, maybe);
    if (explanation !== undefined) violations.push({ rule: "model", explanation, operation });
  }
  return violations;
}

function compare(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
