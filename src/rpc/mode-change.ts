/**
 * Changes of permission bits as chmod(1) writes them: a number, or clauses such as `u+rwX,g-w,o=`. As a value they mean the
 * same for every file of a tree, whatever its mode is then. Pure.
 *
 * Source: chmod in the Shell and Utilities volume of POSIX.1-2017.
 */
import { WeirError } from "../lib/errors.ts";
import { type Infer, list, optional, struct, unsigned, word } from "../lib/schema.ts";

/** Whose bits: u, g and o, as bits 2, 1 and 0. */
const whoBits: Readonly<Record<string, number>> = { u: 4, g: 2, o: 1, a: 7 };
/** What: x, w, r as bits 0 to 2, X as 3, s as 4, t as 5. */
const permissionBits: Readonly<Record<string, number>> = { r: 4, w: 2, x: 1, X: 8, s: 16, t: 32 };
const shiftOf = { u: 6, g: 3, o: 0 } as const;

const clause = struct({
  /** 1 … 7. */
  who: unsigned(),
  operation: word("add", "remove", "set"),
  /** 0 … 63. */
  permissions: unsigned(),
  /** The bits that this one has, in the place of `permissions`. */
  copied: optional(word("u", "g", "o")),
});
type Clause = Infer<typeof clause>;

export const modeChange = struct({
  /** All twelve bits as they shall be, 0 … 0o7777; the clauses are none then. */
  absolute: optional(unsigned()),
  /** In order. */
  clauses: list(clause),
});
export type ModeChange = Infer<typeof modeChange>;

const clausePattern = /^([ugoa]*)((?:[-+=](?:[rwxXst]*|[ugo]))+)$/;
const actionPattern = /([-+=])([rwxXst]*|[ugo])(?=$|[-+=])/g;
const operations = { "+": "add", "-": "remove", "=": "set" } as const;

/**
 * What `text` says. Without `u`, `g`, `o` or `a` a clause is for all of them: the umask of a shell is no matter here.
 * @throws WeirError `InvalidArgument`
 */
export function parseModeChange(text: string): ModeChange {
  if (/^[0-7]{1,4}$/.test(text)) return { absolute: parseInt(text, 8), clauses: [] };
  const clauses: Clause[] = [];
  for (const part of text.split(",")) {
    const [, who, actions] = clausePattern.exec(part) ?? [];
    if (who === undefined || actions === undefined) {
      throw new WeirError(
        "InvalidArgument",
        `Cannot use mode "${text}": wanted octal digits such as 755, or clauses such as u+rwX,g-w`,
      );
    }
    let bits = 0;
    for (const each of who === "" ? "a" : who) bits |= whoBits[each]!;
    for (const [, sign, what] of actions.matchAll(actionPattern)) {
      const operation = operations[sign as keyof typeof operations];
      if (what === "u" || what === "g" || what === "o") {
        clauses.push({ who: bits, operation, permissions: 0, copied: what });
        continue;
      }
      let permissions = 0;
      for (const each of what!) permissions |= permissionBits[each]!;
      clauses.push({ who: bits, operation, permissions, copied: undefined });
    }
  }
  return { absolute: undefined, clauses };
}

/** What is wrong with a change that a stranger sent, or undefined. */
export function flawOfModeChange({ absolute, clauses }: ModeChange): string | undefined {
  if (absolute !== undefined && absolute > 0o7777) return `mode ${absolute}, wanted 0 to 4095`;
  if (clauses.length > 64) return `${clauses.length} clauses, wanted at most 64`;
  const wrong = clauses.find(({ who, permissions }) => who < 1 || who > 7 || permissions > 63);
  return wrong && `a clause for ${wrong.who} of ${wrong.permissions}, wanted 1 to 7 of 0 to 63`;
}

/** The mode (0 … 0o7777) of a file that has `mode` once the change is made. */
export function changedMode(change: ModeChange, mode: number, isDirectory: boolean): number {
  if (change.absolute !== undefined) return change.absolute;
  let now = mode;
  for (const each of change.clauses) now = changedByClause(each, now, isDirectory);
  return now;
}

function changedByClause(
  { who, operation, permissions, copied }: Clause,
  mode: number,
  isDirectory: boolean,
): number {
  let wanted = permissions & 7;
  if (copied !== undefined) wanted = (mode >> shiftOf[copied]) & 7;
  // X: search for directories, and x for files that somebody may execute already.
  else if ((permissions & 8) !== 0 && (isDirectory || (mode & 0o111) !== 0)) wanted |= 1;
  let bits = 0;
  let reached = 0;
  if ((who & 4) !== 0) {
    bits |= wanted << 6;
    reached |= 0o700;
    if ((permissions & 16) !== 0) bits |= 0o4000;
  }
  if ((who & 2) !== 0) {
    bits |= wanted << 3;
    reached |= 0o070;
    if ((permissions & 16) !== 0) bits |= 0o2000;
  }
  if ((who & 1) !== 0) {
    bits |= wanted;
    reached |= 0o007;
  }
  if (who === 7 && (permissions & 32) !== 0) bits |= 0o1000;
  if (operation === "add") return mode | bits;
  if (operation === "remove") return mode & ~bits;
  // A directory keeps setuid and setgid unless they are named: what is made below would lose its group without a word.
  const special = isDirectory ? 0 : ((who & 4) !== 0 ? 0o4000 : 0) | ((who & 2) !== 0 ? 0o2000 : 0);
  return (mode & ~(reached | special | (who === 7 ? 0o1000 : 0))) | bits;
}
