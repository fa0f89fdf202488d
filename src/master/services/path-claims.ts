/** Paths below one mount that are in use, so that work on equal, higher and lower paths can wait for them. */
export class PathClaims {
  readonly #claimed = new Set<string>();
  /** All directories above a claimed path. */
  readonly #above = new Set<string>();

  /** True when one of `paths` is a claimed one, or lies above or below one. */
  conflict(paths: readonly string[]): boolean {
    return paths.some((path) => {
      if (this.#claimed.has(path) || this.#above.has(path)) return true;
      for (const directory of directoriesAbove(path)) {
        if (this.#claimed.has(directory)) return true;
      }
      return false;
    });
  }

  claim(paths: readonly string[]): void {
    for (const path of paths) {
      this.#claimed.add(path);
      for (const directory of directoriesAbove(path)) this.#above.add(directory);
    }
  }
}

/** "a/b/c" → "a/b", "a", "". */
function* directoriesAbove(path: string): Iterable<string> {
  let at = path;
  while (at !== "") {
    at = at.slice(0, Math.max(0, at.lastIndexOf("/")));
    yield at;
  }
}
