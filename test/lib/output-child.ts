/**
 * A process that has only its output: it logs far more than a pipe holds, touches the file named first when it is through,
 * and ends as it is told second: `wait` for a signal, or `die` of a full disk.
 */
import { writeFileSync } from "node:fs";
import { setImmediate, setTimeout } from "node:timers/promises";
import { WeirError } from "../../src/lib/errors.ts";
import { createLogger } from "../../src/lib/logger.ts";
import { die, sayReady, stopOnSignals } from "../../src/lib/process.ts";

const [markPath, end] = process.argv.slice(2) as [string, "wait" | "die"];
const doing = "Cannot go on as a test";
process.on("uncaughtException", (error) => die(error, doing));
process.on("unhandledRejection", (error) => die(error, doing));

const logger = createLogger("child");
stopOnSignals({ stop: () => setImmediate(), logger, doing });
sayReady({ pid: process.pid });
for (let round = 0; round < 40; round++) {
  for (let i = 0; i < 10; i++) logger.info({ round, i, text: "x".repeat(10_000) }, "working");
  // Time for writes to fail, and for their errors to come back.
  await setTimeout(1);
}
writeFileSync(markPath, "through");
if (end === "die") die(new WeirError("DiskFull", "The end"), doing);
setInterval(() => logger.info({}, "waiting"), 20);
