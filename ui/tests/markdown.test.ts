// The Markdown parser against what CommonMark and GitHub say, and against texts made to break it.
import { describe, expect, test } from "vitest";

import { type Block, parseBlocks } from "../src/markdown/blocks";
import { Highlighter } from "../src/markdown/highlight";
import { type Inline, parseInline, plainText } from "../src/markdown/inline";
import { MarkdownStream, withoutLooseLine } from "../src/markdown/stream";
import { randomText, Random } from "./random";

/** Inline nodes as short markup, for reading. */
function short(nodes: Inline[]): string {
  return nodes
    .map((node) => {
      switch (node.type) {
        case "text":
          return node.text;
        case "break":
          return "<br>";
        case "emphasis":
        case "strong":
        case "strike":
          return `<${node.type}>${short(node.children)}</${node.type}>`;
        case "link":
          return `<a ${node.href}${node.title ? ` ${node.title}` : ""}>${short(node.children)}</a>`;
        case "image":
          return `<img ${node.source} ${node.alt}>`;
        default:
          return `<${node.type}>${node.text}</${node.type}>`;
      }
    })
    .join("");
}

describe("inline", () => {
  test.each([
    ["plain", "plain"],
    ["*a* _b_ **c** __d__ ~~e~~", "<emphasis>a</emphasis> <emphasis>b</emphasis> <strong>c</strong> <strong>d</strong> <strike>e</strike>"],
    ["***a***", "<emphasis><strong>a</strong></emphasis>"],
    ["**a *b* c**", "<strong>a <emphasis>b</emphasis> c</strong>"],
    ["*foo**bar*", "<emphasis>foo**bar</emphasis>"],
    ["snake_case_name and 2 * 3 * 4", "snake_case_name and 2 * 3 * 4"],
    ["**not closed", "**not closed"],
    ["*a **b*", "<emphasis>a **b</emphasis>"],
    ["`code *x*` and `` a`b ``", "<code>code *x*</code> and <code>a`b</code>"],
    ["`not closed", "`not closed"],
    ["\\*a\\* \\\\ \\q", "*a* \\ \\q"],
    ["a  \nb\\\nc\nd", "a<br>b<br>c\nd"],
    ["a<br>b<br/>c", "a<br>b<br>c"],
    ["&amp; &lt; &#65; &#x42; &nope;", "& < A B &nope;"],
    ["[t](https://a.example/x_y)", "<a https://a.example/x_y>t</a>"],
    ['[**t**](https://a.example "T")', "<a https://a.example T><strong>t</strong></a>"],
    ["[t](https://a.example/(x))", "<a https://a.example/(x)>t</a>"],
    ["[t](<https://a.example>)", "<a https://a.example>t</a>"],
    ["[t] (x) [u", "[t] (x) [u"],
    ["![alt *x*](https://a.example/p.png)", "<img https://a.example/p.png alt x>"],
    ["<https://a.example> <mailto:a@b.example>", "<a https://a.example>https://a.example</a> <a mailto:a@b.example>a@b.example</a>"],
    ["see https://a.example/b_c_d.", "see <a https://a.example/b_c_d>https://a.example/b_c_d</a>."],
    ["(https://a.example/(b)) x", "(<a https://a.example/(b)>https://a.example/(b)</a>) x"],
    ["\\(a_1 * b_2\\) and $$x$$", "<math>a_1 * b_2</math> and <math>x</math>"],
    ["costs $5 or $6", "costs $5 or $6"],
  ])("%s", (source, expected) => expect(short(parseInline(source))).toBe(expected));

  test.each(["javascript:alert(1)", "JaVaScRiPt:alert(1)", "data:text/html,x", "vbscript:x", "//host", "/api/x", "java\nscript:x"])(
    "a link to %j leads nowhere",
    (target) => {
      for (const source of [`[t](${target})`, `[t](<${target}>)`, `<${target}>`]) {
        expect(short(parseInline(source))).not.toMatch(/<a (?!null)/);
      }
    },
  );

  test("raw HTML is text", () => {
    const source = '<script>alert(1)</script><img src=x onerror="y">';
    expect(parseInline(source)).toEqual([{ type: "text", text: source }]);
  });

  test("links do not nest", () => {
    const outer = parseInline("[a [b](https://b.example) c](https://a.example)");
    expect(JSON.stringify(outer).match(/"type":"link"/g)).toHaveLength(1);
  });

  test.each([
    ["**bo", "<strong>bo</strong>"],
    ["**bold*", "<strong>bold</strong>"],
    ["a `co", "a <code>co</code>"],
    ["a **", "a "],
    ["[t](https://a.exam", "<a null>t</a>"],
  ])("while it is written, %s is shown closed", (source, expected) => {
    expect(short(parseInline(source, true))).toBe(expected);
  });
});

describe("blocks", () => {
  const p = (text: string): Block => ({ type: "paragraph", text });

  test("headings, rules and paragraphs", () => {
    expect(parseBlocks("# A #\n## B\nc\nd\n\n---\n***\nE\n===\n#no")).toEqual([
      { type: "heading", level: 1, text: "A" },
      { type: "heading", level: 2, text: "B" },
      p("c\nd"),
      { type: "rule" },
      { type: "rule" },
      { type: "heading", level: 1, text: "E" },
      p("#no"),
    ]);
  });

  test("fenced code keeps its text, and ends at its own mark only", () => {
    expect(parseBlocks("```rust\n# a\n\n~~~\n  b\n```\n~~~\nc")).toEqual([
      { type: "code", language: "rust", text: "# a\n\n~~~\n  b" },
      { type: "code", language: "", text: "c" },
    ]);
    expect(parseBlocks("````\n```\n````")).toEqual([{ type: "code", language: "", text: "```" }]);
  });

  test("indented code needs a blank line before it", () => {
    expect(parseBlocks("a\n    b\n\n    c\n\n    d")).toEqual([
      p("a\nb"),
      { type: "code", language: "", text: "c\n\nd" },
    ]);
  });

  test("lists: bullets, numbers, tasks, nesting, looseness", () => {
    expect(parseBlocks("- a\n- [x] b\n  - c\n- [ ] d")).toEqual([
      {
        type: "list", start: null, tight: true,
        items: [
          { blocks: [p("a")] },
          { task: true, blocks: [p("b"), { type: "list", start: null, tight: true, items: [{ blocks: [p("c")] }] }] },
          { task: false, blocks: [p("d")] },
        ],
      },
    ]);
    expect(parseBlocks("3. a\n\n   more\n4. b")).toMatchObject([{ type: "list", start: 3, tight: false }]);
    expect(parseBlocks("- a\n\n- b\n\nc")).toMatchObject([{ type: "list", tight: false }, p("c")]);
    expect(parseBlocks("- a\n\nb")).toMatchObject([{ type: "list", tight: true }, p("b")]);
    expect(parseBlocks("- a\n* b")).toHaveLength(2);
  });

  test("a nested list indented by two under a number belongs to it", () => {
    expect(parseBlocks("1. a\n  - b\n2. c")).toMatchObject([
      { type: "list", start: 1, items: [{ blocks: [p("a"), { type: "list", start: null }] }, { blocks: [p("c")] }] },
    ]);
  });

  test("code in a list item", () => {
    expect(parseBlocks("1. a\n   ```sh\n   x\n\n   y\n   ```\n2. b")).toMatchObject([
      { type: "list", items: [{ blocks: [p("a"), { type: "code", language: "sh", text: "x\n\ny" }] }, {}] },
    ]);
  });

  test("a number that is not one does not end a paragraph", () => {
    expect(parseBlocks("in\n1984. Then\n- x")).toMatchObject([p("in\n1984. Then"), { type: "list" }]);
  });

  test("quotes hold blocks, and go on lazily", () => {
    expect(parseBlocks("> a\nb\n> - c\n\nd")).toEqual([
      { type: "quote", blocks: [p("a\nb"), { type: "list", start: null, tight: true, items: [{ blocks: [p("c")] }] }] },
      p("d"),
    ]);
  });

  test("tables", () => {
    expect(parseBlocks("t\n| a | b |\n|:--|--:|\n| 1 | x\\|y | 3 |\n| 2 |\n\nc")).toEqual([
      p("t"),
      { type: "table", align: ["left", "right"], head: ["a", "b"], rows: [["1", "x|y"], ["2"]] },
      p("c"),
    ]);
    expect(parseBlocks("a | b\n--- | ---\n1 | 2")).toMatchObject([{ type: "table", rows: [["1", "2"]] }]);
    expect(parseBlocks("| a | b |\n|---|")).toMatchObject([{ type: "paragraph" }]);
  });

  test("displayed math", () => {
    expect(parseBlocks("\\[\na_1\n\\]\nb\n\n$$ c $$")).toEqual([
      { type: "math", text: "a_1" },
      p("b"),
      { type: "math", text: "c" },
    ]);
  });
});

describe("while it is written", () => {
  test("blocks are the same however the text arrived, and those that have ended never change", () => {
    const random = new Random(7);
    for (let round = 0; round < 400; round++) {
      const text = randomText(random, 1 + random.below(60));
      const stream = new MarkdownStream();
      let settled: Block[] = [];
      for (let end = 0; end < text.length; ) {
        end = Math.min(text.length, end + 1 + random.below(9));
        stream.update(text.slice(0, end));
        expect(stream.done.slice(0, settled.length)).toEqual(settled);
        settled = structuredClone(stream.done);
        expect([...stream.done, ...stream.tail], text.slice(0, end)).toEqual(parseBlocks(text.slice(0, end)));
      }
    }
  });

  test("what is held back never grows back over what was shown", () => {
    const random = new Random(8);
    for (let round = 0; round < 300; round++) {
      const text = randomText(random, 20);
      let shown = "";
      for (let end = 1; end <= text.length; end++) {
        const next = withoutLooseLine(text.slice(0, end));
        expect(next.startsWith(shown), JSON.stringify([shown, next])).toBe(true);
        shown = next;
      }
    }
  });
});

describe("hostile text", () => {
  const repeats = [
    "*a ", "**a", "_a_ b_", "[", "![", "[a](", "[](", "[a](<", '[a](b "', "](", "`", "`` ` ", "\\(", "\\[", "$$", "<",
    "<http://", "&", "https://a", "> ", "- ", "1. ", "  - a\n", "- a\n", "> a\n", "|a", "|-", "| a |\n|---|\n", "\\[ a\n",
    "$$ a\n", "```\n", "~~~a\n", "# ", "#", "\t", "***", "~~", "*_", "<br", "(", ")", "\n\n    ",
  ];

  test.each(repeats)("the work for %j repeated is in proportion to its length", (unit) => {
    // Characters that regular expressions and searches look at cannot be counted here; quadratic work on so many
    // characters would take minutes, and the runner stops a test long before.
    const text = unit.repeat(300_000 / unit.length);
    const blocks = parseBlocks(text);
    expect(blocks.length).toBeGreaterThanOrEqual(text.trim() === "" ? 0 : 1);
    expect(plainText(parseInline(text)).length).toBeLessThanOrEqual(text.length);
  }, 20_000);

  test("every character of random text is kept or was markup", () => {
    const random = new Random(9);
    for (let round = 0; round < 500; round++) {
      const words = Array.from({ length: 12 }, () => random.pick(["ab", "cd", "*", "**", "_", "`", "[", "](", ")", " "]));
      const letters = (s: string) => s.replace(/[^a-z]/g, "");
      const nodes = parseInline(words.join(""));
      const links = JSON.stringify(nodes).includes('"type":"link"') || JSON.stringify(nodes).includes('"image"');
      if (!links) expect(letters(plainText(nodes))).toBe(letters(words.join("")));
    }
  });
});

describe("colours", () => {
  test.each([
    ["rust", 'let x: Vec<u8> = f("a"); // c'],
    ["python", 'def f(x): return """a'],
    ["json", '{"a": [1.5, true]}'],
    ["html", '<a href="x">t</a> <!-- c -->'],
    ["diff", "+a"],
    ["nothing", "a b"],
  ])("tokens of %s joined are the line", (name, line) => {
    const tokens = new Highlighter(name).line(line);
    expect(tokens.map(([, text]) => text).join("")).toBe(line);
  });

  test("kinds", () => {
    const kinds = (name: string, line: string) => Object.fromEntries(new Highlighter(name).line(line).map(([k, t]) => [t.trim(), k]));
    expect(kinds("rust", 'let s = f("a"); // c')).toMatchObject({ let: "k", f: "f", '"a"': "s", "// c": "c" });
    expect(kinds("json", '{"a": 1}')).toMatchObject({ '"a"': "a", "1": "n" });
    expect(kinds("sql", "SELECT x")).toMatchObject({ SELECT: "k" });
  });

  test("a comment goes on over lines", () => {
    const highlighter = new Highlighter("ts");
    highlighter.line("a /* b");
    expect(highlighter.line("c */ d")[0]).toEqual(["c", "c */"]);
  });

  test("a line that is only looked at leaves no trace", () => {
    const highlighter = new Highlighter("ts");
    highlighter.peek("/* b");
    expect(highlighter.line("let")).toEqual([["k", "let"]]);
  });
});
