/** Logging as a seam: pino behind a small interface, so that pure parts need not know of it. */
import { pino } from "pino";
import { LineOutput } from "./output.ts";

export interface Logger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/**
 * A logger that writes JSON lines to standard output; `component` is in every line. Lines that nobody takes are lost, and
 * counted in a line when one is taken again. (pino's own output ends the process on a full disk, or rather not even that:
 * at its exit it tries again without end.)
 */
export function createLogger(component: string, level = "info"): Logger {
  const output = new LineOutput(process.stdout, (lines) =>
    logger.warn({ lines }, "log lost lines"),
  );
  const options = {
    level,
    base: { component, pid: process.pid },
    timestamp: pino.stdTimeFunctions.isoTime,
  };
  const logger = pino(options, output);
  return logger;
}

/** A logger that keeps quiet. */
export const silentLogger: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};
