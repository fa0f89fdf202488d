/** `weir stop`: asks the supervisor of this directory's cluster to take everything down, and waits for it. */
import type { Command } from "commander";
import { sleep } from "../../lib/clock.ts";
import { WeirError } from "../../lib/errors.ts";
import { type CliContext, type CommonOptions, outputOf, withCommonOptions } from "../context.ts";
import { answer } from "../output.ts";
import { layoutOf } from "../start/layout.ts";
import { lockHolder } from "../start/lock.ts";
import { isAlive, signalProcess } from "../start/process-identity.ts";

const limitMs = 15_000;

export function registerStop(program: Command, context: CliContext): void {
  withCommonOptions(program.command("stop"))
    .description("end the cluster that `weir start` runs for this directory")
    .addHelpText("after", "\nExamples:\n  $ weir stop")
    .action(async (options: CommonOptions) => {
      const layout = layoutOf(context.cwd);
      const supervisor = lockHolder(layout.lock);
      if (supervisor === undefined) {
        throw new WeirError(
          "NotFound",
          `Cannot stop: no cluster runs here ("${layout.lock}" names no live process)`,
        );
      }
      signalProcess(supervisor, "SIGTERM");
      const endMs = performance.now() + limitMs;
      while (isAlive(supervisor)) {
        if (performance.now() > endMs) {
          throw new WeirError(
            "DeadlineExceeded",
            `Cannot stop: process ${String(supervisor.pid)} is still there after ${String(limitMs / 1000)} s. ` +
              `Cure: kill -9 ${String(supervisor.pid)}; the next start cleans up`,
          );
        }
        await sleep(50);
      }
      answer(outputOf(context, options), { stopped: supervisor.pid }, () => "Stopped");
    });
}
