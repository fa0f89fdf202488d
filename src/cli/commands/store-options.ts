/** Options of a store, `key=value`: on the command line, from a file, or with a value from the environment. */
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { InvalidArgumentError } from "commander";
import { toWeirError, WeirError } from "../../lib/errors.ts";
import type { CliContext } from "../context.ts";

/** Collects `key=value` given several times. */
export function collectPairs(
  text: string,
  before: Readonly<Record<string, string>> = {},
): Record<string, string> {
  const pair = parsePair(text);
  if (pair === undefined) throw new InvalidArgumentError("wanted key=value");
  return { ...before, [pair[0]]: pair[1] };
}

/**
 * The options of both sources: those of the command line win, and a value `@env:NAME` stands for that variable, so that
 * a secret need not be where `ps` shows it.
 * @throws WeirError `InvalidArgument` for a line that is no key=value or a variable that is not set
 */
export function storeOptions(
  context: Pick<CliContext, "cwd" | "environment">,
  given: Readonly<Record<string, string>>,
  file: string | undefined,
): Record<string, string> {
  const all = { ...(file === undefined ? {} : optionsOf(resolve(context.cwd, file))), ...given };
  const prefix = "@env:";
  return Object.fromEntries(
    Object.entries(all).map(([key, value]) => {
      if (!value.startsWith(prefix)) return [key, value];
      const name = value.slice(prefix.length);
      const found = context.environment[name];
      if (found !== undefined) return [key, found];
      throw new WeirError(
        "InvalidArgument",
        `Cannot use the option "${key}": the environment has no variable "${name}"`,
      );
    }),
  );
}

function optionsOf(file: string): Record<string, string> {
  const options: Record<string, string> = {};
  for (const [index, line] of textOf(file).split(/\r?\n/).entries()) {
    if (/^\s*(#|$)/.test(line)) continue;
    const pair = parsePair(line.trim());
    if (pair === undefined) {
      // The line is not shown: it may be a secret.
      throw new WeirError(
        "InvalidArgument",
        `Cannot use the options of "${file}": line ${String(index + 1)} is no key=value`,
      );
    }
    options[pair[0]] = pair[1];
  }
  return options;
}

function textOf(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    throw toWeirError(error, `Cannot read the options of "${file}"`);
  }
}

function parsePair(text: string): readonly [key: string, value: string] | undefined {
  const place = text.indexOf("=");
  return place <= 0 ? undefined : [text.slice(0, place), text.slice(place + 1)];
}
