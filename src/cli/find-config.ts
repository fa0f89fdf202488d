/** Which configuration a command means: the first of --config, $WEIR_CONFIG, ./weir.yaml, ./.weir/weir.yaml. */
import { existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { type Config, loadConfig } from "../lib/config.ts";
import { toWeirError, WeirError } from "../lib/errors.ts";

export interface ConfigPlace {
  readonly cwd: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/**
 * The path of the configuration file.
 * @throws WeirError `ConfigInvalid` when there is none, with what to do
 */
export function findConfig(place: ConfigPlace, flag: string | undefined): string {
  const named = flag ?? place.environment["WEIR_CONFIG"];
  if (named !== undefined && named !== "") return resolve(place.cwd, named);
  const candidates = ["weir.yaml", join(".weir", "weir.yaml")].map((file) => join(place.cwd, file));
  const found = candidates.find((file) => existsSync(file));
  if (found !== undefined) return found;
  throw new WeirError(
    "ConfigInvalid",
    `Cannot find a cluster: neither "${candidates.join('" nor "')}" exists. ` +
      "Cure: start one here (weir start), or name its file: --config FILE",
  );
}

/** The configuration in that file, with the environment's variables over it. */
export function readConfig(place: ConfigPlace, path: string): Config {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    throw toWeirError(error, `Cannot read the configuration "${path}"`);
  }
  return loadConfig({ file: { path, text }, environment: place.environment });
}
