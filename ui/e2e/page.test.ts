// The page against a server: what people do with it. Holds for any model, whatever it says.
import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";

import {
  answered, answers, ask, becomes, composer, focused, held, hold, letGo, mine, PATIENCE, saved, send, sendButton, stopButton, unique, visit,
} from "./browser";

const LONG = { timeout: PATIENCE + 60_000 };

test("a message is answered, shown with its speed, and kept in the server", LONG, async () => {
  const page = await visit();
  const text = unique("Once upon a time");
  await ask(page, text);
  expect(await mine(page).locator(".bubble").innerText()).toBe(text);
  expect(await answers(page).locator(".speed").innerText()).toMatch(/to first token/);
  const said = await answers(page).locator(".answer").innerText();
  const entry = page.getByRole("navigation").getByRole("link", { name: text });
  await entry.waitFor();
  await page.reload();
  await mine(page).waitFor();
  expect(await answers(page).locator(".answer").innerText()).toBe(said);
  expect(await entry.getAttribute("aria-current")).toBe("page");
});

test("what is written while the answer comes is live, and told to screen readers at the end", LONG, async () => {
  const page = await visit();
  await hold(page);
  await send(page, unique("Tell me"));
  await stopButton(page).waitFor();
  await held(page);
  expect(await answers(page).locator("[aria-busy=true]").count()).toBe(1);
  const marked = await answers(page).locator(".prose").evaluateHandle((element) => element);
  await letGo(page);
  await answered(page, 1);
  // The elements stay when the answer ends: a selection in them does, too.
  expect(await marked.evaluate((element) => element.isConnected)).toBe(true);
  await becomes(() => page.locator("[role=status][aria-live=polite]").innerText().then((text) => text.startsWith("Answer")), true);
});

test.each(["button", "Escape"])("an answer is stopped by %s, and what came is kept", LONG, async (by) => {
  const page = await visit();
  await hold(page);
  await send(page, unique("Go on and on"));
  await stopButton(page).waitFor();
  await held(page);
  await (by === "button" ? stopButton(page).click() : page.keyboard.press("Escape"));
  await answered(page, 1);
  expect(await answers(page).locator(".ending").innerText()).toBe("Stopped");
  expect(await page.evaluate(() => window.gate.aborted)).toBe(1);
  await page.reload();
  await becomes(() => answers(page).locator(".ending").allInnerTexts(), ["Stopped"]);
  // The conversation goes on.
  await ask(page, "And then?", 2);
});

test("another answer is a branch of its own", LONG, async () => {
  const page = await visit();
  await ask(page, unique("Say something"));
  const first = await answers(page).getAttribute("data-id");
  await page.getByRole("button", { name: "Regenerate answer" }).click();
  await answered(page, 1);
  const branch = answers(page).getByRole("group", { name: "Branches" });
  expect(await branch.innerText()).toBe("2/2");
  const second = await answers(page).getAttribute("data-id");
  expect(second).not.toBe(first);
  await branch.getByRole("button", { name: "Previous branch" }).click();
  expect(await branch.innerText()).toBe("1/2");
  expect(await answers(page).getAttribute("data-id")).toBe(first);
  await composer(page).focus();
  await page.keyboard.press("Alt+ArrowRight");
  await becomes(() => branch.innerText(), "2/2");
  // The server keeps which branch is shown.
  await saved(page);
  await page.reload();
  await becomes(() => branch.innerText(), "2/2");
  expect(await answers(page).getAttribute("data-id")).toBe(second);
});

test("an edited message is a branch, and the old one stays", LONG, async () => {
  const page = await visit();
  const [old, changed] = [unique("A cat"), unique("A dog")];
  await ask(page, old);
  await mine(page).hover();
  await mine(page).getByRole("button", { name: "Edit message" }).click();
  const editor = page.getByRole("textbox", { name: "Edit message" });
  expect(await editor.inputValue()).toBe(old);
  await editor.fill(changed);
  await page.getByRole("button", { name: "Send" }).first().click();
  await answered(page, 1);
  expect(await mine(page).locator(".bubble").allInnerTexts()).toEqual([changed]);
  const branch = mine(page).getByRole("group", { name: "Branches" });
  expect(await branch.innerText()).toBe("2/2");
  await branch.getByRole("button", { name: "Previous branch" }).press("ArrowLeft");
  expect(await mine(page).locator(".bubble").allInnerTexts()).toEqual([old]);
  // From an empty field, the arrow opens the last message; Escape leaves it as it is.
  await composer(page).press("ArrowUp");
  await editor.press("Escape");
  expect(await mine(page).locator(".bubble").allInnerTexts()).toEqual([old]);
});

test("an edited answer stands beside the model's", LONG, async () => {
  const page = await visit();
  await ask(page, unique("Anything"));
  await answers(page).getByRole("button", { name: "Edit message" }).click();
  await page.getByRole("textbox", { name: "Edit message" }).fill("My **own** words");
  await page.getByRole("button", { name: "Save" }).click();
  expect(await answers(page).locator(".prose strong").innerText()).toBe("own");
  expect(await answers(page).getByRole("group", { name: "Branches" }).innerText()).toBe("2/2");
});

test("another model is loaded when it is chosen, and answers", LONG, async (context) => {
  const page = await visit();
  const picker = page.getByRole("button", { name: /^Model: (?!none)/ });
  await picker.click();
  const entries = page.getByRole("menuitemradio");
  await entries.first().waitFor();
  if ((await entries.count()) < 2) context.skip("the server has one model");
  const other = page.locator("[role=menuitemradio][aria-checked=false]").first();
  const name = await other.locator(".item-name").innerText();
  await other.click();
  await page.getByRole("button", { name: `Model: ${name}, Ready` }).waitFor({ timeout: PATIENCE });
  await ask(page, unique("Who are you?"));
  expect(await answers(page).locator(".speed").innerText()).toContain(name);
  await page.reload();
  await page.getByRole("button", { name: `Model: ${name}, Ready` }).waitFor();
});

test("settings are sent, kept, and start new chats where that is asked for", LONG, async () => {
  const page = await visit();
  await page.getByRole("button", { name: "Conversation settings" }).click();
  await page.getByRole("textbox", { name: "System prompt" }).fill("Be brief.");
  await page.getByRole("spinbutton", { name: "Temperature" }).fill("0.5");
  await page.getByRole("spinbutton", { name: "Top-p" }).fill("0.9");
  await page.getByRole("spinbutton", { name: "Top-k" }).fill("20");
  await page.getByRole("spinbutton", { name: "Seed" }).fill("7");
  await page.getByRole("textbox", { name: "Stop at" }).fill("END\\n\n###");
  await page.getByRole("spinbutton", { name: "Longest answer" }).fill("-3");
  expect(await page.getByRole("spinbutton", { name: "Longest answer" }).getAttribute("aria-invalid")).toBe("true");
  await page.getByRole("spinbutton", { name: "Longest answer" }).fill("16");
  const request = page.waitForRequest((request) => request.url().endsWith("/v1/chat/completions"));
  const text = unique("Hello");
  await send(page, text);
  expect((await request).postDataJSON()).toMatchObject({
    stream: true, temperature: 0.5, top_p: 0.9, top_k: 20, seed: 7, max_tokens: 16, stop: ["END\n", "###"],
    messages: [{ role: "system", content: "Be brief." }, { role: "user", content: text }],
  });
  await answered(page, 1);
  await page.getByRole("button", { name: "Use for new chats" }).click();
  await page.reload();
  await mine(page).waitFor();
  await page.getByRole("button", { name: "Conversation settings" }).click();
  expect(await page.getByRole("spinbutton", { name: "Temperature" }).inputValue()).toBe("0.5");
  await page.keyboard.press("Control+k");
  expect(await page.getByRole("textbox", { name: "System prompt" }).inputValue()).toBe("Be brief.");
});

test("conversations are listed, found, renamed, exported and deleted", LONG, async () => {
  const page = await visit();
  const [one, two] = [unique("First"), unique("Second")];
  await ask(page, one);
  await page.getByRole("button", { name: "New chat" }).click();
  await ask(page, two);
  const list = page.getByRole("navigation");
  await list.getByRole("link", { name: one }).click();
  await becomes(() => mine(page).locator(".bubble").allInnerTexts(), [one]);

  await page.getByRole("searchbox").fill(two.toUpperCase());
  await becomes(() => list.locator(".chat-link").allInnerTexts(), [two]);
  await page.getByRole("searchbox").press("ArrowDown");
  await page.keyboard.press("Enter");
  await becomes(() => mine(page).locator(".bubble").allInnerTexts(), [two]);
  // A conversation that is opened takes the focus, a frame later; a field is emptied by a key to what has the focus.
  await focused(composer(page));
  await page.getByRole("searchbox").fill("");

  const renamed = unique("Renamed");
  const actions = async (title: string, item: string) => {
    await list.getByRole("link", { name: title }).hover();
    await list.getByRole("button", { name: `Actions for ${title}` }).click();
    await page.getByRole("menuitem", { name: item }).click();
  };
  await actions(one, "Rename");
  await page.getByRole("textbox", { name: "Title" }).fill(renamed);
  await page.keyboard.press("Enter");
  // The list has the new title when the server has it.
  await list.getByRole("link", { name: renamed }).waitFor();
  await page.reload();
  await list.getByRole("link", { name: renamed }).waitFor();

  const exported = async (item: string) => {
    const download = page.waitForEvent("download");
    await actions(renamed, item);
    return readFile(await (await download).path(), "utf8");
  };
  expect(await exported("Export as Markdown")).toContain(`# ${renamed}\n\n## You\n\n${one}\n`);
  expect(JSON.parse(await exported("Export as JSON"))).toMatchObject({ title: renamed, document: { format: 1 } });

  await actions(renamed, "Delete");
  await page.getByRole("button", { name: "Cancel" }).click();
  await actions(renamed, "Delete");
  await page.getByRole("button", { name: "Delete", exact: true }).click();
  await becomes(() => list.getByRole("link", { name: renamed }).count(), 0);
  await page.reload();
  await list.getByRole("link", { name: two }).waitFor();
  expect(await list.getByRole("link", { name: renamed }).count()).toBe(0);

  await page.getByRole("button", { name: "All chats" }).click();
  await page.getByRole("menuitem", { name: "Delete all chats" }).click();
  await page.getByRole("button", { name: "Delete all", exact: true }).click();
  await becomes(() => list.locator(".chat-link").count(), 0);
  // The conversation on the page was one of them.
  await becomes(() => mine(page).count(), 0);
});

test("an answer goes on while another conversation is looked at", LONG, async () => {
  const page = await visit();
  const text = unique("In the background");
  await hold(page);
  await send(page, text);
  await page.getByRole("navigation").getByRole("link", { name: text }).waitFor();
  await page.keyboard.press("Control+k");
  await becomes(() => mine(page).count(), 0);
  await page.getByRole("img", { name: "is being answered" }).waitFor();
  await letGo(page);
  await becomes(() => page.getByRole("img", { name: "is being answered" }).count(), 0);
  await page.getByRole("navigation").getByRole("link", { name: text }).click();
  await answered(page, 1);
});

test("dark and light follow the system until one is chosen", async () => {
  const page = await visit(undefined, { colorScheme: "light" });
  const background = () => page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
  const light = await background();
  await page.emulateMedia({ colorScheme: "dark" });
  const dark = await background();
  expect(dark).not.toBe(light);
  await page.getByRole("radio", { name: "Light" }).check({ force: true });
  expect(await background()).toBe(light);
  await page.reload();
  await composer(page).or(page.locator(".first-run")).waitFor();
  expect(await background()).toBe(light);
  await page.getByRole("radio", { name: "Dark" }).check({ force: true });
  await page.emulateMedia({ colorScheme: "light" });
  expect(await background()).toBe(dark);
  await page.getByRole("radio", { name: "As the system" }).check({ force: true });
  expect(await background()).toBe(light);
});

test("on a phone everything fits, and the side bar is a drawer", LONG, async () => {
  const page = await visit(undefined, { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true });
  const overflow = () => page.evaluate(() => {
    const wide = [...document.querySelectorAll("body *")].filter((element) => {
      // What scrolls sideways by itself may hold more than fits.
      if (element.closest("pre, .table, .sidebar, .offscreen, svg, [popover], dialog")) return false;
      const box = element.getBoundingClientRect();
      return box.width > 0 && (box.right > innerWidth + 1 || box.left < -1);
    });
    return [document.documentElement.scrollWidth - innerWidth, ...wide.map((element) => element.className || element.tagName)];
  });
  expect(await overflow()).toEqual([0]);
  await composer(page).fill(`${unique("A word that is long:")} ${"x".repeat(120)}\n| a | b |\n|---|---|`);
  await sendButton(page).tap();
  await answered(page, 1);
  expect(await overflow()).toEqual([0]);
  const field = (await composer(page).boundingBox())!;
  expect(field.y + field.height).toBeLessThanOrEqual(740);

  const sidebar = page.getByRole("navigation", { name: "Side bar" });
  expect(await sidebar.isVisible()).toBe(false);
  await page.getByRole("button", { name: "Show the side bar" }).tap();
  await sidebar.getByRole("link", { name: "Engine" }).tap();
  await page.getByRole("heading", { name: "Engine" }).waitFor();
  await becomes(() => sidebar.isVisible(), false);
  expect(await overflow()).toEqual([0]);
  await page.goto(page.url().replace("engine", "models"));
  await page.getByRole("heading", { name: "Models", exact: true }).waitFor();
  expect(await overflow()).toEqual([0]);
  await page.goBack();
  await page.goBack();
  await mine(page).waitFor();
  await page.getByRole("button", { name: "Conversation settings" }).tap();
  await page.getByRole("complementary").waitFor();
  expect(await overflow()).toEqual([0]);
});

test("the engine page shows what the engine does", LONG, async () => {
  const page = await visit();
  await ask(page, unique("Warm up"));
  await page.getByRole("link", { name: "Engine" }).click();
  for (const title of ["Decode", "Prefill", "Requests", "KV cache blocks", "Memory of the process"]) {
    await page.getByRole("img", { name: new RegExp(`^${title}: `) }).waitFor();
  }
  await becomes(() => page.locator(".chart polyline").count().then((count) => count >= 5), true);
  const rows = page.getByRole("region", { name: "Totals" }).getByRole("row");
  expect(await rows.count()).toBeGreaterThanOrEqual(2);
});

test("models are loaded and unloaded on their page", LONG, async () => {
  const page = await visit();
  await page.getByRole("link", { name: "Models" }).click();
  const ready = page.locator("[data-model][data-state=ready]").first();
  const any = page.locator("[data-model]").first();
  await any.waitFor();
  if ((await ready.count()) === 0) await any.getByRole("button", { name: /^Load / }).click();
  await ready.waitFor({ timeout: PATIENCE });
  const name = (await ready.getAttribute("data-model"))!;
  const row = page.locator(`[data-model=${JSON.stringify(name)}]`);
  await row.getByRole("button", { name: `Unload ${name}` }).click();
  await row.getByRole("button", { name: `Load ${name}` }).waitFor({ timeout: PATIENCE });
  // A message brings the model back by itself.
  await page.getByRole("button", { name: "New chat" }).click();
  await ask(page, unique("Wake up"));
  expect(await page.getByRole("alert").count()).toBe(0);
});

test("keys do what the help says", async () => {
  const page = await visit();
  await composer(page).waitFor();
  await page.evaluate(() => (document.activeElement as HTMLElement).blur());
  await page.keyboard.press("?");
  const help = page.getByRole("dialog", { name: "Help" });
  await help.waitFor();
  await page.keyboard.press("Escape");
  await becomes(() => help.count(), 0);
  await page.keyboard.press("/");
  await focused(composer(page));
  await page.keyboard.type("a/b?");
  expect(await composer(page).inputValue()).toBe("a/b?");
  await page.keyboard.press("Shift+Enter");
  expect(await composer(page).inputValue()).toBe("a/b?\n");
  const sidebar = page.getByRole("navigation", { name: "Side bar" });
  await page.keyboard.press("Control+b");
  await becomes(() => sidebar.isVisible(), false);
  await page.keyboard.press("Control+b");
  await becomes(() => sidebar.isVisible(), true);
});

test("every control has a name, and what has the focus can be seen", LONG, async () => {
  const page = await visit();
  await ask(page, unique("Hello"));
  const nameless = () => page.evaluate(() => {
    return [...document.querySelectorAll<HTMLElement>("button, a, input, textarea, select, [role=region], dialog")]
      .filter((element) => {
        const labels = "labels" in element ? [...((element as HTMLInputElement).labels ?? [])] : [];
        return !(element.ariaLabel || element.textContent?.trim() || labels.length > 0);
      })
      .map((element) => element.outerHTML.slice(0, 120));
  });
  await page.getByRole("button", { name: "Conversation settings" }).click();
  expect(await nameless()).toEqual([]);
  await page.getByRole("link", { name: "Models" }).click();
  await page.getByRole("heading", { name: "Models", exact: true }).waitFor();
  expect(await nameless()).toEqual([]);
  await page.keyboard.press("Tab");
  expect(await page.evaluate(() => getComputedStyle(document.activeElement!).outlineStyle)).toBe("solid");
});
