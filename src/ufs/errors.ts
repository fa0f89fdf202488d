/**
 * What stores throw, as a WeirError. Codes and HTTP status decide, never the text of a message; the keys of the account
 * appear in neither.
 */
import { type ErrorCode, toWeirError, WeirError } from "../lib/errors.ts";
import type { Going } from "./types.ts";

const codeOfS3Name: Readonly<Record<string, ErrorCode>> = {
  NoSuchKey: "NotFound",
  NotFound: "NotFound",
  NoSuchBucket: "NotFound",
  NoSuchUpload: "NotFound",
  NoSuchVersion: "NotFound",
  AccessDenied: "PermissionDenied",
  AllAccessDisabled: "PermissionDenied",
  InvalidAccessKeyId: "PermissionDenied",
  SignatureDoesNotMatch: "PermissionDenied",
  ExpiredToken: "PermissionDenied",
  CredentialsProviderError: "PermissionDenied",
  PreconditionFailed: "Stale",
  ConditionalRequestConflict: "Busy",
  OperationAborted: "Busy",
  SlowDown: "Busy",
  ThrottlingException: "Busy",
  TooManyRequests: "Busy",
  RequestLimitExceeded: "Busy",
  QuotaExceeded: "NoSpace",
  EntityTooLarge: "NoSpace",
  KeyTooLongError: "NameTooLong",
  InvalidBucketName: "InvalidArgument",
  MethodNotAllowed: "NotSupported",
  NotImplemented: "NotSupported",
  RequestTimeout: "Unavailable",
  TimeoutError: "Unavailable",
  InternalError: "Unavailable",
  ServiceUnavailable: "Unavailable",
};

const codeOfSystemError: Readonly<Record<string, ErrorCode>> = {
  ECONNREFUSED: "Unavailable",
  ECONNRESET: "Unavailable",
  ENOTFOUND: "Unavailable",
  EAI_AGAIN: "Unavailable",
  EHOSTUNREACH: "Unavailable",
  ENETUNREACH: "Unavailable",
  ETIMEDOUT: "Unavailable",
  EPIPE: "Unavailable",
  ERR_STREAM_PREMATURE_CLOSE: "Unavailable",
};

interface ServiceFailure {
  readonly name?: unknown;
  readonly code?: unknown;
  readonly message?: unknown;
  readonly $metadata?: { readonly httpStatusCode?: number };
}

/** `doing` opens the message, as in `Cannot read "a/b" of s3://bucket`. */
export function s3Error(thrown: unknown, doing: string, signal?: AbortSignal): WeirError {
  if (thrown instanceof WeirError) return thrown;
  if (signal?.aborted === true) return cancellation(signal, doing);
  const { name, code, message, $metadata } = (thrown ?? {}) as ServiceFailure;
  const status = $metadata?.httpStatusCode;
  const meaning =
    (typeof name === "string" ? codeOfS3Name[name] : undefined) ??
    (typeof code === "string" ? codeOfSystemError[code] : undefined) ??
    (status === undefined ? undefined : codeOfHttpStatus(status));
  if (meaning === undefined) return toWeirError(thrown, doing);
  // Some stores leave the message out; the client then says only that it is unknown.
  const silent = typeof message !== "string" || message === "" || message === "UnknownError";
  const detail = silent ? `the store says ${meaning}` : message;
  const shownName = typeof name === "string" && !detail.includes(name) ? ` (${name})` : "";
  return new WeirError(meaning, `${doing}: ${detail}${shownName}`, {
    cause: thrown,
    outcome: "unknown",
  });
}

/** True when the store answered that there is no such object. */
export function isNoSuchObject(thrown: unknown): boolean {
  return (
    s3Error(thrown, "").code === "NotFound" && (thrown as ServiceFailure).name !== "NoSuchBucket"
  );
}

/** What an aborted signal means: its reason if that is one of ours, else that the caller gave up or the time was over. */
export function cancellation(signal: AbortSignal, doing: string): WeirError {
  const cause: unknown = signal.reason;
  if (cause instanceof WeirError) return cause;
  const late = cause instanceof Error && cause.name === "TimeoutError";
  return late
    ? new WeirError("DeadlineExceeded", `${doing}: the store took too long`, { cause })
    : new WeirError("Cancelled", `${doing}: it was cancelled`, { cause });
}

/** @throws WeirError `Cancelled` or `DeadlineExceeded` when the signal is aborted */
export function refuseIfAborted(signal: AbortSignal | undefined, doing: string): void {
  if (signal?.aborted === true) throw cancellation(signal, doing);
}

/** To be called right before a step that others see. */
export function needPermit({ signal, permit }: Going, doing: string): void {
  refuseIfAborted(signal, doing);
  permit?.();
}

function codeOfHttpStatus(status: number): ErrorCode | undefined {
  switch (status) {
    case 401:
    case 403:
      return "PermissionDenied";
    case 404:
      return "NotFound";
    case 409:
    case 429:
      return "Busy";
    case 412:
      return "Stale";
    case 501:
      return "NotSupported";
    case 507:
      return "NoSpace";
    default:
      return status >= 500 ? "Unavailable" : undefined;
  }
}
