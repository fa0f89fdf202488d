/** As `swarm-child.ts`, but in each seed that ends in 3 the state machine does not come back from an entry. */
import { simulateRaft } from "./raft-simulation.ts";
import { serveShares } from "./swarm-work.ts";

serveShares((options) =>
  options.seed % 10 === 3
    ? simulateRaft({ ...options, bug: { entry: loopForever } })
    : simulateRaft(options),
);

function loopForever(): never {
  for (;;);
}
