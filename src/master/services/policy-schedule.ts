/** Starts the runs of data policies whose time has come. Lives as long as one reign; when each is next is in the state. */
import type { Clock } from "../../lib/clock.ts";
import type { DataPolicyId } from "../../lib/ids.ts";
import type { Logger } from "../../lib/logger.ts";
import type { Command, CommandResult } from "../../rpc/commands.ts";
import type { DataPolicyInfo } from "../../rpc/namespace.ts";
import { dataPoliciesOf } from "../state/queries.ts";
import type { PointReader } from "../store/types.ts";
import type { Reign } from "./leadership.ts";

const everyMs = 5000;
/** One that was refused (its directory or a layer is gone) is tried again so much later. */
const refusedPauseMs = 60_000;

export interface PolicyScheduleOptions {
  readonly reader: PointReader;
  readonly propose: (commands: readonly Command[], signal: AbortSignal) => Promise<CommandResult[]>;
  readonly reign: Reign;
  readonly clock: Clock;
  readonly logger: Logger;
}

export class PolicySchedule {
  readonly #options: PolicyScheduleOptions;
  /** Monotonic times before which policies that were refused are left alone. */
  readonly #refused = new Map<DataPolicyId, number>();
  #cancel: () => void = () => undefined;

  constructor(options: PolicyScheduleOptions) {
    this.#options = options;
    options.reign.signal.addEventListener("abort", () => this.#cancel());
    this.#plan();
  }

  #plan(): void {
    const { clock, reign, logger } = this.#options;
    if (reign.signal.aborted) return;
    this.#cancel = clock.after(everyMs, () => {
      void this.#look()
        .catch((thrown: unknown) => {
          if (!reign.signal.aborted) {
            logger.warn({ error: String(thrown) }, "runs of data policies were not started");
          }
        })
        .finally(() => this.#plan());
    });
  }

  async #look(): Promise<void> {
    const { reader, propose, reign, logger } = this.#options;
    const due = dataPoliciesOf(reader).filter((each) => this.#isDue(each));
    if (due.length === 0) return;
    const commands = due.map(({ name }) => {
      return { kind: "runDataPolicy", name, isTrial: false } as const;
    });
    const results = await propose(commands, reign.signal);
    results.forEach((result, i) => {
      const { id, name } = due[i]!;
      this.#refused.delete(id);
      if (result.ok) return;
      this.#refused.set(id, this.#options.clock.monotonicMs() + refusedPauseMs);
      logger.warn({ policy: name, error: result.detail }, "a data policy cannot run");
    });
  }

  #isDue({ id, nextRunAt, running }: DataPolicyInfo): boolean {
    const { clock } = this.#options;
    if (nextRunAt === undefined || running !== undefined) return false;
    const isPaused = clock.monotonicMs() < (this.#refused.get(id) ?? 0);
    return !isPaused && nextRunAt.sec * 1000 <= clock.wallMs();
  }
}
