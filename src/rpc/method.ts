/**
 * What a remote procedure is: a name and the schemas of its request and answer. Server and client share these values,
 * so that neither can disagree with the other about a field.
 */
import type { Schema } from "../lib/schema.ts";

/** A procedure with one answer. */
export interface Method<Request, Response> {
  readonly name: string;
  readonly request: Schema<Request>;
  readonly response: Schema<Response>;
}

/** A procedure that answers with a stream of items until either side ends it. */
export interface StreamMethod<Request, Item> {
  readonly name: string;
  readonly request: Schema<Request>;
  readonly item: Schema<Item>;
}

export function method<Request, Response>(
  name: string,
  request: Schema<Request>,
  response: Schema<Response>,
): Method<Request, Response> {
  return { name, request, response };
}

export function streamMethod<Request, Item>(
  name: string,
  request: Schema<Request>,
  item: Schema<Item>,
): StreamMethod<Request, Item> {
  return { name, request, item };
}
