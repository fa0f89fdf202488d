/** All planted bugs. */
import { accessMutants } from "./access-bugs.ts";
import { clientMutants } from "./client-bugs.ts";
import { contentMutants } from "./content-bugs.ts";
import { coreMutants } from "./core-bugs.ts";
import { edgeMutants } from "./edge-bugs.ts";
import { hostMutants } from "./host-bugs.ts";
import { journalMutants } from "./journal-bugs.ts";
import { metadataMutants } from "./metadata-bugs.ts";
import { mountMutants } from "./mount-bugs.ts";
import type { Mutant } from "./mutant.ts";
import { pathMutants } from "./path-bugs.ts";
import { serviceMutants } from "./service-bugs.ts";
import { stateMutants } from "./state-bugs.ts";

export const allMutants: readonly Mutant[] = [
  ...coreMutants,
  ...hostMutants,
  ...journalMutants,
  ...stateMutants,
  ...contentMutants,
  ...pathMutants,
  ...mountMutants,
  ...metadataMutants,
  ...serviceMutants,
  ...clientMutants,
  ...accessMutants,
  ...edgeMutants,
];
