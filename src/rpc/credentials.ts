/** Which options of a store may be shown, and entries of the log as they may be shown to people: without the others. */
import { decode, encode } from "../lib/schema.ts";
import { type Command, entryPayload } from "./commands.ts";
import { type MountLayer, syncIntervalOption } from "./namespace.ts";

type Options = Readonly<Record<string, string>>;

/** All others are taken for credentials. */
const shownOptions: ReadonlySet<string> = new Set([
  "endpoint",
  "region",
  "pathStyle",
  syncIntervalOption,
]);

/** The options without credentials. */
export function withoutCredentials(options: Options): Record<string, string> {
  return Object.fromEntries(Object.entries(options).filter(([key]) => shownOptions.has(key)));
}

/** The bytes of an `entryPayload` with "hidden" in the place of credentials; of one without any as they are. */
export function payloadWithoutCredentials(payload: Uint8Array): Uint8Array {
  const entry = decode(entryPayload, payload, "an entry");
  let isChanged = false;
  const requests = entry.requests.map((request) => ({
    ...request,
    commands: request.commands.map((command) => {
      const shown = shownCommand(command);
      isChanged ||= shown !== command;
      return shown;
    }),
  }));
  return isChanged ? encode(entryPayload, { ...entry, requests }) : payload;
}

function shownCommand(command: Command): Command {
  if (command.kind === "bootstrap") {
    return { ...command, rootOptions: hidden(command.rootOptions) };
  }
  if (command.kind === "mount") {
    const { layers } = command;
    return {
      ...command,
      options: hidden(command.options),
      ...(layers === undefined ? {} : { layers: layers.map(hiddenLayer) }),
    };
  }
  if (command.kind !== "updateMount") return command;
  const layers = command.layers?.map((layer) => ({ ...layer, set: hidden(layer.set) }));
  return { ...command, set: hidden(command.set), ...(layers === undefined ? {} : { layers }) };
}

function hiddenLayer(layer: MountLayer): MountLayer {
  return { ...layer, options: hidden(layer.options) };
}

function hidden(options: Options): Record<string, string> {
  return Object.fromEntries(
    Object.entries(options).map(([key, value]) => [key, shownOptions.has(key) ? value : "hidden"]),
  );
}
