// The tree of messages, and the document that the server keeps of it.
import { describe, expect, test } from "vitest";

import { fromJson, messagesTo, settingsOf, titleFrom, toJson, toMarkdown } from "../src/chat/document";
import { add, change, EMPTY, merge, newId, pathTo, select, shown, siblings, type Tree } from "../src/chat/tree";
import { Random } from "./random";

/** Adds a message that says its own id. */
function say(tree: Tree, id: string, parent: string | null, role: "user" | "assistant" = "user"): Tree {
  return add(tree, { id, parent, role, content: id, created: 1 });
}

/** a → b, c (shown); c → d. */
function branched(): Tree {
  let tree = say(EMPTY, "a", null);
  tree = say(tree, "b", "a", "assistant");
  tree = say(tree, "c", "a", "assistant");
  return say(tree, "d", "c");
}

const ids = (tree: Tree) => shown(tree).map(({ id }) => id);

function randomTree(random: Random, prefix: string, from: Tree = EMPTY): Tree {
  let tree = from;
  for (let n = 0; n < 12; n++) {
    const parent = random.pick([null, ...tree.messages.keys()]);
    tree = say(tree, `${prefix}${n}`, parent);
    if (random.below(3) === 0) tree = select(tree, random.pick([...tree.messages.keys()]));
  }
  return tree;
}

/** Every message stands below its parent, once, and what is selected is a child. */
function expectWhole(tree: Tree): void {
  const seen = new Set<string>();
  const check = (children: string[], selected: string | null, parent: string | null) => {
    expect(selected === null ? children.length === 0 : children.includes(selected)).toBe(true);
    for (const id of children) {
      expect(seen.has(id)).toBe(false);
      seen.add(id);
      expect(tree.messages.get(id)?.parent).toBe(parent);
    }
  };
  check(tree.children, tree.selected, null);
  for (const message of tree.messages.values()) check(message.children, message.selected, message.id);
  expect(seen.size).toBe(tree.messages.size);
}

describe("branches", () => {
  test("the newest branch is shown, and another one when it is selected", () => {
    const tree = branched();
    expect(ids(tree)).toEqual(["a", "c", "d"]);
    const other = select(tree, "b");
    expect(ids(other)).toEqual(["a", "b"]);
    // Each branch remembers its own way down.
    expect(ids(select(other, "c"))).toEqual(["a", "c", "d"]);
  });

  test("siblings count in the order they came in", () => {
    const tree = branched();
    expect(siblings(tree, "b")).toEqual({ ids: ["b", "c"], index: 0 });
    expect(siblings(say(tree, "e", null), "e")).toEqual({ ids: ["a", "e"], index: 1 });
  });

  test("a path leads through branches that are not shown", () => {
    expect(pathTo(select(branched(), "b"), "d").map(({ id }) => id)).toEqual(["a", "c", "d"]);
  });

  test("a change gives a new tree and leaves the old one", () => {
    const tree = branched();
    const after = change(tree, "d", { content: "D" });
    expect(after.messages.get("d")!.content).toBe("D");
    expect(tree.messages.get("d")!.content).toBe("d");
    expect(after.messages.get("b")).toBe(tree.messages.get("b"));
    expect(change(tree, "nobody", { content: "x" })).toBe(tree);
  });

  test("ids do not repeat", () => {
    expect(new Set(Array.from({ length: 1000 }, newId)).size).toBe(1000);
  });
});

describe("two writers", () => {
  test("nothing of either is lost, and the tree stays whole", () => {
    const random = new Random(3);
    for (let round = 0; round < 200; round++) {
      const common = randomTree(random, "c");
      const [ours, theirs] = [randomTree(random, "o", common), randomTree(random, "t", common)];
      const both = merge(ours, theirs);
      expectWhole(both);
      expect(new Set(both.messages.keys())).toEqual(new Set([...ours.messages.keys(), ...theirs.messages.keys()]));
      expect(ids(both).slice(0, ids(ours).length)).toEqual(ids(ours));
    }
  });

  test("an answer that only the other saw to its end is taken from there", () => {
    const half = change(branched(), "b", { content: "ha" });
    const whole = change(branched(), "b", { content: "half and all", finish: "stop" });
    expect(merge(half, whole).messages.get("b")!.content).toBe("half and all");
    expect(merge(whole, half).messages.get("b")!.content).toBe("half and all");
  });
});

describe("the document", () => {
  test("what is written is what is read", () => {
    const random = new Random(4);
    for (let round = 0; round < 100; round++) {
      const tree = randomTree(random, "m");
      const settings = { system: "s", temperature: 0, stop: ["\n"] };
      const back = fromJson(JSON.parse(JSON.stringify(toJson({ tree, settings }))));
      expect(back.settings).toEqual(settings);
      expect(back.tree.children).toEqual(tree.children);
      expect(ids(back.tree)).toEqual(ids(tree));
      expect(new Set(back.tree.messages.keys())).toEqual(new Set(tree.messages.keys()));
      expectWhole(back.tree);
    }
  });

  test.each([
    null, 1, "x", [], {}, { messages: 1, children: 2 }, { children: ["a"], messages: [{ id: "a", children: ["a"] }] },
    { children: ["a", "a", "b"], messages: [{ id: "a", children: ["b"] }, { id: "b", children: ["a"] }] },
    { children: ["constructor", "__proto__"], messages: [{ id: "__proto__" }, null, { id: 1 }, { id: "a b" }] },
    { children: ["a"], selected: "z", messages: [{ id: "a", role: "root", content: {}, usage: [], timings: 1, toolCalls: [null, 3] }] },
  ])("%j is read as a whole tree", (json) => expectWhole(fromJson(json).tree));

  test("a long chain is read without recursion", () => {
    const messages = Array.from({ length: 50_000 }, (_, n) => ({ id: `m${n}`, children: [`m${n + 1}`] }));
    expect(shown(fromJson({ children: ["m0"], messages }).tree)).toHaveLength(50_000);
  });

  test("settings of the wrong type are left out", () => {
    expect(settingsOf({ temperature: "1", top_k: 5, seed: NaN, stop: ["a", 1, ""], system: "", other: 1 })).toEqual({ top_k: 5, stop: ["a"] });
  });

  test("the model is told the branch, with roles that take turns", () => {
    let tree = say(EMPTY, "a", null);
    tree = change(say(tree, "b", "a", "assistant"), "b", { content: "" });
    tree = say(tree, "c", "b");
    tree = say(tree, "d", "c", "assistant");
    tree = say(tree, "e", "d");
    expect(messagesTo({ tree, settings: { system: "s" } }, "e")).toEqual([
      { role: "system", content: "s" },
      { role: "user", content: "a\n\nc" },
      { role: "assistant", content: "d" },
      { role: "user", content: "e" },
    ]);
  });

  test("as Markdown, it is the branch that is shown", () => {
    const text = toMarkdown("T", { tree: branched(), settings: { system: "S" } });
    expect(text).toBe("# T\n\n## System\n\nS\n\n## You\n\na\n\n## Assistant\n\nc\n\n## You\n\nd\n");
  });

  test.each([
    ["  # Hello\nworld", "Hello"],
    ["", "New chat"],
    ["word ".repeat(30), "word word word word word word word word word word word word…"],
    ["x".repeat(100), `${"x".repeat(60)}…`],
    ["😀".repeat(61), `${"😀".repeat(60)}…`],
  ])("the title of %j", (text, title) => expect(titleFrom(text)).toBe(title));
});
