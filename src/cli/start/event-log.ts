/** What the supervisor notices by itself: into its log file, and onto the screen unless that is busy with the tour. */
import { appendFileSync } from "node:fs";
import { type Output, paint } from "../output.ts";
import { type Layout, logOf } from "./layout.ts";

export class EventLog {
  /** Events go to the file alone. */
  quiet = false;
  readonly #output: Output;
  readonly #early: string[] = [];
  #file: string | undefined;

  constructor(output: Output) {
    this.#output = output;
  }

  add(line: string): void {
    const stamped = `${new Date().toISOString()} ${line}\n`;
    if (this.#file === undefined) this.#early.push(stamped);
    else this.#append(stamped);
    if (this.quiet) return;
    if (this.#output.json) this.#output.write(`${JSON.stringify({ event: line })}\n`);
    else this.#output.write(paint(this.#output, "dim", `· ${line}\n`));
  }

  /** From now on events are kept in `supervisor.log`, those before included. */
  writeTo(layout: Layout): void {
    this.#file = logOf(layout, "supervisor");
    for (const line of this.#early) this.#append(line);
  }

  #append(line: string): void {
    try {
      appendFileSync(this.#file!, line);
    } catch {
      // A full disk or a removed directory must not end the supervisor.
    }
  }
}
