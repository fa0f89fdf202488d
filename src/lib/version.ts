/** Which release this code is, as its package says. */
import { readFileSync } from "node:fs";

/** The version of the package that this file belongs to. package.json lies above `src/` in the sources, above `dist/` when compiled. */
export function packageVersion(): string {
  const up = import.meta.url.endsWith(".js") ? "../../../package.json" : "../../package.json";
  const manifest = JSON.parse(readFileSync(new URL(up, import.meta.url), "utf8")) as {
    version: string;
  };
  return manifest.version;
}
