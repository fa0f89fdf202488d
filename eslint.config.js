// Lint rules: typescript-eslint's strict set, and the two structural rules of docs/ARCHITECTURE.md:
// who may import whom, and which files stay pure.
import tseslint from "typescript-eslint";

/** Folder → folders below src/ that it may import. `main.ts` files are composition roots and may import anything. */
const mayImport = {
  lib: [],
  raft: ["lib"],
  journal: ["lib", "raft"],
  rpc: ["lib"],
  master: ["lib", "raft", "journal", "rpc", "lineage"],
  ufs: ["lib"],
  blocks: ["lib"],
  worker: ["lib", "rpc", "blocks", "ufs", "lineage"],
  lineage: ["lib", "rpc"],
  client: ["lib", "rpc", "blocks"],
  fuse: ["lib", "client", "rpc"],
  // Backups and stopped masters' files are the masters' own: the offline tools for them live there.
  cli: ["lib", "client", "rpc", "journal", "master/backup", "master/fsck"],
};

const dependencyRules = Object.entries(mayImport).map(([folder, allowed]) => ({
  files: [`src/${folder}/**/*.ts`],
  ignores: ["**/main.ts"],
  rules: {
    "no-restricted-imports": [
      "error",
      {
        patterns: [
          {
            regex: `^(\\.\\./)+(?!${[folder, ...allowed].join("|")})(${Object.keys(mayImport).join("|")})/`,
            message: `src/${folder} may import only: ${allowed.join(", ") || "nothing of ours"}.`,
          },
          ...(folder === "blocks"
            ? []
            : [{ group: ["nats"], message: "Only src/blocks speaks NATS." }]),
        ],
      },
    ],
  },
}));

/** Deterministic by construction: no time, chance, promise or process of their own. */
const pureFiles = [
  "src/raft/**/*.ts",
  "src/master/state/**/*.ts",
  "src/master/fsck/{check-context,differences,directory-tree,fact-set,finding,relation,state-check,*-rows}.ts",
  "src/worker/eviction*.ts",
  "src/lineage/graph.ts",
  "src/lineage/plan.ts",
];

export default tseslint.config(
  { ignores: ["dist/", "node_modules/", "mnt/", ".weir/", "results/"] },
  ...tseslint.configs.strictTypeChecked.map((config) => ({ ...config, files: ["**/*.ts"] })),
  {
    files: ["**/*.ts"],
    languageOptions: {
      parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname },
    },
    rules: {
      "@typescript-eslint/switch-exhaustiveness-check": "error",
      // A value that the code above has just proved is said with `!`; types that lie are still refused.
      "@typescript-eslint/no-non-null-assertion": "off",
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_" }],
      "@typescript-eslint/restrict-template-expressions": ["error", { allowNumber: true }],
      "@typescript-eslint/no-confusing-void-expression": ["error", { ignoreArrowShorthand: true }],
      "@typescript-eslint/require-await": "off",
      "@typescript-eslint/unified-signatures": "off",
      // `while (!closed)`: flow analysis does not see what other turns of the event loop change.
      "@typescript-eslint/no-unnecessary-condition": "off",
    },
  },
  ...dependencyRules,
  {
    files: pureFiles,
    ignores: ["src/raft/node.ts", "src/raft/transport.ts", "src/raft/host/**"],
    rules: {
      "no-restricted-globals": [
        "error",
        ..."Date process console setTimeout setInterval setImmediate queueMicrotask performance Promise".split(
          " ",
        ),
      ],
      "no-restricted-properties": ["error", { object: "Math", property: "random" }],
      "no-restricted-syntax": [
        "error",
        { selector: "AwaitExpression", message: "Pure files do not wait." },
        {
          selector: "CallExpression[callee.property.name='localeCompare']",
          message: "Order by code units.",
        },
      ],
      "@typescript-eslint/no-restricted-imports": [
        "error",
        {
          patterns: [
            { regex: "^node:(?!zlib|assert|buffer)", message: "Pure files import only src/lib." },
          ],
        },
      ],
    },
  },
  {
    files: ["test/**/*.ts", "jepsen-like/**/*.ts", "bench/**/*.ts"],
    rules: { "@typescript-eslint/no-unused-expressions": "off" },
  },
);
