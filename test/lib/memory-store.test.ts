import { describeUfsContract } from "../contract/ufs.ts";
import { MemoryStore } from "./memory-store.ts";

describe("a store in the heap as under storage", () => {
  describeUfsContract({ open: () => Promise.resolve(new MemoryStore()), changesAttributes: true });
});
