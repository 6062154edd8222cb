//! The board in a real browser, against ANDON_BOARD_URL or the mock. What needs a scripted situation is skipped
//! without the mock. ANDON_SHOTS=DIR keeps pictures for people to look at.
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";
import { start } from "../mock/server.mjs";

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const SIZES = { phone: [390, 844], desktop: [1280, 800], wall: [1920, 1080] };
const external = process.env.ANDON_BOARD_URL;
const skip = existsSync(CHROMIUM) ? false : `no browser at ${CHROMIUM}`;
const scripted = skip || (external ? "needs the mock" : false);
let browser, mock, base;

before(async () => {
  if (skip) return;
  if (!external) mock = await start();
  base = external ?? mock.url;
  browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
    "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"] });
});
after(async () => { await browser?.close(); await mock?.stop(); });

/** Opens the board; fails the test on any request to another host and on any error of the page. */
async function open({ size = "desktop", lang = "en", colorScheme = "dark" } = {}) {
  const [width, height] = SIZES[size];
  const context = await browser.newContext({ viewport: { width, height }, colorScheme, reducedMotion: "reduce", bypassCSP: false });
  const page = await context.newPage();
  const wrong = [];
  page.on("request", (request) => { if (new URL(request.url()).host !== new URL(base).host) wrong.push(request.url()); });
  page.on("pageerror", (error) => wrong.push(error.message));
  page.on("console", (said) => { if (said.type() === "error" && /Content Security|Uncaught/.test(said.text())) wrong.push(said.text()); });
  await page.goto(`${base}/?lang=${lang}`);
  await page.locator("[data-machine]").first().waitFor();
  await page.locator(".cover").waitFor({ state: "detached" });
  return { page, close: async () => { await context.close(); assert.deepEqual(wrong, []); } };
}
async function shot(page, name) {
  if (!process.env.ANDON_SHOTS) return;
  await page.waitForFunction(() => [...document.querySelectorAll("svg[role=img]")].every((svg) => svg.children.length > 0));
  await page.screenshot({ path: `${process.env.ANDON_SHOTS}/${name}.png` });
}

test("tiles live: time in state counts on", { skip }, async () => {
  const { page, close } = await open();
  const time = page.locator("[data-machine] .time").first();
  const was = await time.innerText();
  await page.waitForFunction((old) => document.querySelector("[data-machine] .time").innerText !== old, was, { timeout: 4000 });
  await close();
});

test("a detail opens by its link and closes", { skip: scripted }, async () => {
  const { page, close } = await open();
  await page.locator("[data-machine=laser] a").click();
  await page.locator("dialog[open] [data-item=voltage]").waitFor();
  await shot(page, "detail");
  await page.locator("dialog button").click();
  await page.locator("dialog").waitFor({ state: "detached" });
  await close();
});

test("a silent machine looks stale, the others do not", { skip: scripted }, async () => {
  mock.set("stale");
  const { page, close } = await open();
  await page.locator("[data-machine=laser] .value.stale").first().waitFor({ timeout: 8000 });
  assert.equal(await page.locator("[data-machine=cnc] .value.stale").count(), 0);
  await shot(page, "stale");
  await close();
  mock.set("normal");
});

test("a silent stream covers the page in time; a picture uncovers it", { skip: scripted }, async () => {
  const { page, close } = await open();
  mock.set("cut");
  const from = Date.now();
  await page.locator(".cover").waitFor({ timeout: 12_000 });
  assert.ok(Date.now() - from <= 11_500, `covered after ${Date.now() - from} ms`);
  assert.equal(await page.locator(".page[inert]").count(), 1);
  await shot(page, "cut");
  mock.set("normal");
  await page.locator(".cover").waitFor({ state: "detached", timeout: 15_000 });
  await close();
});

test("200 machines do not overflow sideways", { skip: scripted }, async () => {
  mock.set("normal", 200);
  const { page, close } = await open({ size: "wall" });
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
  await shot(page, "wall-200");
  await close();
  mock.set("normal", 8);
});

for (const situation of external ? ["as it is"] : ["normal", "alarm", "stop", "quarantined"]) {
  for (const lang of ["en", "zh"]) for (const size of Object.keys(SIZES)) for (const colorScheme of ["dark", "light"]) {
    test(`axe: ${situation}, ${lang}, ${size}, ${colorScheme}`, { skip }, async () => {
      mock?.set(situation);
      const { page, close } = await open({ size, lang, colorScheme });
      assert.equal(await page.evaluate(() => document.documentElement.lang), lang === "zh" ? "zh-CN" : "en");
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "scrolls sideways");
      await page.evaluate(AXE);
      const found = await page.evaluate(() => globalThis.axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] }));
      await shot(page, `${situation}-${lang}-${size}-${colorScheme}`);
      assert.deepEqual(found.violations.map((v) => [v.id, v.nodes.slice(0, 3).map((n) => n.html)]), []);
      await close();
    });
  }
}
