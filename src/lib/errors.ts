/**
 * The one error class of what fails in operation, and its closed list of codes. errno, HTTP status and
 * exit code are one exhaustive table each: a new code does not compile until it is mapped in all of them.
 *
 * Invariant: nobody recognises an error by its message; `code` and `outcome` decide.
 */

/** Closed list of codes. The first group is decided by the replicated state machine, the second by operation. */
export type ErrorCode =
  | "NotFound"
  | "AlreadyExists"
  | "NotDirectory"
  | "IsDirectory"
  | "NotEmpty"
  | "PermissionDenied"
  | "NotPermitted"
  | "ReadOnly"
  | "InvalidArgument"
  | "NameTooLong"
  | "TooManyLinks"
  | "CrossMount"
  | "NoSpace"
  | "NoData"
  | "TooLarge"
  | "QuotaExceeded"
  | "LeaseConflict"
  | "LeaseLost"
  | "VersionConflict"
  | "SessionExpired"
  | "SequenceForgotten"
  | "Stale"
  | "Lost"
  | "NotSupported"
  | "NotLeader"
  | "Busy"
  | "DiskFull"
  | "Unavailable"
  | "DeadlineExceeded"
  | "Cancelled"
  | "Corrupt"
  | "ProtocolError"
  | "ConfigInvalid"
  | "JobFailed"
  | "Internal";

/**
 * Whether the operation may have taken effect: `notApplied` is safe to retry anew; `unknown` may be retried only
 * under the same (session, sequence).
 */
export type Outcome = "notApplied" | "unknown";

/** An operational failure. `message` follows `Cannot VERB "OBJECT": what is, what was wanted`. */
export class WeirError extends Error {
  readonly code: ErrorCode;
  readonly outcome: Outcome;

  constructor(
    code: ErrorCode,
    message: string,
    options: { cause?: unknown; outcome?: Outcome } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "WeirError";
    this.code = code;
    this.outcome = options.outcome ?? "notApplied";
  }
}

/** Any thrown value as a WeirError: system errors keep their meaning, everything else is `Internal`. */
export function toWeirError(thrown: unknown, doing: string): WeirError {
  if (thrown instanceof WeirError) return thrown;
  const errno = (thrown as { code?: unknown } | null)?.code;
  const code = (typeof errno === "string" ? codeOfErrno[errno] : undefined) ?? "Internal";
  const detail = thrown instanceof Error ? thrown.message : String(thrown);
  return new WeirError(code, `${doing}: ${detail}`, { cause: thrown, outcome: "unknown" });
}

/** True when `thrown` is a WeirError of one of `codes`. */
export function hasCode(thrown: unknown, ...codes: ErrorCode[]): thrown is WeirError {
  return thrown instanceof WeirError && codes.includes(thrown.code);
}

const codeOfErrno: Readonly<Record<string, ErrorCode>> = {
  ENOENT: "NotFound",
  EEXIST: "AlreadyExists",
  ENOTDIR: "NotDirectory",
  EISDIR: "IsDirectory",
  ENOTEMPTY: "NotEmpty",
  EACCES: "PermissionDenied",
  EPERM: "NotPermitted",
  EROFS: "ReadOnly",
  EINVAL: "InvalidArgument",
  ENAMETOOLONG: "NameTooLong",
  EXDEV: "CrossMount",
  ENOSPC: "NoSpace",
  ENODATA: "NoData",
  E2BIG: "TooLarge",
  // A quota of the machine's, not of a directory of ours: to whoever wrote there it is a full disk.
  EDQUOT: "NoSpace",
  EBUSY: "Busy",
  ETIMEDOUT: "DeadlineExceeded",
  ECONNREFUSED: "Unavailable",
  ECONNRESET: "Unavailable",
  EPIPE: "Unavailable",
};

/** Negative errno for FUSE (errno(3), Linux x86-64 numbers). */
export const errnoOf: Readonly<Record<ErrorCode, number>> = {
  NotFound: -2,
  AlreadyExists: -17,
  NotDirectory: -20,
  IsDirectory: -21,
  NotEmpty: -39,
  PermissionDenied: -13,
  NotPermitted: -1,
  ReadOnly: -30,
  InvalidArgument: -22,
  NameTooLong: -36,
  TooManyLinks: -31,
  CrossMount: -18,
  NoSpace: -28,
  NoData: -61,
  TooLarge: -7,
  QuotaExceeded: -122,
  LeaseConflict: -16,
  LeaseLost: -5,
  VersionConflict: -116,
  SessionExpired: -5,
  SequenceForgotten: -5,
  Stale: -116,
  Lost: -5,
  NotSupported: -95,
  NotLeader: -11,
  Busy: -16,
  DiskFull: -28,
  Unavailable: -5,
  DeadlineExceeded: -110,
  Cancelled: -4,
  Corrupt: -5,
  ProtocolError: -71,
  ConfigInvalid: -22,
  JobFailed: -5,
  Internal: -5,
};

/** Process exit status of the CLI (sysexits(3) where one fits; 1 is kept for "the answer is no"). */
export const exitCodeOf: Readonly<Record<ErrorCode, number>> = {
  NotFound: 2,
  AlreadyExists: 3,
  NotDirectory: 4,
  IsDirectory: 5,
  NotEmpty: 6,
  PermissionDenied: 77,
  NotPermitted: 77,
  ReadOnly: 7,
  InvalidArgument: 64,
  NameTooLong: 64,
  TooManyLinks: 8,
  CrossMount: 9,
  NoSpace: 10,
  NoData: 16,
  TooLarge: 64,
  QuotaExceeded: 17,
  LeaseConflict: 11,
  LeaseLost: 11,
  VersionConflict: 12,
  SessionExpired: 13,
  SequenceForgotten: 13,
  Stale: 12,
  Lost: 14,
  NotSupported: 64,
  NotLeader: 69,
  Busy: 75,
  DiskFull: 10,
  Unavailable: 69,
  DeadlineExceeded: 75,
  Cancelled: 130,
  Corrupt: 65,
  ProtocolError: 76,
  ConfigInvalid: 78,
  JobFailed: 15,
  Internal: 70,
};

/** HTTP status for the gateways and the web interface. */
export const httpStatusOf: Readonly<Record<ErrorCode, number>> = {
  NotFound: 404,
  AlreadyExists: 409,
  NotDirectory: 409,
  IsDirectory: 409,
  NotEmpty: 409,
  PermissionDenied: 403,
  NotPermitted: 403,
  ReadOnly: 403,
  InvalidArgument: 400,
  NameTooLong: 400,
  TooManyLinks: 409,
  CrossMount: 409,
  NoSpace: 507,
  NoData: 404,
  TooLarge: 413,
  QuotaExceeded: 507,
  LeaseConflict: 409,
  LeaseLost: 409,
  VersionConflict: 412,
  SessionExpired: 401,
  SequenceForgotten: 409,
  Stale: 409,
  Lost: 410,
  NotSupported: 501,
  NotLeader: 503,
  Busy: 503,
  DiskFull: 507,
  Unavailable: 503,
  DeadlineExceeded: 504,
  Cancelled: 499,
  Corrupt: 500,
  ProtocolError: 400,
  ConfigInvalid: 400,
  JobFailed: 500,
  Internal: 500,
};

const errorCodes: ReadonlySet<string> = new Set(Object.keys(errnoOf));

/** The code that arrived as a text; "Internal" for one that only another version knows. */
export function knownCode(code: string): ErrorCode {
  return errorCodes.has(code) ? (code as ErrorCode) : "Internal";
}
