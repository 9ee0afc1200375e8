/**
 * What waits, first come first served: an array and where it begins. Not a linked list, nor a Map or Set: of one that has grown old, what was
 * taken from it keeps all that came later alive until a full collection.
 */
export class Fifo<A> {
  private entries: Array<A | undefined> = []
  private first = 0

  get length(): number {
    return this.entries.length - this.first
  }

  push(entry: A): void {
    this.entries.push(entry)
  }

  /** Before all others, in their order. */
  unshift(entries: ReadonlyArray<A>): void {
    this.entries = [...entries, ...this.entries.slice(this.first)]
    this.first = 0
  }

  peek(): A | undefined {
    return this.entries[this.first]
  }

  shift(): A | undefined {
    const entry = this.entries[this.first]
    if (this.first < this.entries.length) {
      this.entries[this.first++] = undefined
    }
    if (this.first === this.entries.length) {
      this.entries = []
      this.first = 0
    } else if (this.first > 1_000 && this.first > this.entries.length / 2) {
      this.entries = this.entries.slice(this.first)
      this.first = 0
    }
    return entry
  }

  /** Keeps those that satisfy a condition. */
  retain(isKept: (entry: A) => boolean): void {
    this.entries = this.entries.slice(this.first).filter((entry) => isKept(entry as A))
    this.first = 0
  }
}
