/**
 * Patterns of paths: `*` any part of a name, `**` any part of a path, `?` one character of a name, `[a-z]` and `[!a-z]` one of
 * a set, `\` makes the next character an ordinary one. A pattern without `/` is one of the last name. Time and memory grow
 * with pattern × path at most, whatever the pattern. Pure.
 *
 * Source: pattern matching notation in the Shell and Utilities volume of POSIX.1-2017, and `**` as shells have it.
 */
import { WeirError } from "./errors.ts";

type Token =
  | { readonly kind: "literal"; readonly character: string }
  /** Any run of characters; with `deep` slashes too. */
  | { readonly kind: "any"; readonly deep: boolean }
  | { readonly kind: "one"; readonly fits: (character: string) => boolean };

/** Longest pattern, in characters. */
export const longestPattern = 1024;

/**
 * Whether a path (without a slash at its start) fits.
 * @throws WeirError `InvalidArgument` for what is no pattern
 */
export function compileGlob(pattern: string): (path: string) => boolean {
  const tokens = tokensOf(pattern);
  if (pattern.includes("/")) return (path) => fits(tokens, path);
  return (path) => fits(tokens, path.slice(path.lastIndexOf("/") + 1));
}

function tokensOf(pattern: string): Token[] {
  if (pattern === "" || pattern.length > longestPattern) {
    throw flaw(pattern, `it has ${String(pattern.length)} characters, wanted 1 to 1024`);
  }
  const tokens: Token[] = [];
  let at = 0;
  while (at < pattern.length) {
    const character = pattern[at++]!;
    if (character === "*") {
      const deep = pattern[at] === "*";
      while (pattern[at] === "*") at++;
      // What stands before a name may be nothing at all: `**/a` is also `a`.
      if (deep && pattern[at] === "/" && isStart(tokens)) {
        at++;
        tokens.push({ kind: "any", deep: true }, { kind: "one", fits: never });
        continue;
      }
      tokens.push({ kind: "any", deep });
    } else if (character === "?") {
      tokens.push({ kind: "one", fits: (each) => each !== "/" });
    } else if (character === "[") {
      const [fits, end] = setAt(pattern, at);
      tokens.push({ kind: "one", fits });
      at = end;
    } else if (character === "\\") {
      if (at === pattern.length) throw flaw(pattern, "it ends with a backslash");
      tokens.push({ kind: "literal", character: pattern[at++]! });
    } else {
      tokens.push({ kind: "literal", character });
    }
  }
  return tokens;
}

/** Marks the end of `**` + `/`: it fits nothing, and `fits` passes it at the start of a name. */
const never = () => false;

function isStart(tokens: readonly Token[]): boolean {
  const last = tokens.at(-1);
  if (last?.kind === "one") return last.fits === never;
  return last === undefined || (last.kind === "literal" && last.character === "/");
}

/** The set behind a `[` and the place behind its `]`. */
function setAt(pattern: string, from: number): [(character: string) => boolean, number] {
  let at = from;
  const isNegated = pattern[at] === "!" || pattern[at] === "^";
  if (isNegated) at++;
  const ranges: [string, string][] = [];
  // A bracket that comes first is one of the set.
  for (let first = true; first || pattern[at] !== "]"; first = false) {
    const low = pattern[at++];
    if (low === undefined) throw flaw(pattern, 'a "[" has no "]"');
    if (pattern[at] === "-" && pattern[at + 1] !== "]" && pattern[at + 1] !== undefined) {
      ranges.push([low, pattern[at + 1]!]);
      at += 2;
    } else {
      ranges.push([low, low]);
    }
  }
  const has = (each: string) => ranges.some(([low, high]) => low <= each && each <= high);
  return [(each) => each !== "/" && has(each) !== isNegated, at + 1];
}

function flaw(pattern: string, why: string): WeirError {
  const shown = pattern.length > 80 ? `${pattern.slice(0, 80)}…` : pattern;
  return new WeirError("InvalidArgument", `Cannot use the pattern "${shown}": ${why}`);
}

/** Steps through the path with the set of places in the pattern that fit so far. */
function fits(tokens: readonly Token[], path: string): boolean {
  let open = new Uint8Array(tokens.length + 1);
  open[0] = 1;
  pass(tokens, open, true);
  for (let i = 0; i < path.length; i++) {
    const character = path[i]!;
    const next = new Uint8Array(tokens.length + 1);
    for (let at = 0; at < tokens.length; at++) {
      if (open[at] === 0) continue;
      const token = tokens[at]!;
      if (token.kind === "any") {
        if (token.deep || character !== "/") next[at] = 1;
      } else if (token.kind === "literal" ? token.character === character : token.fits(character)) {
        next[at + 1] = 1;
      }
    }
    pass(tokens, next, character === "/");
    open = next;
  }
  return open[tokens.length] === 1;
}

/** Adds the places that need no character. */
function pass(tokens: readonly Token[], open: Uint8Array, isStartOfName: boolean): void {
  for (let at = 0; at < tokens.length; at++) {
    if (open[at] === 0) continue;
    const token = tokens[at]!;
    const isEnd = token.kind === "one" && token.fits === never;
    if (token.kind === "any" || (isEnd && isStartOfName)) open[at + 1] = 1;
  }
}
