/**
 * Failures in the words of who typed the command: `Cannot make "/a/dir": …`, with the path as it was given, where a
 * client or a master speaks of inodes and of the names it looked up on the way.
 *
 * Messages hold names of the namespace as latin1 (one character per byte), and so does what is added here.
 */
import type { WeirClient } from "../client/client.ts";
import { toWeirError, WeirError } from "../lib/errors.ts";
import { type CliContext, type CommonOptions, withClient } from "./context.ts";
import type { Output } from "./output.ts";
import { lastPart } from "./paths.ts";

/** What is being done: `make "/a"`, or with two subjects `rename "/a" to "/b"`. */
export interface Doing {
  readonly verb: string;
  /** One or two, as they were typed. */
  readonly subjects: readonly string[];
  /** Between the two. */
  readonly preposition?: string;
}

/**
 * Runs `use`; what it throws begins with what was being done, and keeps its code and outcome.
 * @throws WeirError whatever `use` throws, the original as its cause
 */
export async function attempt<T>(doing: Doing, use: () => Promise<T>): Promise<T> {
  try {
    return await use();
  } catch (error) {
    throw inWordsOf(doing, error);
  }
}

/** As `withClient`, with failures in the words of the command. */
export function withPaths<T>(
  context: CliContext,
  options: CommonOptions,
  doing: Doing,
  use: (client: WeirClient, output: Output) => Promise<T>,
): Promise<T> {
  return withClient(context, options, (client, output) =>
    attempt(doing, () => use(client, output)),
  );
}

/** Exported for its test: the failure as `attempt` throws it. */
export function inWordsOf(doing: Doing, thrown: unknown): WeirError {
  const subjects = doing.subjects.map((each) => Buffer.from(each, "utf8").toString("latin1"));
  const what = `Cannot ${doing.verb} ${subjects.map((each) => `"${each}"`).join(` ${doing.preposition ?? "and"} `)}`;
  const error = toWeirError(thrown, what);
  if (error.message.startsWith(`${what}: `)) return error;
  const { code, outcome } = error;
  return new WeirError(code, `${what}: ${reasonOf(error.message, subjects)}`, {
    cause: error,
    outcome,
  });
}

/** A head `Cannot VERB …: ` with its quoted parts, in which a colon means nothing. */
const head = /^Cannot ((?:"[^"]*"|[^":]|:(?! ))*): ([^]+)$/;

/** The message without its own head, where that only says the same in worse words. */
function reasonOf(message: string, subjects: readonly string[]): string {
  const [, doing, reason] = head.exec(message) ?? [];
  if (doing === undefined || reason === undefined) return lowerFirst(message);
  const names = [...doing.matchAll(/"([^"]*)"/g)].map(([, name]) => name!);
  const known = subjects.flatMap((each) => [each, each.replace(/\/+$/, ""), lastPart(each)]);
  const stranger = names.find((name) => !known.includes(name));
  if (stranger === undefined && (names.length > 0 || /\binode \d/.test(doing))) return reason;
  if (/\b(inode|directory) \d/.test(doing) && stranger !== undefined) {
    return `at "${stranger}": ${reason}`;
  }
  return lowerFirst(message);
}

function lowerFirst(message: string): string {
  return message.charAt(0).toLowerCase() + message.slice(1);
}
