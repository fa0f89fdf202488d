/**
 * Loaded into a process with `--import`: SIGUSR2 starts a CPU profile, the next SIGUSR2 writes it to
 * `$WEIR_PROFILE_DIR/<name>-<count>.cpuprofile` (for the performance tab of Chrome, or speedscope) and so on.
 */
import { renameSync, writeFileSync } from "node:fs";
import { Session } from "node:inspector";
import { basename, dirname, join } from "node:path";

const directory = process.env["WEIR_PROFILE_DIR"];
if (directory !== undefined) {
  const session = new Session();
  session.connect();
  session.post("Profiler.enable");
  session.post("Profiler.setSamplingInterval", { interval: 200 });
  const named = process.argv.indexOf("--name");
  const name = named < 0 ? basename(dirname(process.argv[1] ?? "node")) : process.argv[named + 1]!;
  let count = 0;
  let isOn = false;
  process.on("SIGUSR2", () => {
    isOn = !isOn;
    if (isOn) {
      session.post("Profiler.start");
      return;
    }
    const path = join(directory, `${name}-${String(++count)}.cpuprofile`);
    session.post("Profiler.stop", (error, result) => {
      if (error !== null) throw error;
      writeFileSync(`${path}.tmp`, JSON.stringify(result.profile));
      renameSync(`${path}.tmp`, path);
    });
  });
}
