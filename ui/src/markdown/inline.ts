// Inline Markdown: emphasis, code, links, breaks and math. Raw HTML is text. Time is linear in the length of the text,
// whatever it is: every search that can fail is bounded or remembered.

export type Inline =
  | { type: "text"; text: string }
  | { type: "code"; text: string }
  | { type: "math"; text: string }
  | { type: "break" }
  | { type: "emphasis" | "strong" | "strike"; children: Inline[] }
  | { type: "link"; href: string | null; title: string | null; children: Inline[] }
  | { type: "image"; source: string; alt: string };

/** An open delimiter or bracket, and what has been read since. */
interface Frame {
  /** Kind of delimiter: one or two of `*` or `_`, two of `~`, or a bracket. */
  kind: "*" | "**" | "_" | "__" | "~~" | "[" | "![" | "";
  /** The text that it stands for where nothing closes it. */
  mark: string;
  children: Inline[];
}

type Kind = Frame["kind"];

/** Runs of delimiters longer than this are text. */
const MAX_RUN = 6;
const MAX_DEPTH = 40;
const MAX_TARGET = 4096;

const PUNCTUATION = /[\p{P}\p{S}]/u;
const ESCAPABLE = /[!-/:-@[-`{-~]/;
const ENTITY = /&(?:#(\d{1,7})|#[xX]([0-9a-fA-F]{1,6})|([a-zA-Z]{2,8}));/y;
const ENTITIES: ReadonlyMap<string, string> = new Map([
  ["amp", "&"], ["lt", "<"], ["gt", ">"], ["quot", '"'], ["apos", "'"], ["nbsp", "\u00a0"], ["copy", "©"],
  ["hellip", "…"], ["ndash", "–"], ["mdash", "—"], ["times", "×"], ["rarr", "→"], ["larr", "←"], ["deg", "°"],
]);
const AUTOLINK = /<((?:https?:\/\/|mailto:)[^\s<>]{1,2000})>/y;
const BARE_LINK = /https?:\/\/[^\s<>"`\\[\]]{1,2000}/y;
const LINE_BREAK_TAG = /<br ?\/?>/iy;
const SPECIAL = /[\\`*_~![\]<&\n$h]/g;

/**
 * The inline nodes of `text`. With `open`, the text is still being written: delimiters that nothing closes yet count
 * as closed at its end, so that what is shown does not flicker.
 */
export function parseInline(text: string, open = false): Inline[] {
  return new InlineParser(open ? withoutLooseEnd(text) : text, open).run();
}

/** Characters at the end of unfinished text that would change their meaning with the next one are held back. */
function withoutLooseEnd(text: string): string {
  let end = text.length;
  while (end > 0 && "*_~`\\![<".includes(text[end - 1]!)) end--;
  return text.slice(0, end);
}

class InlineParser {
  private at = 0;
  private plain = 0;
  private readonly frames: Frame[] = [{ kind: "", mark: "", children: [] }];
  /** How many frames of a kind are open. */
  private readonly count = new Map<Kind, number>();
  /** Where runs of backticks of one length are, found when first asked for. */
  private runs: Map<number, number[]> | null = null;
  /** For a closing mark: it does not occur from here on. */
  private readonly absent = new Map<string, number>();

  constructor(
    private readonly text: string,
    private readonly open: boolean,
  ) {}

  run(): Inline[] {
    const { text } = this;
    for (;;) {
      SPECIAL.lastIndex = this.at;
      const found = SPECIAL.exec(text);
      if (!found) break;
      this.at = found.index;
      const before = this.at;
      const node = this.special(text[before]!);
      if (node === undefined) {
        // Not what it looked like: it stays in the run of plain text.
        this.at = before + 1;
      }
    }
    this.at = text.length;
    this.flush(this.at);
    while (this.frames.length > 1) this.open ? this.closeTop() : this.dissolveTop();
    return this.frames[0]!.children;
  }

  /** Reads what starts with the special character `c`; undefined where that is plain text. */
  private special(c: string): true | undefined {
    switch (c) {
      case "\\":
        return this.escape();
      case "`":
        return this.codeSpan();
      case "*":
      case "_":
      case "~":
        return this.delimiters(c);
      case "!":
        return this.text[this.at + 1] === "[" ? this.bracket("![") : undefined;
      case "[":
        return this.bracket("[");
      case "]":
        return this.closeBracket();
      case "<":
        return this.angle();
      case "&":
        return this.entity();
      case "\n":
        return this.newline();
      case "$":
        return this.math("$$", "$$");
      default:
        return this.bareLink();
    }
  }

  /** Ends the run of plain text at `end`, and goes on reading at `next`. */
  private flush(end: number, next = end): void {
    if (end > this.plain) this.push({ type: "text", text: this.text.slice(this.plain, end) });
    this.plain = next;
    this.at = next;
  }

  private push(node: Inline): void {
    const siblings = this.frames.at(-1)!.children;
    const last = siblings.at(-1);
    if (node.type === "text" && last?.type === "text") last.text += node.text;
    else siblings.push(node);
  }

  private emit(node: Inline, next: number): true {
    this.flush(this.at, next);
    this.push(node);
    return true;
  }

  private escape(): true | undefined {
    const next = this.text[this.at + 1];
    if (next === "(") return this.math("\\(", "\\)") ?? this.emit({ type: "text", text: "(" }, this.at + 2);
    if (next === "[") return this.math("\\[", "\\]") ?? this.emit({ type: "text", text: "[" }, this.at + 2);
    if (next === "\n") return this.emit({ type: "break" }, this.at + 2);
    if (next === undefined || !ESCAPABLE.test(next)) return undefined;
    return this.emit({ type: "text", text: next }, this.at + 2);
  }

  private codeSpan(): true {
    const { text } = this;
    const start = this.at;
    let after = start;
    while (text[after] === "`") after++;
    const end = this.nextRun(after - start, after);
    if (end < 0 && !this.open) return this.emit({ type: "text", text: text.slice(start, after) }, after);
    const stop = end < 0 ? text.length : end;
    let code = text.slice(after, stop).replaceAll("\n", " ");
    if (code.length > 2 && code.startsWith(" ") && code.endsWith(" ") && code.trim() !== "") code = code.slice(1, -1);
    return this.emit({ type: "code", text: code }, end < 0 ? stop : end + (after - start));
  }

  /** Where the next run of exactly `length` backticks starts, from `from` on; -1 for nowhere. */
  private nextRun(length: number, from: number): number {
    if (!this.runs) {
      this.runs = new Map();
      for (const run of this.text.matchAll(/`+/g)) {
        const list = this.runs.get(run[0].length);
        if (list) list.push(run.index);
        else this.runs.set(run[0].length, [run.index]);
      }
      for (const list of this.runs.values()) list.reverse();
    }
    // Positions are asked for in ascending order, so those passed can go.
    const list = this.runs.get(length);
    while (list && list.length > 0 && list.at(-1)! < from) list.pop();
    return list?.at(-1) ?? -1;
  }

  private math(opening: string, closing: string): true | undefined {
    const { text } = this;
    if (!text.startsWith(opening, this.at)) return undefined;
    const from = this.at + opening.length;
    if ((this.absent.get(closing) ?? Infinity) <= from) return undefined;
    const end = text.indexOf(closing, from);
    if (end < 0) {
      this.absent.set(closing, from);
      return undefined;
    }
    return this.emit({ type: "math", text: text.slice(from, end).trim() }, end + closing.length);
  }

  /** A run of `*`, `_` or `~`: closes what it can, then opens what is left of it. */
  private delimiters(c: "*" | "_" | "~"): true {
    const { text } = this;
    const start = this.at;
    let end = start;
    while (text[end] === c) end++;
    let left = end - start;
    const [before, after] = [charBefore(text, start), charAfter(text, end)];
    const opens = !isSpace(after) && (!PUNCTUATION.test(after) || isSpace(before) || PUNCTUATION.test(before));
    const closes = !isSpace(before) && (!PUNCTUATION.test(before) || isSpace(after) || PUNCTUATION.test(after));
    const canOpen = opens && (c !== "_" || !closes || PUNCTUATION.test(before));
    const canClose = closes && (c !== "_" || !opens || PUNCTUATION.test(after));
    this.flush(start, end);
    if (left > MAX_RUN || (c === "~" && left !== 2)) {
      this.push({ type: "text", text: c.repeat(left) });
      return true;
    }
    if (canClose) {
      // A run of one or two closes its own kind only; a longer one whichever is innermost.
      for (;;) {
        const kinds = ([c, c + c] as Kind[]).filter((kind) => {
          return kind.length <= left && (left > 2 || kind.length === left) && (this.count.get(kind) ?? 0) > 0;
        });
        if (kinds.length === 0) break;
        while (!kinds.includes(this.frames.at(-1)!.kind)) this.dissolveTop();
        left -= this.frames.at(-1)!.kind.length;
        this.closeTop();
        if (left === 0) return true;
      }
    }
    if (canOpen) {
      if (left % 2 === 1) this.openFrame(c as Kind, c);
      for (let n = Math.floor(left / 2); n > 0; n--) this.openFrame((c + c) as Kind, c + c);
    } else {
      this.push({ type: "text", text: c.repeat(left) });
    }
    return true;
  }

  private openFrame(kind: Kind, mark: string): void {
    if (this.frames.length >= MAX_DEPTH) {
      this.push({ type: "text", text: mark });
      return;
    }
    this.frames.push({ kind, mark, children: [] });
    this.count.set(kind, (this.count.get(kind) ?? 0) + 1);
  }

  private popFrame(): Frame {
    const frame = this.frames.pop()!;
    this.count.set(frame.kind, this.count.get(frame.kind)! - 1);
    return frame;
  }

  /** The innermost frame turns out to be plain text. */
  private dissolveTop(): void {
    const frame = this.popFrame();
    this.push({ type: "text", text: frame.mark });
    for (const child of frame.children) this.push(child);
  }

  /** The innermost frame is closed: its children become one node. */
  private closeTop(): void {
    const { kind } = this.frames.at(-1)!;
    if (kind === "[" || kind === "![") {
      this.dissolveTop();
      return;
    }
    const { children } = this.popFrame();
    if (children.length === 0) return;
    const type = kind === "~~" ? "strike" : kind.length === 2 ? "strong" : "emphasis";
    this.push({ type, children });
  }

  private bracket(kind: "[" | "!["): true {
    this.flush(this.at, this.at + kind.length);
    this.openFrame(kind, kind);
    return true;
  }

  private closeBracket(): true | undefined {
    const brackets = (this.count.get("[") ?? 0) + (this.count.get("![") ?? 0);
    if (brackets === 0) return undefined;
    const target = readTarget(this.text, this.at + 1, this.open);
    this.flush(this.at, this.at + 1);
    while (this.frames.at(-1)!.kind !== "[" && this.frames.at(-1)!.kind !== "![") this.dissolveTop();
    if (!target) {
      this.dissolveTop();
      this.push({ type: "text", text: "]" });
      return true;
    }
    const { kind, children } = this.popFrame();
    this.plain = target.end;
    this.at = target.end;
    if (kind === "![") {
      this.push({ type: "image", source: target.href, alt: plainText(children) });
    } else {
      const href = safeHref(target.href);
      this.push({ type: "link", href, title: target.title, children: withoutLinks(children) });
    }
    return true;
  }

  private angle(): true | undefined {
    AUTOLINK.lastIndex = this.at;
    const link = AUTOLINK.exec(this.text);
    if (link) return this.emit(linkTo(link[1]!, link[1]!.replace(/^mailto:/, "")), AUTOLINK.lastIndex);
    LINE_BREAK_TAG.lastIndex = this.at;
    if (LINE_BREAK_TAG.test(this.text)) return this.emit({ type: "break" }, LINE_BREAK_TAG.lastIndex);
    return undefined;
  }

  private entity(): true | undefined {
    ENTITY.lastIndex = this.at;
    const found = ENTITY.exec(this.text);
    if (!found) return undefined;
    const code = found[1] ? Number(found[1]) : found[2] ? parseInt(found[2], 16) : null;
    const text = code === null ? ENTITIES.get(found[3]!) : code > 0 && code <= 0x10ffff ? String.fromCodePoint(code) : "\ufffd";
    return text === undefined ? undefined : this.emit({ type: "text", text }, this.at + found[0].length);
  }

  /** A line break where two spaces end the line, else a space; spaces around it go. */
  private newline(): true {
    let end = this.at;
    while (end > this.plain && this.text[end - 1] === " ") end--;
    const hard = this.at - end >= 2;
    const next = this.at + 1;
    this.flush(end, next);
    this.push(hard ? { type: "break" } : { type: "text", text: "\n" });
    return true;
  }

  private bareLink(): true | undefined {
    BARE_LINK.lastIndex = this.at;
    const found = BARE_LINK.exec(this.text);
    if (!found || /\w/.test(charBefore(this.text, this.at))) return undefined;
    const url = withoutTrail(found[0]);
    return url.length < 9 ? undefined : this.emit(linkTo(url, url), this.at + url.length);
  }
}

/** Punctuation that ends a sentence, and a bracket that was not opened in the address, are not part of it. */
function withoutTrail(url: string): string {
  let depth = 0;
  for (const c of url) depth += c === "(" ? 1 : c === ")" ? -1 : 0;
  let end = url.length;
  for (; end > 0; end--) {
    const c = url[end - 1]!;
    if (c === ")" && depth < 0) depth++;
    else if (!".,;:!?'*_~]|".includes(c)) break;
  }
  return url.slice(0, end);
}

function linkTo(href: string, text: string): Inline {
  return { type: "link", href: safeHref(href), title: null, children: [{ type: "text", text }] };
}

/** The address where it is one that a page may link to, else nothing. */
export function safeHref(href: string): string | null {
  return /^(?:https?:\/\/|mailto:)[^\s\u0000-\u001f]+$/i.test(href) ? href : null;
}

/** Nothing may hold a link inside a link. */
function withoutLinks(nodes: Inline[]): Inline[] {
  return nodes.flatMap((node) => (node.type === "link" ? node.children : [node]));
}

/** What is left of `nodes` without markup. */
export function plainText(nodes: Inline[]): string {
  return nodes
    .map((node) => {
      if ("children" in node) return plainText(node.children);
      if (node.type === "image") return node.alt;
      return node.type === "break" ? "\n" : node.text;
    })
    .join("");
}

/** The `(address "title")` that starts at `at`. With `open`, one that the text ends in counts as a link to nowhere. */
function readTarget(
  text: string,
  at: number,
  open: boolean,
): { href: string; title: string | null; end: number } | null {
  if (text[at] !== "(") return null;
  const limit = Math.min(text.length, at + MAX_TARGET);
  const unfinished = (i: number) => (open && i >= text.length ? { href: "", title: null, end: text.length } : null);
  let i = skipSpace(text, at + 1, limit);
  const start = i;
  let href: string;
  if (text[i] === "<") {
    i++;
    while (i < limit && text[i] !== ">" && text[i] !== "<" && text[i] !== "\n") i++;
    if (text[i] !== ">") return unfinished(i);
    href = text.slice(start + 1, i++);
  } else {
    for (let depth = 0; i < limit; i++) {
      const c = text[i]!;
      if (c === "(" && ++depth > 16) return null;
      if (c === ")" && --depth < 0) break;
      if (c <= " ") break;
    }
    href = text.slice(start, i);
  }
  i = skipSpace(text, i, limit);
  let title: string | null = null;
  const quote = text[i];
  if (quote === '"' || quote === "'") {
    const from = ++i;
    while (i < limit && text[i] !== quote) i++;
    if (text[i] !== quote) return unfinished(i);
    title = text.slice(from, i);
    i = skipSpace(text, i + 1, limit);
  }
  return text[i] === ")" ? { href, title, end: i + 1 } : unfinished(i);
}

function skipSpace(text: string, from: number, limit: number): number {
  let i = from;
  while (i < limit && (text[i] === " " || text[i] === "\n")) i++;
  return i;
}

function isSpace(c: string): boolean {
  return c === "" || /\s/.test(c);
}

function charBefore(text: string, at: number): string {
  return at > 0 ? (text[at - 1] ?? "") : "";
}

function charAfter(text: string, at: number): string {
  return text[at] ?? "";
}
