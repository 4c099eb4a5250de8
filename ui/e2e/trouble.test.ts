// The page when things go wrong, and what only some models do: always against the mock server.
import { expect, test } from "vitest";

import { startMock } from "../dev/mock.mjs";
import { allowComplaints, answered, answers, ask, becomes, composer, mine, mock, send, sendButton, stopButton, visit } from "./browser";

test("without a model, the page helps to add one", async () => {
  const { url } = await mock({ empty: true });
  const page = await visit(url);
  await page.getByRole("heading", { name: "Welcome to Autarky" }).waitFor();
  allowComplaints();
  await page.getByRole("textbox", { name: "Path of the model" }).fill("nowhere.gguf");
  await page.keyboard.press("Enter");
  await becomes(() => page.getByRole("alert").innerText().then((text) => text.includes("nowhere.gguf")), true);
  await page.getByRole("button", { name: "Add stories260k.gguf" }).click();
  await composer(page).waitFor();
  await page.getByRole("button", { name: "Model: stories260k, Ready" }).waitFor();
});

test("the API key is asked for once, checked, and remembered", async () => {
  const { url } = await mock({ key: "right" });
  allowComplaints();
  const page = await visit(url);
  const dialog = page.getByRole("dialog", { name: "API key" });
  await dialog.waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("button", { name: "Enter the key" }).click();
  await dialog.getByLabel("API key").fill("wrong");
  await page.keyboard.press("Enter");
  await becomes(() => dialog.innerText().then((text) => text.includes("did not take")), true);
  await dialog.getByLabel("API key").fill("right");
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: /^Model: qwen3/ }).waitFor();
  await page.reload();
  await page.getByRole("button", { name: /^Model: qwen3/ }).waitFor();
  expect(await dialog.count()).toBe(0);
  await ask(page, "hello");
});

test("a busy server says when to try again", async () => {
  const { url } = await mock({ busy: true });
  allowComplaints();
  const page = await visit(url);
  await send(page, "hello");
  const again = page.getByRole("button", { name: /^Try again/ });
  await again.waitFor();
  expect(await again.isDisabled()).toBe(true);
  await becomes(() => again.isEnabled(), true);
  await again.click();
  await answered(page, 1);
  expect(await page.getByRole("alert").count()).toBe(0);
});

test("a message that is sent before the server has named its models is answered, or stopped", async () => {
  let open = () => {};
  const { url } = await mock({ ready: new Promise((resolve) => (open = resolve)) });
  const page = await visit(url);
  await send(page, "stop this");
  await stopButton(page).click();
  await sendButton(page).waitFor();
  expect(await page.getByRole("alert").count()).toBe(0);
  await send(page, "answer this");
  await stopButton(page).waitFor();
  open();
  await answered(page, 1);
  expect(await mine(page).locator(".bubble").allInnerTexts()).toEqual(["stop this", "answer this"]);
});

test("a server that is gone is told of, and found again with nothing lost", async () => {
  const server = await mock();
  allowComplaints(/Failed to load resource|ERR_/);
  const page = await visit(server.url);
  await ask(page, "hello");
  await server.stop();
  await send(page, "are you there?");
  await becomes(() => page.locator(".banner").innerText().then((text) => text.includes("does not answer")), true);
  const back = await startMock({ port: Number(new URL(server.url).port), conversations: server.state.conversations } as object);
  await page.getByRole("button", { name: "Try now" }).click();
  await becomes(() => page.locator(".banner").count(), 0);
  await page.getByRole("button", { name: "Try again" }).click();
  await answered(page, 2);
  await back.stop();
});

test("an error in the middle keeps what came", async () => {
  const { url } = await mock();
  const page = await visit(url);
  await send(page, "please break in the middle of this");
  await becomes(() => page.getByRole("alert").innerText().then((text) => text.includes("the device was lost")), true);
  await becomes(() => answers(page).locator(".prose").innerText().then((text) => text.length > 5), true);
});

test("reasoning is folded, tool calls are blocks", async () => {
  const { url } = await mock();
  const page = await visit(url);
  await ask(page, "think of the weather in Delft");
  const thoughts = answers(page).locator("details");
  expect(await thoughts.getAttribute("open")).toBe(null);
  expect(await thoughts.locator("summary").innerText()).toMatch(/^Thought for/);
  await thoughts.locator("summary").click();
  expect((await thoughts.locator(".prose").innerText()).length).toBeGreaterThan(10);
  const call = answers(page).locator(".call");
  expect(await call.innerText()).toContain("get_weather");
  expect(JSON.parse(await call.locator("pre").innerText())).toEqual({ city: "Delft", unit: "celsius" });
});

test("Markdown is shown, and HTML in it is text", async () => {
  const { url } = await mock();
  const page = await visit(url);
  await page.evaluate(() => localStorage.removeItem("autarky.settings"));
  await page.addInitScript(() => localStorage.setItem("autarky.settings", "{}"));
  await page.reload();
  await ask(page, "What is a KV cache for?");
  const prose = answers(page).locator(".prose");
  expect(await prose.locator("table").count()).toBe(1);
  expect(await prose.locator("th").count()).toBe(5);
  expect(await prose.locator("ol > li").count()).toBe(3);
  expect(await prose.locator("script, b").count()).toBe(0);
  expect(await prose.innerText()).toContain('<script>alert("this")</script>');
  const link = prose.locator("a");
  expect(await link.getAttribute("rel")).toContain("noopener");
  const code = prose.locator("figure.code");
  expect(await code.locator("pre").innerText()).toContain("export function bytesPerToken");
  await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  await code.getByRole("button", { name: "Copy code" }).click();
  await becomes(() => page.evaluate(() => navigator.clipboard.readText()), (await code.locator("pre").innerText()).replace(/\n$/, ""));
});

test("two windows on one conversation keep what both wrote", async () => {
  const { url, state } = await mock();
  allowComplaints(/409/);
  const one = await visit(url);
  await ask(one, "hello");
  const two = await visit(one.url());
  await mine(two).waitFor();
  await ask(one, "from one", 2);
  await ask(two, "from two", 2);
  const [stored] = [...state.conversations.values()] as { document: { messages: { content: string }[] } }[];
  const texts = stored!.document.messages.map(({ content }) => content);
  expect(texts).toEqual(expect.arrayContaining(["hello", "from one", "from two"]));
  expect(state.conversations.size).toBe(1);
});

test("a conversation that was deleted elsewhere can be kept", async () => {
  const { url, state } = await mock();
  allowComplaints();
  const page = await visit(url);
  await ask(page, "hello");
  state.conversations.clear();
  await send(page, "still there?");
  await page.getByRole("button", { name: "Keep it" }).click();
  await becomes(async () => state.conversations.size, 1);
});

test("an address of a conversation that is gone says so", async () => {
  const { url } = await mock();
  allowComplaints();
  const page = await visit(`${url}#/chat/nothing`);
  await page.getByRole("heading", { name: "This conversation is gone" }).waitFor();
  await page.getByRole("main").getByRole("button", { name: "New chat" }).click();
  await composer(page).waitFor();
});
