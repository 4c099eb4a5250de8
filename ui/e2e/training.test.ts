// The training page: always against the mock server, whose runs go on when a test says so.
import { expect, test } from "vitest";

import { becomes, mock, visit } from "./browser";

const RUNS = () => [
  { name: "book", steps: 200, planned: 400, floor: 3.2, going: true, dropped: [17, 40] },
  { name: "deeper", steps: 120, planned: 120, floor: 2.9 },
];

test("without runs, nothing leads to their page", async () => {
  const { url, state } = await mock();
  const page = await visit(url);
  await becomes(async () => state.requests.includes("GET /api/runs"), true);
  await page.getByRole("link", { name: "Engine" }).waitFor();
  expect(await page.getByRole("link", { name: "Training" }).count()).toBe(0);
  await page.goto(`${url}#/training`);
  await page.getByText("No runs yet").waitFor();
});

test("a run is drawn and followed, and others are laid over it", async () => {
  const { url, state } = await mock({ runs: RUNS() });
  const page = await visit(url);
  await page.getByRole("link", { name: "Training" }).click();
  await page.getByRole("heading", { name: "Training", exact: true }).waitFor();
  const rows = page.getByRole("region", { name: "List of runs" }).getByRole("row");
  await becomes(() => rows.count(), 3);
  expect(await rows.nth(1).innerText()).toContain("Running, about 5 min left");
  expect(await rows.nth(2).innerText()).toContain("Done");
  await page.getByText("2 steps were dropped and changed nothing: 17, 40.").waitFor();

  // The exact numbers, by keyboard: those of the last step, until the cursor is moved.
  const loss = page.getByRole("slider", { name: "Loss, by step" });
  const told = () => loss.getAttribute("aria-valuetext");
  await becomes(async () => /^Step 200: book \d\.\d{4}, smoothed \d\.\d{4}, held out \d\.\d{4} at step 200$/.test((await told()) ?? ""), true);
  await loss.focus();
  await page.keyboard.press("Home");
  await becomes(() => loss.getAttribute("aria-valuenow"), "1");
  expect(await loss.locator(".tip").innerText()).toContain("Step 1");
  await page.keyboard.press("ArrowRight");
  await becomes(() => loss.getAttribute("aria-valuenow"), "4");
  await page.keyboard.press("End");
  await becomes(() => loss.getAttribute("aria-valuenow"), "200");
  await loss.hover();
  await becomes(() => loss.locator(".tip .key").count(), 1);
  await page.mouse.move(0, 0);
  await becomes(() => loss.locator(".tip").count(), 0);

  // It goes on, and the page with it.
  await page.getByText(" was calm after 200 steps.").waitFor();
  Object.assign(state.runs[0]!, { steps: 250 });
  await page.getByText(" was calm after 250 steps.").waitFor();
  await becomes(async () => (await told())?.startsWith("Step 250: "), true);
  // Only what is new was asked for: the rest is still there.
  await page.getByText("The numbers of book").click();
  const numbers = page.getByRole("region", { name: "Numbers" }).getByRole("row");
  await becomes(() => numbers.count(), 1 + Math.ceil(250 / 4));
  await becomes(() => numbers.last().locator("th").innerText(), "1–4");

  await page.getByRole("checkbox", { name: "Compare deeper" }).check();
  await becomes(() => loss.locator(".mean").count(), 2);
  await page.getByRole("link", { name: "deeper" }).click();
  await page.getByRole("heading", { name: "deeper" }).waitFor();
  await becomes(() => page.evaluate(() => location.hash), "#/training/deeper");
  await becomes(() => loss.locator(".mean").count(), 1);
});

test.each(["light", "dark"] as const)("on a phone it fits, and every control has a name: %s", async (colorScheme) => {
  const { url } = await mock({ runs: RUNS() });
  const page = await visit(`${url}#/training/book`, { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true, colorScheme });
  const loss = page.getByRole("slider", { name: "Loss, by step" });
  await loss.locator(".mean").waitFor({ state: "attached" });
  for (const share of [0.2, 0.6, 0.95]) {
    const box = (await loss.boundingBox())!;
    await loss.dispatchEvent("pointerdown", { clientX: box.x + box.width * share, clientY: box.y + 20 });
    await loss.locator(".tip").waitFor();
    const wide = await page.evaluate(() => [...document.querySelectorAll(".scroll *")].filter((element) => {
      if (element.closest(".table, svg, .offscreen")) return false;
      const box = element.getBoundingClientRect();
      return box.width > 0 && (box.right > innerWidth + 1 || box.left < -1);
    }).map((element) => element.className));
    expect(wide).toEqual([]);
  }
  const nameless = await page.evaluate(() => [...document.querySelectorAll<HTMLElement>(".scroll :is(a, input, select, [role=slider], [role=region])")]
    .filter((element) => !(element.ariaLabel || element.textContent?.trim()))
    .map((element) => element.outerHTML.slice(0, 120)));
  expect(nameless).toEqual([]);
});
