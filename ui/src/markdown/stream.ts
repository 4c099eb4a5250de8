// Markdown that is still being written: every block is parsed once when it has ended, and only the last one again when
// text is appended.
import { type Block, placeBlocks } from "./blocks";

export class MarkdownStream {
  /** Blocks that will not change any more. */
  readonly done: Block[] = [];
  /** Blocks that may: mostly one. */
  tail: Block[] = [];
  private text = "";
  /** Where the first block of the tail starts. */
  private start = 0;

  /** Takes the whole text so far. One that does not continue the text before starts from nothing. */
  update(text: string): void {
    if (text.length < this.text.length || !text.startsWith(this.text)) {
      this.done.length = 0;
      this.start = 0;
    }
    this.text = text;
    const lines = text.slice(this.start).split("\n");
    const placed = placeBlocks(lines);
    // A block that starts on a complete line proves that those before it have ended. The last line is incomplete.
    let settled = placed.length - 1;
    if (settled >= 0 && placed[settled]!.line >= lines.length - 1) settled--;
    if (settled > 0) {
      const line = placed[settled]!.line;
      for (let i = 0; i < line; i++) this.start += lines[i]!.length + 1;
      for (const { block } of placed.splice(0, settled)) this.done.push(block);
    }
    this.tail = placed.map(({ block }) => block);
  }
}

/**
 * `text` without a last line that would look like another block with the next character (`-`, `1.`, `##`, a fence),
 * for showing it before that comes.
 */
export function withoutLooseLine(text: string): string {
  const start = text.lastIndexOf("\n") + 1;
  const line = text.slice(start);
  return line.length < 16 && /^\s*(?:[-+*_=#>`~$|\\[]*|\d+[.)]?)\s*$/.test(line) ? text.slice(0, start) : text;
}
