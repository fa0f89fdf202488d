/** Waiting that an AbortSignal can end. */
import { WeirError } from "../../lib/errors.ts";

/** Why `signal` was aborted: its own WeirError, or one made of what the platform gives. `doing` opens the message. */
export function abortError(signal: AbortSignal, doing: string): WeirError {
  const reason: unknown = signal.reason;
  if (reason instanceof WeirError) return reason;
  const late = reason instanceof Error && reason.name === "TimeoutError";
  return new WeirError(
    late ? "DeadlineExceeded" : "Cancelled",
    `${doing}: ${late ? "it took too long" : "it was cancelled"}`,
    { cause: reason, outcome: "unknown" },
  );
}

/**
 * `promise`, or the end of `signal` when that comes first; what was waited for goes on.
 * @throws WeirError as `abortError`
 */
export function abortable<T>(promise: Promise<T>, signal: AbortSignal, doing: string): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(abortError(signal, doing));
    if (signal.aborted) {
      promise.catch(() => undefined);
      onAbort();
      return;
    }
    signal.addEventListener("abort", onAbort, { once: true });
    void promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}
