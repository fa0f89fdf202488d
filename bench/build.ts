/** Benches that start processes run the compiled code, as an installation does: built here when a source is newer. */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

const repository = fileURLToPath(new URL("..", import.meta.url));

/**
 * Builds `dist/` where it is stale, and lets the processes that are started from here on run it.
 * @throws Error when the sources do not compile
 */
export function buildForBench(): void {
  if (process.env["WEIR_TEST_DIST"] === "1") return;
  const { status, stdout, stderr } = spawnSync("sh", ["scripts/build.sh"], {
    cwd: repository,
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(`it does not compile:\n${stdout}${stderr}`);
  process.env["WEIR_TEST_DIST"] = "1";
}
