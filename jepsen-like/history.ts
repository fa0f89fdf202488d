/**
 * What the clients of a run did and saw, one operation per line. Times are of one monotonic clock of the machine
 * (CLOCK_MONOTONIC is shared by its processes), so that they can be compared between clients.
 */

export interface Operation<Input = unknown, Output = unknown> {
  readonly client: number;
  readonly input: Input;
  readonly calledNs: bigint;
  readonly returnedNs: bigint;
  readonly result: Result<Output>;
}

export type Result<Output> =
  /** `position`: the log position that a write took, or (applied index + 1) × 1,024 − 1 of a read: after all of that entry. */
  | { readonly kind: "ok"; readonly output: Output; readonly position: number }
  /** Certainly without effect. */
  | { readonly kind: "failed"; readonly code: string }
  /** May have taken effect, then or later. */
  | { readonly kind: "unknown"; readonly code: string };

/** A line of a history file. */
export function encodeOperation(operation: Operation): string {
  return JSON.stringify(operation, (_key, value: unknown) =>
    typeof value === "bigint" ? String(value) : value,
  );
}

export function decodeOperation<Input, Output>(line: string): Operation<Input, Output> {
  const raw = JSON.parse(line) as Omit<Operation<Input, Output>, "calledNs" | "returnedNs"> & {
    calledNs: string;
    returnedNs: string;
  };
  return { ...raw, calledNs: BigInt(raw.calledNs), returnedNs: BigInt(raw.returnedNs) };
}
