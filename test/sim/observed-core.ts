/** The real core, looked at after every turn; where a bug is planted, what it says is changed first. */
import { type Output, RaftCore } from "../../src/raft/core.ts";
import type { CoreOptions } from "../../src/raft/state.ts";

export class ObservedCore extends RaftCore {
  readonly #onOutput: (output: Output) => Output;

  constructor(options: CoreOptions, onOutput: (output: Output) => Output) {
    super(options);
    this.#onOutput = onOutput;
  }

  override take(): Output {
    return this.#onOutput(super.take());
  }
}
