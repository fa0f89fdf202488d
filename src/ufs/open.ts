/** Opening a store by its address. */
import { WeirError } from "../lib/errors.ts";
import { LocalFileSystem } from "./local.ts";
import { readOnlyView } from "./read-only.ts";
import { openS3 } from "./s3.ts";
import type { UnderFileSystem } from "./types.ts";
import { parseStoreUri } from "./uri.ts";

/** Keys that a mount of the scheme may have among its options; unknown ones are refused. */
const knownOptions = {
  file: [],
  s3: ["endpoint", "region", "accessKey", "secretKey", "sessionToken", "pathStyle"],
} as const;
/** Of all schemes: about the mount, not the store. In milliseconds; -1: never. */
const syncIntervalOption = "syncIntervalMs";

/**
 * @throws WeirError `InvalidArgument` for an address or option that makes no sense, `NotFound` or `NotDirectory` for a
 * missing directory, `PermissionDenied` for one that is closed. A bucket is not contacted.
 */
export async function openUfs(target: {
  readonly uri: string;
  readonly readOnly: boolean;
  readonly options: Readonly<Record<string, string>>;
}): Promise<UnderFileSystem> {
  const address = parseStoreUri(target.uri);
  const known: readonly string[] = [...knownOptions[address.scheme], syncIntervalOption];
  const interval = target.options[syncIntervalOption];
  if (interval !== undefined && !/^(-1|\d{1,12})$/.test(interval)) {
    throw new WeirError(
      "InvalidArgument",
      `Cannot use ${target.uri}: "${syncIntervalOption}" is "${interval}", wanted -1, or milliseconds from 0`,
    );
  }
  for (const option of Object.keys(target.options)) {
    if (known.includes(option)) continue;
    throw new WeirError(
      "InvalidArgument",
      `Cannot use ${target.uri}: "${option}" is no option of ${address.scheme} stores, wanted ${known.join(", ")}`,
    );
  }
  const store =
    address.scheme === "file"
      ? await LocalFileSystem.open(target.uri, address.directory)
      : await openS3(address, target.options);
  return target.readOnly ? readOnlyView(store) : store;
}

/**
 * Refuses what could not be mounted: also contacts the store, for at most 5 s.
 * @throws WeirError as `openUfs`, and `Unavailable`, `NotFound` or `PermissionDenied` from the store
 */
export async function validateUri(
  uri: string,
  options: Readonly<Record<string, string>>,
): Promise<void> {
  const store = await openUfs({ uri, readOnly: true, options });
  try {
    await store.list("", { limit: 1, signal: AbortSignal.timeout(5000) });
  } finally {
    await store.close();
  }
}
