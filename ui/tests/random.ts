// Random texts that repeat from run to run.

/** A small generator of numbers (mulberry32). */
export class Random {
  constructor(private state: number) {}

  below(bound: number): number {
    this.state = (this.state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % bound;
  }

  pick<T>(of: readonly T[]): T {
    return of[this.below(of.length)]!;
  }
}

const PIECES = [
  "word", "a", " ", "\n", "\n", "\n\n", "# ", "## ", "- ", "* ", "+ ", "1. ", "2) ", "  ", "    ", "\t", "> ", "```", "```js",
  "~~~", "---", "===", "***", "|", "| a | b |", "|---|---|", "*", "**", "_", "`", "[", "](", ")", "\\", "\\[", "\\]", "$$",
  "<b>", "&amp;", "https://a.example", "[x] ", "!",
];

/** Markdown of `pieces` random pieces. */
export function randomText(random: Random, pieces: number): string {
  return Array.from({ length: pieces }, () => random.pick(PIECES)).join("");
}
