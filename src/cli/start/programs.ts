/** How the processes of a local cluster are called: compiled (`dist/`) or, in development, through tsx. */
import { fileURLToPath } from "node:url";

/** Arguments of node that run `src/PART/main`, the same way as this file is run. */
export function argumentsOf(part: "master" | "worker" | "fuse" | "cli"): string[] {
  const compiled = import.meta.url.endsWith(".js");
  const main = fileURLToPath(
    new URL(`../../${part}/main.${compiled ? "js" : "ts"}`, import.meta.url),
  );
  return compiled ? [main] : ["--import", "tsx", main];
}
