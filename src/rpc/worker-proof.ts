/**
 * How a worker proves to a master that it has the secret of the cluster, without showing it: the master sends a nonce that
 * it uses once, for one connection, and the worker answers with the HMAC-SHA256 of that nonce under the secret. A proof that
 * somebody saw is worth nothing on another connection.
 *
 * It proves who opens the connection, and no more: who can change what travels on it is kept out by the network.
 */
import { createHmac, randomBytes, timingSafeEqual } from "node:crypto";
import type { ClusterSecret } from "../lib/cluster-secret.ts";
import { hasCode } from "../lib/errors.ts";
import type { Introduce } from "./client.ts";
import { masterApi } from "./master-api.ts";

/** Sets these proofs apart from whatever else may be made with the secret. */
const purpose = "weir worker proof 1\n";
const nonceBytes = 32;

/** As hexadecimal text, of 256 random bits. */
export function newNonce(): string {
  return randomBytes(nonceBytes).toString("hex");
}

/** As hexadecimal text. */
export function proofOf(secret: ClusterSecret, nonce: string): string {
  return createHmac("sha256", secret).update(purpose).update(nonce).digest("hex");
}

/** Takes as long for a wrong proof as for a right one. */
export function isProof(secret: ClusterSecret, nonce: string, proof: string): boolean {
  const wanted = Buffer.from(proofOf(secret, nonce));
  const given = Buffer.from(proof);
  return given.length === wanted.length && timingSafeEqual(given, wanted);
}

/** What a worker says first on each connection to a master. One that asks for no proof, or is older than this, gets none. */
export function proveWorker(secret: ClusterSecret): Introduce {
  return async (call) => {
    let nonce: string | undefined;
    try {
      ({ nonce } = await call(masterApi.workerChallenge, {}));
    } catch (thrown) {
      if (hasCode(thrown, "NotSupported")) return;
      throw thrown;
    }
    if (nonce !== undefined) await call(masterApi.workerProof, { proof: proofOf(secret, nonce) });
  };
}
