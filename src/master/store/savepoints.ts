/**
 * What takes writes back: while a savepoint is open, each cell is remembered as it was before every change. Savepoints
 * nest; when the outermost one ends, nothing is remembered any more.
 */
import type { Cell, Contents } from "./cell.ts";
import type { Generation } from "./generation.ts";

/** What a cell was before a write. */
interface Before extends Contents {
  readonly cell: Cell;
  readonly generation: number;
}

export class Savepoints {
  /** In the order of the writes. */
  readonly #undo: Before[] = [];
  #openCount = 0;

  get areOpen(): boolean {
    return this.#openCount > 0;
  }

  /** Called before a cell is changed, when savepoints are open. */
  remember(cell: Cell): void {
    const { schema, value, chunk, start, end, weight, generation } = cell;
    this.#undo.push({ cell, schema, value, chunk, start, end, weight, generation });
  }

  /** `active` takes all writes until the savepoint ends. */
  open(active: Generation): { rollback(): void; commit(): void } {
    this.#openCount++;
    const mark = this.#undo.length;
    const { weight } = active;
    const cellCount = active.cells.length;
    return {
      commit: () => {
        this.#end();
      },
      rollback: () => {
        this.#restoreTo(mark);
        active.weight = weight;
        active.truncate(cellCount);
        this.#end();
      },
    };
  }

  #restoreTo(mark: number): void {
    for (let i = this.#undo.length - 1; i >= mark; i--) {
      const before = this.#undo[i]!;
      before.cell.restore(before);
      before.cell.generation = before.generation;
    }
    this.#undo.length = mark;
  }

  #end(): void {
    this.#openCount--;
    if (this.#openCount === 0) this.#undo.length = 0;
  }
}
