// Block structure of Markdown (CommonMark with GitHub's tables and task lists), made for answers of language models.
//
// Nothing in a document refers to a later part of it (link reference definitions are left out, raw HTML is text), so
// a block that has ended never changes when text is appended: that is what lets a streamed answer be parsed once.

export type Align = "left" | "center" | "right" | null;

export interface ListItem {
  /** Whether the box of a task is ticked; absent where the item is no task. */
  task?: boolean;
  blocks: Block[];
}

/** A block; `text` is inline Markdown, or literal text for code and math. */
export type Block =
  | { type: "paragraph"; text: string }
  | { type: "heading"; level: number; text: string }
  | { type: "code"; language: string; text: string }
  | { type: "math"; text: string }
  | { type: "rule" }
  | { type: "quote"; blocks: Block[] }
  | { type: "list"; start: number | null; tight: boolean; items: ListItem[] }
  | { type: "table"; align: Align[]; head: string[]; rows: string[][] };

/** A block and the line that it starts on. */
export interface Placed {
  block: Block;
  line: number;
}

/** Containers deeper than this are read as paragraphs. */
const MAX_DEPTH = 12;
/** A table with more columns than this is read as a paragraph. */
const MAX_COLUMNS = 64;
/** Math that is not closed within so many lines is text. */
const MAX_MATH_LINES = 100;

const FENCE = /^ {0,3}(`{3,}(?=[^`]*$)|~{3,})\s*([^\s`]*)/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]+|$)/;
const RULE = /^ {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const MARKER = /^( {0,3})([-+*]|(\d{1,9})[.)])(?=[ \t]|$)/;
const NESTED_MARKER = /^ *(?:[-+*]|\d{1,9}[.)])[ \t]/;
const SETEXT = /^ {0,3}(=+|-+)[ \t]*$/;
const TASK = /^\[([ xX])\][ \t]+/;
const MATH = /^ {0,3}(\$\$|\\\[)/;
const DELIMITER_CELL = /^:?-+:?$/;

/** The blocks of `source`, at most the last of which can change when text is appended to its last line. */
export function parseBlocks(source: string): Block[] {
  return placeBlocks(source.split("\n")).map((placed) => placed.block);
}

/** The blocks of `lines`, each with the index of its first line. */
export function placeBlocks(lines: string[], depth = 0): Placed[] {
  const out: Placed[] = [];
  let at = 0;
  while (at < lines.length) {
    if (isBlank(lines[at]!)) {
      at++;
      continue;
    }
    const [block, end] = readBlock(lines, at, depth);
    out.push({ block, line: at });
    at = Math.max(end, at + 1);
  }
  return out;
}

/** The block that starts on line `at`, and the line after it. */
function readBlock(lines: string[], at: number, depth: number): [Block, number] {
  const line = expandTabs(lines[at]!);
  if (indentOf(line) >= 4) return readIndentedCode(lines, at);
  const fence = FENCE.exec(line);
  if (fence) return readFence(lines, at, fence[1]!, fence[2] ?? "", indentOf(line));
  const heading = HEADING.exec(line);
  if (heading) {
    const text = line.slice(heading[0].length).trim().replace(/(?:^|[ \t])#+$/, "").trim();
    return [{ type: "heading", level: heading[1]!.length, text }, at + 1];
  }
  if (RULE.test(line)) return [{ type: "rule" }, at + 1];
  const math = MATH.exec(line);
  if (math) {
    const found = readMath(lines, at, math[0].length, math[1] === "$$" ? "$$" : "\\]");
    if (found) return found;
  }
  if (depth < MAX_DEPTH) {
    if (QUOTE.test(line)) return readQuote(lines, at, depth);
    if (MARKER.test(line)) return readList(lines, at, depth);
  }
  return readTable(lines, at) ?? readParagraph(lines, at);
}

function readIndentedCode(lines: string[], at: number): [Block, number] {
  const code: string[] = [];
  let end = at;
  for (let i = at; i < lines.length; i++) {
    const line = expandTabs(lines[i]!);
    if (isBlank(line)) {
      code.push(line.slice(4));
    } else if (indentOf(line) >= 4) {
      code.push(line.slice(4));
      end = i + 1;
    } else break;
  }
  return [{ type: "code", language: "", text: code.slice(0, end - at).join("\n") }, end];
}

function readFence(lines: string[], at: number, mark: string, language: string, indent: number): [Block, number] {
  const closing = new RegExp(`^ {0,3}\\${mark[0]}{${mark.length},}[ \\t]*$`);
  const code: string[] = [];
  let i = at + 1;
  for (; i < lines.length; i++) {
    const line = lines[i]!;
    if (closing.test(line)) return [{ type: "code", language, text: code.join("\n") }, i + 1];
    code.push(line.slice(Math.min(indent, indentOf(line))));
  }
  return [{ type: "code", language, text: code.join("\n") }, i];
}

/** The mark of the code fence that is open after `line`, given the one that is open before it. */
function fenceAfter(open: string | null, line: string): string | null {
  if (open === null) return FENCE.exec(line)?.[1] ?? null;
  const text = line.trim();
  return text.length >= open.length && text === open[0]!.repeat(text.length) ? null : open;
}

/** Displayed math up to `closing`, or nothing where its first line has text after the closing mark. */
function readMath(lines: string[], at: number, skip: number, closing: string): [Block, number] | null {
  const math: string[] = [];
  for (let i = at; i < lines.length; i++) {
    if (i - at > MAX_MATH_LINES) return null;
    const line = i === at ? lines[i]!.slice(skip) : lines[i]!;
    const end = line.indexOf(closing);
    if (end >= 0) {
      if (!isBlank(line.slice(end + 2))) return null;
      math.push(line.slice(0, end));
      return [{ type: "math", text: math.join("\n").trim() }, i + 1];
    }
    // The last line may still grow.
    if (isBlank(line) && i > at && i < lines.length - 1) return null;
    math.push(line);
  }
  return [{ type: "math", text: math.join("\n").trim() }, lines.length];
}

function readQuote(lines: string[], at: number, depth: number): [Block, number] {
  const inner: string[] = [];
  let i = at;
  let fence: string | null = null;
  let lazy = false;
  for (; i < lines.length; i++) {
    const line = expandTabs(lines[i]!);
    const mark = QUOTE.exec(line);
    if (mark) {
      const rest = line.slice(mark[0].length);
      inner.push(rest);
      fence = fenceAfter(fence, rest);
      lazy = fence === null && !isBlank(rest) && !startsBlock(rest);
    } else if (lazy && !isBlank(line) && !startsBlock(line)) {
      inner.push(line);
    } else break;
  }
  return [{ type: "quote", blocks: placeBlocks(inner, depth + 1).map((p) => p.block) }, i];
}

function readList(lines: string[], at: number, depth: number): [Block, number] {
  const first = MARKER.exec(expandTabs(lines[at]!))!;
  const kind = first[2]!.at(-1)!;
  const items: ListItem[] = [];
  let tight = true;
  let i = at;
  while (i < lines.length) {
    const line = expandTabs(lines[i]!);
    const marker = MARKER.exec(line);
    if (!marker || marker[2]!.at(-1) !== kind || RULE.test(line)) break;
    const [item, end, blankInside] = readItem(lines, i, marker, depth);
    items.push(item);
    let next = end;
    while (next < lines.length && isBlank(lines[next]!)) next++;
    const goesOn = next < lines.length && continuesList(lines[next]!, kind);
    if (blankInside || (goesOn && next > end)) tight = false;
    i = goesOn ? next : end;
    if (!goesOn) break;
  }
  return [{ type: "list", start: first[3] === undefined ? null : Number(first[3]), tight, items }, i];
}

function continuesList(raw: string, kind: string): boolean {
  const line = expandTabs(raw);
  const marker = MARKER.exec(line);
  return marker !== null && marker[2]!.at(-1) === kind && !RULE.test(line);
}

/** One item: what it holds, the line after it, and whether blank lines part its blocks. */
function readItem(
  lines: string[],
  at: number,
  marker: RegExpExecArray,
  depth: number,
): [ListItem, number, boolean] {
  const line = expandTabs(lines[at]!);
  const own = marker[0].length;
  const spaces = indentOf(line.slice(own));
  const offset = own + (spaces === 0 || spaces > 4 || isBlank(line.slice(own)) ? 1 : spaces);
  const inner = [line.slice(offset)];
  const item: ListItem = { blocks: [] };
  const task = TASK.exec(inner[0]!);
  if (task) {
    item.task = task[1] !== " ";
    inner[0] = inner[0]!.slice(task[0].length);
  }
  let fence = fenceAfter(null, inner[0]!);
  let lazy = !isBlank(inner[0]!) && !startsBlock(inner[0]!);
  let blanks = 0;
  let end = at + 1;
  for (let i = at + 1; i < lines.length; i++) {
    const next = expandTabs(lines[i]!);
    const indent = indentOf(next);
    if (isBlank(next)) {
      // An item whose first line is empty ends at a blank line.
      if (end === i && inner.length === 1 && isBlank(inner[0]!)) break;
      blanks++;
      continue;
    }
    // Models often indent a nested list by two columns where the marker is three wide.
    const nested = indent >= 2 && indent > marker[1]!.length && NESTED_MARKER.test(next);
    if (indent >= offset || nested) {
      for (; blanks > 0; blanks--) inner.push("");
      inner.push(next.slice(Math.min(indent, offset)));
      fence = fenceAfter(fence, inner.at(-1)!);
      lazy = fence === null && (!startsBlock(inner.at(-1)!) || NESTED_MARKER.test(inner.at(-1)!));
    } else if (blanks === 0 && lazy && !startsBlock(next) && !MARKER.test(next)) {
      inner.push(next);
    } else break;
    end = i + 1;
  }
  const placed = placeBlocks(inner, depth + 1);
  item.blocks = placed.map((p) => p.block);
  const parted = placed.some((p, n) => n > 0 && isBlank(inner[p.line - 1]!));
  return [item, end, parted];
}

function readTable(lines: string[], at: number): [Block, number] | null {
  const head = tableHead(lines, at);
  if (!head) return null;
  const rows: string[][] = [];
  let i = at + 2;
  for (; i < lines.length; i++) {
    const line = expandTabs(lines[i]!);
    if (isBlank(line) || startsBlock(line)) break;
    rows.push(cellsOf(line).slice(0, head.cells.length));
  }
  return [{ type: "table", align: head.align, head: head.cells, rows }, i];
}

/** The head of a table whose first line is `at`: that line, and one of dashes with as many cells. */
function tableHead(lines: string[], at: number): { cells: string[]; align: Align[] } | null {
  const below = lines[at + 1];
  if (below === undefined || !below.includes("-") || !lines[at]!.includes("|")) return null;
  const marks = cellsOf(below);
  if (marks.length > MAX_COLUMNS || !marks.every((mark) => DELIMITER_CELL.test(mark))) return null;
  const cells = cellsOf(lines[at]!);
  if (cells.length !== marks.length) return null;
  const align = marks.map((mark): Align => {
    const [left, right] = [mark.startsWith(":"), mark.endsWith(":")];
    return left && right ? "center" : right ? "right" : left ? "left" : null;
  });
  return { cells, align };
}

/** The cells of a table's line: parted by `|`; `\|` is a bar. */
function cellsOf(line: string): string[] {
  const text = line.trim();
  const cells: string[] = [];
  let cell = "";
  for (let i = text.startsWith("|") ? 1 : 0; i < text.length; i++) {
    const c = text[i]!;
    if (c === "\\" && text[i + 1] === "|") {
      cell += "|";
      i++;
    } else if (c === "|") {
      cells.push(cell.trim());
      if (cells.length > MAX_COLUMNS) return cells;
      cell = "";
    } else {
      cell += c;
    }
  }
  if (cell.trim() !== "" || !text.endsWith("|")) cells.push(cell.trim());
  return cells;
}

function readParagraph(lines: string[], at: number): [Block, number] {
  const text = [lines[at]!.trimStart()];
  let i = at + 1;
  for (; i < lines.length; i++) {
    const line = expandTabs(lines[i]!);
    if (isBlank(line)) break;
    const underline = SETEXT.exec(line);
    if (underline) {
      const level = underline[1]!.startsWith("=") ? 1 : 2;
      return [{ type: "heading", level, text: text.join("\n") }, i + 1];
    }
    if (startsBlock(line) || tableHead(lines, i)) break;
    text.push(line.trimStart());
  }
  return [{ type: "paragraph", text: text.join("\n") }, i];
}

/** Whether a line ends the paragraph above it. */
function startsBlock(line: string): boolean {
  if (HEADING.test(line) || FENCE.test(line) || RULE.test(line) || QUOTE.test(line) || MATH.test(line)) return true;
  const marker = MARKER.exec(line);
  if (!marker || isBlank(line.slice(marker[0].length))) return false;
  return marker[3] === undefined || Number(marker[3]) === 1;
}

function isBlank(line: string): boolean {
  return line.trim() === "";
}

function indentOf(line: string): number {
  let n = 0;
  while (line[n] === " ") n++;
  return n;
}

/** Tabs before the text become spaces up to the next multiple of four. */
function expandTabs(line: string): string {
  if (!line.includes("\t")) return line;
  let out = "";
  let i = 0;
  for (; line[i] === " " || line[i] === "\t"; i++) {
    out += line[i] === "\t" ? " ".repeat(4 - (out.length % 4)) : " ";
  }
  return out + line.slice(i);
}
