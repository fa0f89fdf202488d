/** `weir fs mount`, `unmount`, `update-mount` and `mounts`: the mount table from the command line. */
import { type Command, InvalidArgumentError } from "commander";
import type { LayerChange, MountChanges } from "../../client/mounts.ts";
import { WeirError } from "../../lib/errors.ts";
import type { MountInfo } from "../../rpc/namespace.ts";
import { withPaths } from "../attempt.ts";
import { type CliContext, type CommonOptions, type commandsBelow, withClient } from "../context.ts";
import { answer, countOf, table } from "../output.ts";
import { parsePath, showPath } from "../paths.ts";
import { layerChangesFrom, layersFrom, splitOptions } from "./layers.ts";
import { collectPairs, storeOptions } from "./store-options.ts";

interface StoreFlags {
  readonly option?: Record<string, string>;
  readonly optionFile?: string;
}

interface MountFlags extends CommonOptions, StoreFlags {
  readonly readOnly?: true;
  readonly private?: true;
  readonly overlap?: true;
  readonly layer?: Record<string, string>;
  readonly write?: string;
  readonly readOnlyLayer?: readonly string[];
}

interface UpdateFlags extends CommonOptions, StoreFlags {
  readonly unset?: readonly string[];
  readonly readOnly?: true;
  readonly readWrite?: true;
  readonly shared?: true;
  readonly private?: true;
  readonly overlap?: true;
  readonly addLayer?: Record<string, string>;
  readonly removeLayer?: readonly string[];
  readonly order?: readonly string[];
}

export function registerMounts(
  command: ReturnType<typeof commandsBelow>,
  context: CliContext,
): void {
  withStoreOptions(
    command(
      "mount <path> [uri]",
      "mount a store at a path: file:///directory or s3://bucket/prefix; or several, with --layer",
      [
        "mount /data file:///srv/data --read-only",
        "mount /photos s3://photos --option endpoint=http://127.0.0.1:7480 --option-file photos.options",
        "mount /photos s3://photos --option accessKey=@env:ACCESS_KEY --option secretKey=@env:SECRET_KEY",
        "mount /data --layer hot=file:///fast --layer cold=s3://bucket --write hot --option-file cold.options",
      ],
    ),
  )
    .option(
      "--layer <name=uri>",
      "one of several stores under the path, the first one with most priority; its options are NAME.KEY",
      collectPairs,
    )
    .option("--write <name>", "the layer that takes what is written")
    .option("--read-only-layer <name>", "change nothing in that layer", collectNames)
    .option("--read-only", "refuse every change below")
    .option(
      "--private",
      "let only who mounts it and the superuser in (default: whom the modes let)",
    )
    .option(
      "--overlap",
      "though another mount has the same store or a part of it, and neither sees the changes of the other",
    )
    .action((path: string, uri: string | undefined, options: MountFlags) => {
      const what = uri ?? Object.keys(options.layer ?? {}).join("+");
      return withPaths(
        context,
        options,
        { verb: "mount", subjects: [what, path], preposition: "at" },
        async (client, output) => {
          const readOnly = options.readOnly === true;
          const shared = options.private !== true;
          const rights = { readOnly, shared, overlap: options.overlap === true };
          const given = storeOptions(context, options.option ?? {}, options.optionFile);
          if ((uri === undefined) === (options.layer === undefined)) {
            throw new WeirError(
              "InvalidArgument",
              `Cannot mount at "${path}": wanted an address, or layers, and not both`,
            );
          }
          if (uri === undefined) {
            const readOnlyLayers = options.readOnlyLayer ?? [];
            const { own, layered } = splitOptions(given);
            const named = { layers: options.layer!, readOnly: readOnlyLayers };
            const layers = layersFrom(named, layered);
            await client.mountUnion(parsePath(path), {
              ...rights,
              options: own,
              layers,
              writeLayer: options.write,
            });
          } else {
            await client.mount(parsePath(path), uri, { ...rights, options: given });
          }
          const layers = options.layer === undefined ? {} : { layers: options.layer };
          answer(
            output,
            { path, uri, readOnly, shared, ...layers },
            () => `Mounted ${what} at ${path}`,
          );
        },
      );
    });
  withStoreOptions(
    command("update-mount <path>", "change a mount while it is in use", [
      "update-mount /photos --option accessKey=@env:ACCESS_KEY --option secretKey=@env:SECRET_KEY",
      "update-mount /photos --unset sessionToken",
      "update-mount /data --read-only",
      "update-mount /data --read-write --shared",
      "update-mount /data --add-layer archive=file:///archive --order hot,cold,archive",
    ]),
  )
    .option("--unset <key>", "take an option away; can be given several times", collectNames)
    .option("--read-only", "refuse every change below from now on")
    .option("--read-write", "take changes from now on")
    .option("--shared", "let in whom the modes let")
    .option("--private", "let only who mounted it and the superuser in")
    .option("--overlap", "though another mount has the same store or a part of it")
    .option("--add-layer <name=uri>", "a further layer, behind the others", collectPairs)
    .option("--remove-layer <name>", "a layer that goes; its store keeps its files", collectNames)
    .option("--order <names>", "the layers in order of priority, with commas", (text: string) =>
      text.split(","),
    )
    .action((path: string, options: UpdateFlags) =>
      withPaths(
        context,
        options,
        { verb: "update the mount at", subjects: [path] },
        async (client, output) => {
          const at = parsePath(path);
          const set = storeOptions(context, options.option ?? {}, options.optionFile);
          const unset = options.unset ?? [];
          const mount = (await client.mounts()).find((each) => each.path === at);
          const isOfLayers = options.addLayer ?? options.removeLayer ?? options.order;
          if (mount !== undefined && mount.layers === undefined && isOfLayers !== undefined) {
            throw new WeirError(
              "InvalidArgument",
              `Cannot update the mount at "${path}": "${mount.uri}" is one store and has no layers`,
            );
          }
          const layers = mount?.layers === undefined ? undefined : layersOf(mount, options, set);
          const readOnly = oneOf(options, "readOnly", "readWrite");
          const shared = oneOf(options, "shared", "private");
          const count = Object.keys(set).length + unset.length;
          if ((readOnly ?? shared ?? layers) === undefined && count === 0) {
            throw new WeirError(
              "InvalidArgument",
              `Cannot update the mount at "${path}": nothing is to be changed, wanted an option such as --read-only`,
            );
          }
          await client.updateMount(at, {
            ...{ readOnly, shared, layers },
            ...(options.overlap === true ? { overlap: true } : {}),
            ...(mount?.layers === undefined ? { set, unset } : ownOf(set, unset)),
          });
          const changed = {
            ...(readOnly === undefined ? {} : { readOnly }),
            ...(shared === undefined ? {} : { shared }),
            ...(layers === undefined ? {} : { layers: layers.map(({ name }) => name) }),
            // Of options only the names: a value may be a secret.
            ...(count === 0 ? {} : { set: Object.keys(set), unset }),
          };
          answer(output, { path, ...changed }, () => `Updated the mount at ${path}`);
        },
      ),
    );
  command("unmount <path>", "take a mount away; its store keeps its files", [
    "unmount /data",
    "unmount /data --force",
  ])
    .option(
      "--force",
      "for a store that is gone: give up changes and content that it does not have",
    )
    .action((path: string, options: CommonOptions & { readonly force?: true }) =>
      withPaths(context, options, { verb: "unmount", subjects: [path] }, async (client, output) => {
        const force = options.force === true;
        const givenUp = await client.unmount(parsePath(path), { force });
        const lost =
          givenUp === 0 ? "" : `, and gave up ${countOf(givenUp, "change")} of its store`;
        answer(output, { path, ...(force ? { givenUp } : {}) }, () => `Unmounted ${path}${lost}`);
      }),
    );
  command("mounts", "list the mounts, and whether their stores answer", ["mounts"]).action(
    (options: CommonOptions) =>
      withClient(context, options, async (client, output) => {
        const mounts = (await client.mounts()).map((mount) => ({
          ...mount,
          path: showPath(mount.path),
        }));
        answer(output, mounts, mountsText);
      }),
  );
}

function layersOf(
  mount: MountInfo,
  { addLayer = {}, removeLayer = [], order = [], unset = [] }: UpdateFlags,
  set: Readonly<Record<string, string>>,
): LayerChange[] | undefined {
  return layerChangesFrom(mount, {
    ...{ added: addLayer, removed: removeLayer, order },
    set: splitOptions(set).layered,
    unset: unset.filter((key) => key.includes(".")),
  });
}

/** What of the options is of a union itself. */
function ownOf(
  set: Readonly<Record<string, string>>,
  unset: readonly string[],
): Pick<MountChanges, "set" | "unset"> {
  return { set: splitOptions(set).own, unset: unset.filter((key) => !key.includes(".")) };
}

/** The mounts as people read them. */
function mountsText(mounts: readonly MountInfo[]): string {
  return table(
    ["PATH", "STORE", "ACCESS", "HEALTH", "OPTIONS"],
    mounts.flatMap((mount) => [
      [
        mount.path,
        mount.uri,
        `${mount.readOnly ? "read-only" : "read-write"}${mount.shared === false ? ", private" : ""}`,
        healthText(mount),
        optionsText(mount.options),
      ],
      ...(mount.layers ?? []).map(({ name, uri, readOnly, options }) => [
        `  ${name}`,
        uri,
        readOnly ? "read-only" : name === mount.writeLayer ? "written" : "read-write",
        healthText({ unhealthy: mount.unhealthy?.filter(({ layer }) => layer === name) ?? [] }),
        optionsText(options),
      ]),
    ]),
  );
}

function optionsText(options: MountInfo["options"]): string {
  return Object.entries(options)
    .map(([key, value]) => `${key}=${value}`)
    .join(" ");
}

/** Whether the store of a mount answers the workers. */
export function healthText({ unhealthy = [] }: Pick<MountInfo, "unhealthy">): string {
  const [worst] = [...unhealthy].sort((a, b) => b.forMs - a.forMs);
  if (worst === undefined) return "ok";
  const workers = unhealthy.map(({ worker }) => String(worker)).join(", ");
  const seconds = String(Math.round(worst.forMs / 1000));
  return `no answer to worker ${workers} for ${seconds} s: ${worst.reason}`;
}

function withStoreOptions(command: Command): Command {
  return command
    .option(
      "-o, --option <key=value>",
      "of the store; can be given several times; the value @env:NAME stands for a variable",
      collectPairs,
    )
    .option("--option-file <file>", "more of them, a line key=value each: ps does not show them");
}

function collectNames(name: string, before: readonly string[] = []): readonly string[] {
  if (name === "" || name.includes("=")) throw new InvalidArgumentError("wanted the name alone");
  return [...before, name];
}

/** True for the first of two flags, false for the second, undefined for neither. */
function oneOf<K extends string>(
  flags: { readonly [key in K]?: true },
  yes: K,
  no: K,
): boolean | undefined {
  if (flags[yes] === true && flags[no] === true) {
    throw new WeirError(
      "InvalidArgument",
      `Cannot take both of the flags "${yes}" and "${no}": they contradict each other`,
    );
  }
  if (flags[yes] === true) return true;
  return flags[no] === true ? false : undefined;
}
