/**
 * The words in a job's arguments that stand for its files: `{in:N}` and `{out:N}` for one, N from 0; `{in}` and `{out}`
 * for the only one within a longer argument, and for all of them, as an argument each, where they are the whole
 * argument. `{{` and `}}` are not special: other braces stay as they are.
 */
import { WeirError } from "../lib/errors.ts";

/**
 * The arguments with host paths in place of the placeholders.
 * @throws WeirError `InvalidArgument` when there is no such file, or several where one is meant
 */
export function expandArguments(
  argv: readonly string[],
  files: { readonly in: readonly string[]; readonly out: readonly string[] },
): string[] {
  return argv.flatMap((argument) => {
    if (argument === "{in}") return [...files.in];
    if (argument === "{out}") return [...files.out];
    return [
      argument.replace(
        /\{(in|out)(?::(\d{1,9}))?\}/g,
        (placeholder, kind: "in" | "out", digits?: string) => {
          const paths = files[kind];
          if (digits === undefined && paths.length !== 1) {
            throw new WeirError(
              "InvalidArgument",
              `Cannot use the argument "${argument}": the job has ${paths.length} files for ${placeholder}, wanted {${kind}:N}`,
            );
          }
          const path = paths[Number(digits ?? 0)];
          if (path === undefined) {
            throw new WeirError(
              "InvalidArgument",
              `Cannot use the argument "${argument}": the job has ${paths.length} files for ${placeholder}, counted from 0`,
            );
          }
          return path;
        },
      ),
    ];
  });
}

/** WEIR_IN_0, WEIR_OUT_0, … */
export function fileVariables(files: {
  readonly in: readonly string[];
  readonly out: readonly string[];
}): Record<string, string> {
  const variables: Record<string, string> = {};
  for (const [index, path] of files.in.entries()) variables[`WEIR_IN_${index}`] = path;
  for (const [index, path] of files.out.entries()) variables[`WEIR_OUT_${index}`] = path;
  return variables;
}
