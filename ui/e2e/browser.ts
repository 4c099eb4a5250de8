// A browser for the tests, and the rules that every test ends with: no other host was asked, the console is clean.
import { type Browser, type BrowserContextOptions, chromium, type Locator, type Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, expect } from "vitest";

import { startMock } from "../dev/mock.mjs";

/** The page under test; the mock server where the environment names no other. */
export const given = process.env.AUTARKY_URL;
const key = process.env.AUTARKY_KEY;

const FLAGS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
];

/** How long an answer of a real model may take, in milliseconds. */
export const PATIENCE = 120_000;

let browser: Browser;
let close: (() => Promise<void>)[] = [];
const foreign: string[] = [];
const complaints: string[] = [];
const allowed: RegExp[] = [];

beforeAll(async () => {
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: FLAGS });
});

afterEach(async () => {
  for (const run of close.reverse()) await run();
  close = [];
  const unexpected = complaints.filter((text) => !allowed.some((pattern) => pattern.test(text)));
  const asked = [...foreign];
  for (const list of [foreign, complaints, allowed]) list.length = 0;
  expect(asked, "requests to other hosts").toEqual([]);
  expect(unexpected, "errors in the console").toEqual([]);
});

afterAll(() => browser.close());

/** Starts a mock server for one test. */
export async function mock(options: Parameters<typeof startMock>[0] = {}) {
  const server = await startMock(options);
  close.push(server.stop);
  return server;
}

/** Lets the test's server refuse requests: the browser writes that to the console. */
export function allowComplaints(pattern = /Failed to load resource/): void {
  allowed.push(pattern);
}

/** A new visitor on the page at `url`; answers are kept short, so that real models are soon done. */
export async function visit(url?: string, options: BrowserContextOptions = {}): Promise<Page> {
  const at = url ?? given ?? (await mock()).url;
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  close.push(() => context.close());
  const page = await context.newPage();
  page.setDefaultTimeout(30_000);
  const { host } = new URL(at);
  page.on("request", (request) => {
    const to = new URL(request.url());
    if (to.protocol !== "data:" && to.protocol !== "blob:" && to.host !== host) foreign.push(request.url());
  });
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  await page.addInitScript(prepare, key ?? null);
  await page.goto(at);
  return page;
}

declare global {
  interface Window {
    /** Holds answers after their first event, until it is let go. */
    gate: { hold: boolean; held: number; aborted: number; letGo(): void };
  }
}

/** Runs in the page before its own script. */
function prepare(key: string | null): void {
  if (key !== null) localStorage.setItem("autarky.key", key);
  if (localStorage.getItem("autarky.settings") === null) {
    localStorage.setItem("autarky.settings", JSON.stringify({ max_tokens: 48 }));
  }
  let open = () => {};
  const gate = (window.gate = { hold: false, held: 0, aborted: 0, letGo: () => open() });
  const original = window.fetch.bind(window);
  window.fetch = async (input, init) => {
    const response = await original(input, init);
    if (!gate.hold || !String(input).includes("chat/completions") || !response.body) return response;
    const opened = new Promise<void>((resolve) => (open = resolve));
    init?.signal?.addEventListener("abort", () => gate.aborted++);
    const aborted = new Promise<never>((_, reject) => init?.signal?.addEventListener("abort", () => reject(init.signal!.reason)));
    aborted.catch(() => {});
    let events = 0;
    const held = new TransformStream<string, string>({
      async transform(chunk, controller) {
        for (const event of chunk.split(/(?<=\n\n)/)) {
          if (++events === 3) {
            gate.held++;
            await Promise.race([opened, aborted]);
          }
          controller.enqueue(event);
        }
      },
    });
    const body = response.body.pipeThrough(new TextDecoderStream()).pipeThrough(held).pipeThrough(new TextEncoderStream());
    return new Response(body, { status: response.status, headers: response.headers });
  };
}

/** Holds the next answers after their first events. */
export const hold = (page: Page) => page.evaluate(() => void (window.gate.hold = true));
/** Waits until an answer is held. */
export const held = (page: Page) => page.waitForFunction(() => window.gate.held > 0, null, { timeout: PATIENCE });
/** Lets a held answer, and those after it, go on. */
export const letGo = (page: Page) => page.evaluate(() => {
  window.gate.hold = false;
  window.gate.letGo();
});

export const composer = (page: Page) => page.getByRole("textbox", { name: "Message", exact: true });
export const mine = (page: Page) => page.locator("article.mine");
export const answers = (page: Page) => page.locator("article.message:not(.mine)");
export const sendButton = (page: Page) => page.getByRole("button", { name: "Send" });
export const stopButton = (page: Page) => page.getByRole("button", { name: "Stop", exact: true });

/** Writes a message and sends it. */
export async function send(page: Page, text: string): Promise<void> {
  await composer(page).fill(text);
  await composer(page).press("Enter");
}

/** Waits until nothing is being written and the server has the conversation. */
export async function answered(page: Page, count: number): Promise<void> {
  await page.waitForFunction(
    (count) => {
      const bodies = document.querySelectorAll("article.message:not(.mine) .answer");
      return bodies.length === count && [...bodies].every((body) => body.getAttribute("aria-busy") === "false");
    },
    count,
    { timeout: PATIENCE },
  );
  await sendButton(page).waitFor();
  await page.waitForFunction(() => location.hash.startsWith("#/chat/"));
  await saved(page);
}

/** Waits until the server has the conversation as it is on the page. */
export async function saved(page: Page): Promise<void> {
  await page.locator("[data-unsaved=false]").waitFor();
}

/** Sends a message, and waits for the answer; `count` answers are on the page then. */
export async function ask(page: Page, text: string, count = 1): Promise<void> {
  await send(page, text);
  await answered(page, count);
}

/** Waits until `read` gives `expected`. */
export async function becomes<T>(read: () => Promise<T>, expected: T): Promise<void> {
  await expect.poll(read, { timeout: 30_000 }).toEqual(expected);
}

/** Waits until what is typed goes to `field`. */
export async function focused(field: Locator): Promise<void> {
  await becomes(() => field.evaluate((element) => element === document.activeElement), true);
}

/** Text that no other test has written. */
export function unique(text: string): string {
  return `${text} ${Math.random().toString(36).slice(2, 8)}`;
}
