/** Sums up the extended attributes of one inode, and compares them with what the inode says of them. Pure. */
import {
  accessAclName,
  decodeAcl,
  defaultAclName,
  isEquivalentToMode,
  modeOfAcl,
} from "../../rpc/acl.ts";
import { xattrBytesOf } from "../../rpc/xattr.ts";
import { nameOfXattr } from "../state/keys.ts";
import * as model from "../state/model.ts";
import { type CheckContext, recordOf, shownKey } from "./check-context.ts";

/** What is and what was wanted. */
export type Problem = readonly [is: string, wanted: string];

export class XattrRows {
  readonly #context: CheckContext;
  #count = 0;
  #bytes = 0;
  /** Bits of the lists that are there. */
  #lists = 0;
  #problems: Problem[] = [];
  /** Mode bits by the access list, over those of the inode. */
  #modeOf: ((mode: number) => number) | undefined;

  constructor(context: CheckContext) {
    this.#context = context;
  }

  row(key: string, row: Uint8Array): void {
    const value = recordOf(this.#context, model.xattrValue, key, row);
    if (value === undefined) return;
    const name = nameOfXattr(key);
    this.#count++;
    this.#bytes += xattrBytesOf(name, value);
    if (name === accessAclName) this.#list(name, value, model.accessAclBit);
    else if (name === defaultAclName) this.#list(name, value, model.defaultAclBit);
  }

  #list(name: string, value: Uint8Array, bit: number): void {
    this.#lists |= bit;
    const decoded = decodeAcl(value);
    if ("fault" in decoded) {
      this.#problems.push([`has ${shownKey(name)} of which ${decoded.fault}`, "a valid list"]);
    } else if (bit === model.accessAclBit) {
      const { acl } = decoded;
      this.#modeOf = (mode) => modeOfAcl(acl, mode);
      if (isEquivalentToMode(acl)) {
        this.#problems.push(["has a list that says no more than its mode", "none"]);
      }
    }
  }

  /** What does not fit to the inode; begins anew. */
  end(of: model.Inode): readonly Problem[] {
    const problems = this.#problems;
    const says = (field: string, said: number | undefined, found: number) => {
      if ((said ?? 0) !== found) problems.push([`says ${said ?? 0} ${field}`, `${found}`]);
    };
    says("attributes", of.xattrCount, this.#count);
    says("bytes of attributes", of.xattrBytes, this.#bytes);
    says("as the bits of its lists", of.acl, this.#lists);
    const mode = this.#modeOf?.(of.mode) ?? of.mode;
    if (mode !== of.mode) {
      problems.push([`has mode ${of.mode.toString(8)}`, `${mode.toString(8)}, as its list says`]);
    }
    this.#count = this.#bytes = this.#lists = 0;
    this.#problems = [];
    this.#modeOf = undefined;
    return problems;
  }
}
