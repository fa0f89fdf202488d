/**
 * Which connections are those of workers: the ones on which the secret of the cluster was proved. What tells of credentials
 * or takes a worker at its word is served to them alone. Without a secret everybody is taken for a worker.
 *
 * Invariants
 * 1. A nonce is good for one proof, right or wrong, and only on the connection that asked for it.
 * 2. A connection that was proved stays so until it ends, and no longer.
 */
import type { ClusterSecret } from "../../lib/cluster-secret.ts";
import { WeirError } from "../../lib/errors.ts";
import { masterApi } from "../../rpc/master-api.ts";
import type { CallContext, RpcServer } from "../../rpc/server.ts";
import { isProof, newNonce } from "../../rpc/worker-proof.ts";

type Connection = CallContext["connection"];
type Handler<Q, S> = (request: Q, call: CallContext) => S | Promise<S>;

const cure =
  'Cure: give the worker the masters\' file as "security.secretFile" (WEIR_SECURITY_SECRET_FILE), and start it again';

export class WorkerProofs {
  readonly #secret: ClusterSecret | undefined;
  /** By the ids of the connections that asked for a nonce. */
  readonly #connections = new Map<number, { nonce: string | undefined; isProved: boolean }>();

  constructor(secret: ClusterSecret | undefined) {
    this.#secret = secret;
  }

  /** The nonce that the next proof of the connection is to be made for; undefined: none is wanted. */
  challenge(connection: Connection): string | undefined {
    if (this.#secret === undefined) return undefined;
    const { id } = connection;
    let known = this.#connections.get(id);
    if (known === undefined) {
      known = { nonce: undefined, isProved: false };
      this.#connections.set(id, known);
      connection.onClose(() => this.#connections.delete(id));
    }
    known.nonce = newNonce();
    return known.nonce;
  }

  /** @throws WeirError `PermissionDenied` for a wrong proof, and for one that no nonce was asked for */
  prove({ id }: Connection, proof: string): void {
    if (this.#secret === undefined) return;
    const known = this.#connections.get(id);
    const nonce = known?.nonce;
    if (known !== undefined) known.nonce = undefined;
    if (known === undefined || nonce === undefined || !isProof(this.#secret, nonce, proof)) {
      throw new WeirError(
        "PermissionDenied",
        `Cannot take the proof of a worker: it was not made with this master's secret. ${cure}`,
      );
    }
    known.isProved = true;
  }

  /** The handler, for workers alone: others are answered `PermissionDenied`. */
  only<Q, S>(name: string, handler: Handler<Q, S>): Handler<Q, S> {
    return (request, call) => {
      if (
        this.#secret !== undefined &&
        this.#connections.get(call.connection.id)?.isProved !== true
      ) {
        throw new WeirError(
          "PermissionDenied",
          `Cannot call "${name}": it is for workers, and this connection has not proved the secret of the cluster. ${cure}`,
        );
      }
      return handler(request, call);
    };
  }
}

export function serveWorkerProofs(server: RpcServer, proofs: WorkerProofs): void {
  server.handle(masterApi.workerChallenge, (_request, { connection }) => ({
    nonce: proofs.challenge(connection),
  }));
  server.handle(masterApi.workerProof, ({ proof }, { connection }) => {
    proofs.prove(connection, proof);
    return {};
  });
}
