// Light syntax colouring: comments, strings, numbers, keywords and names, line by line, so that code which is still
// being written is never read twice.

/** k: keyword, s: string, c: comment, n: number, f: function, t: type, a: attribute or key, i and d: lines of a diff. */
export type TokenKind = "" | "k" | "s" | "c" | "n" | "f" | "t" | "a" | "i" | "d";
export type Token = [TokenKind, string];

interface Language {
  /** Marks that start a comment to the end of the line. */
  line: string[];
  /** Pairs of marks around what may span lines. */
  spans: { open: string; close: string; kind: TokenKind }[];
  quotes: string;
  keywords: ReadonlySet<string>;
  /** Capitalized names are types. */
  types: boolean;
  /** Letters of keywords may be of either case. */
  anyCase?: boolean;
}

const C_COMMENT = { open: "/*", close: "*/", kind: "c" } as const;

function language(keywords: string, rest: Partial<Language> = {}): Language {
  const words = new Set(keywords.split(" "));
  return { line: ["//"], spans: [C_COMMENT], quotes: "\"'", keywords: words, types: true, ...rest };
}

const JS = language(
  "abstract any as async await boolean break case catch class const continue debugger declare default delete do else " +
    "enum export extends false finally for from function get if implements import in instanceof interface keyof let " +
    "namespace never new null number object of private protected public readonly return set static string super " +
    "switch this throw true try type typeof undefined unknown var void while yield",
  { spans: [C_COMMENT, { open: "`", close: "`", kind: "s" }] },
);
const C_LIKE = language(
  "abstract alignas auto base bool boolean break byte case catch char class concept const constexpr consteval continue " +
    "data decltype default defer delete do double dynamic else enum explicit export extends extern false final finally " +
    "float fn for foreach func fun go goto guard if implements import in inline int interface internal is lateinit let " +
    "long map mutable namespace new nil null nullptr object operator out override package private protected protocol " +
    "public range readonly ref register requires return sealed select self short signed sizeof static string struct " +
    "super switch template this throw throws trait true try type typedef typename union unsigned using val var virtual " +
    "void volatile when where while yield chan int8 int16 int32 int64 uint uint8 uint16 uint32 uint64 float32 float64",
);
const RUST = language(
  "as async await bool box break char const continue crate dyn else enum extern f32 f64 false fn for i128 i16 i32 i64 " +
    "i8 if impl in isize let loop match mod move mut pub ref return self Self static str struct super trait true type " +
    "u128 u16 u32 u64 u8 unsafe use usize where while",
  { quotes: '"' },
);
const PYTHON = language(
  "and as assert async await break case class continue def del elif else except False finally for from global if " +
    "import in is lambda match None nonlocal not or pass raise return self True try while with yield",
  {
    line: ["#"],
    spans: [
      { open: '"""', close: '"""', kind: "s" },
      { open: "'''", close: "'''", kind: "s" },
    ],
  },
);
const RUBY_LIKE = language(
  "alias and begin BEGIN break case class def defined do else elseif elsif end END ensure false for function if in " +
    "local module next nil not or redo repeat rescue retry return self super then true undef unless until when while " +
    "yield require",
  { line: ["#", "--"], spans: [] },
);
const SHELL = language(
  "alias break case cd continue do done echo elif else esac eval exec exit export fi for function if in local read " +
    "readonly return select set shift source test then time trap unset until while FROM RUN COPY CMD ENTRYPOINT ENV ARG " +
    "WORKDIR EXPOSE",
  { line: ["#"], spans: [], types: false },
);
const SQL = language(
  "add all alter and any as asc begin between by case check column commit constraint create cross database default " +
    "delete desc distinct drop else end exists false foreign from full group having in index inner insert into is join " +
    "key left like limit not null offset on or order outer primary references returning right rollback select set table " +
    "then true union unique update using values view when where with int integer text varchar boolean date timestamp",
  { line: ["--"], types: false, anyCase: true },
);
const DATA = language("true false null yes no on off", { line: ["#"], spans: [], types: false });
const JSON_ = language("true false null", { types: false });
const CSS = language("important media supports import keyframes from to and not only var calc", {
  line: [], types: false,
});
const MARKUP: Language = {
  line: [], spans: [{ open: "<!--", close: "-->", kind: "c" }], quotes: "\"'", keywords: new Set(), types: false,
};
const DIFF: Language = { ...MARKUP, spans: [], quotes: "" };

const LANGUAGES = new Map<string, Language>();
for (const [names, entry] of [
  ["js jsx ts tsx javascript typescript mjs cjs node", JS],
  ["c h cpp c++ cc hpp cs csharp c# java kotlin kt swift go golang scala dart php zig objc cuda glsl proto", C_LIKE],
  ["rust rs", RUST],
  ["python py python3 starlark", PYTHON],
  ["ruby rb lua elixir julia perl r", RUBY_LIKE],
  ["sh bash zsh shell console shellsession dockerfile makefile make fish powershell", SHELL],
  ["sql postgres postgresql mysql sqlite plsql", SQL],
  ["yaml yml toml ini conf env properties", DATA],
  ["json jsonc json5", JSON_],
  ["css scss less", CSS],
  ["html xml svg vue svelte xhtml", MARKUP],
  ["diff patch", DIFF],
] as [string, Language][]) {
  for (const name of names.split(" ")) LANGUAGES.set(name, entry);
}

const WORD = /[\p{L}_$][\p{L}\p{N}_$]*/uy;
const NUMBER = /0[xX][\da-fA-F_]+|0[bB][01_]+|\d[\d_]*(?:\.\d[\d_]*)?(?:[eE][+-]?\d+)?\w*/y;
const TAG = /<\/?[A-Za-z][\w:-]*|\/?>|[\w:-]+(?==)/y;
/** Longer lines are not coloured. */
const MAX_LINE = 2000;

/** Colours the lines of one text, in order. */
export class Highlighter {
  private readonly language: Language | undefined;
  /** What the line before left open. */
  private span: Language["spans"][number] | null = null;

  constructor(name: string) {
    this.language = LANGUAGES.get(name.toLowerCase());
  }

  /** The tokens of the next line as far as it is known; `line` can still be asked for all of it. */
  peek(text: string): Token[] {
    const { span } = this;
    const tokens = this.line(text);
    this.span = span;
    return tokens;
  }

  /** The tokens of the next line; joined, they are the line. */
  line(text: string): Token[] {
    const { language } = this;
    if (!language || text.length > MAX_LINE) return [["", text]];
    if (language === DIFF) return [[text.startsWith("+") ? "i" : text.startsWith("-") ? "d" : text.startsWith("@") ? "c" : "", text]];
    const out: Token[] = [];
    let at = 0;
    const take = (kind: TokenKind, end: number) => {
      const last = out.at(-1);
      if (last && last[0] === kind) last[1] += text.slice(at, end);
      else out.push([kind, text.slice(at, end)]);
      at = end;
    };
    while (at < text.length) {
      if (this.span) {
        const { close, kind } = this.span;
        const end = text.indexOf(close, at);
        if (end >= 0) this.span = null;
        take(kind, end < 0 ? text.length : end + close.length);
        continue;
      }
      const span = language.spans.find(({ open }) => text.startsWith(open, at));
      if (span) {
        this.span = span;
        take(span.kind, at + span.open.length);
      } else if (isLineComment(language, text, at)) {
        take("c", text.length);
      } else if (language.quotes.includes(text[at]!)) {
        const end = endOfString(text, at);
        take(/^\s*:/.test(text.slice(end, end + 4)) && language === JSON_ ? "a" : "s", end);
      } else if (language === MARKUP) {
        const tag = match(TAG, text, at);
        take(tag === 0 ? "" : text[at] === "<" || text[at] === "/" || text[at] === ">" ? "k" : "a", at + (tag || 1));
      } else {
        const word = match(WORD, text, at);
        const number = word ? 0 : match(NUMBER, text, at);
        if (word) take(kindOfWord(language, text, at, at + word), at + word);
        else if (number) take("n", at + number);
        else take("", at + 1);
      }
    }
    return out;
  }
}

function match(pattern: RegExp, text: string, at: number): number {
  pattern.lastIndex = at;
  return pattern.exec(text)?.[0].length ?? 0;
}

/** A `#` or `--` inside a word is none. */
function isLineComment(language: Language, text: string, at: number): boolean {
  return language.line.some((mark) => {
    return text.startsWith(mark, at) && (mark !== "#" || at === 0 || /[\s;({[]/.test(text[at - 1]!));
  });
}

function endOfString(text: string, at: number): number {
  const quote = text[at];
  let end = at + 1;
  while (end < text.length && text[end] !== quote) end += text[end] === "\\" ? 2 : 1;
  return Math.min(end + 1, text.length);
}

function kindOfWord(language: Language, text: string, at: number, end: number): TokenKind {
  const word = text.slice(at, end);
  if (language.keywords.has(language.anyCase ? word.toLowerCase() : word)) return "k";
  if (language === DATA || language === CSS) return /^\s*[:=]/.test(text.slice(end, end + 8)) ? "a" : "";
  if (text[end] === "(" || (language === RUST && text.startsWith("!(", end))) return "f";
  return language.types && /^\p{Lu}/u.test(word) && /\p{Ll}/u.test(word) ? "t" : "";
}
