/** The program of a swarm's processes. */
import { simulateRaft } from "./raft-simulation.ts";
import { serveShares } from "./swarm-work.ts";

serveShares(simulateRaft);
