//! One browser for all tests of a file, and what every page of the board has to keep: no request leaves the
//! gateway, nothing throws, nothing offends the content policy. Nothing here knows a situation.
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];
const SHOTS = process.env.ANDON_SHOTS;

export const SIZES = { phone: [390, 844], desktop: [1280, 800], wall: [1920, 1080] };
export const LANGUAGES = { en: "en", zh: "zh-CN" };

export async function launch() {
  assert.ok(existsSync(CHROMIUM), `no browser at ${CHROMIUM}: install chromium or set CHROMIUM`);
  return chromium.launch({
    executablePath: CHROMIUM,
    args: [
      "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
      "--disable-background-networking", "--disable-component-update", "--disable-sync",
    ],
  });
}

/** A page on the gateway at `base`; `close` fails the test when something went wrong meanwhile. */
export async function visit(browser, base, { size = "desktop", colorScheme = "dark" } = {}) {
  const [width, height] = SIZES[size] ?? size;
  const viewport = { width, height };
  const context = await browser.newContext({ viewport, colorScheme, reducedMotion: "reduce" });
  const { origin } = new URL(base);
  const wrong = [];
  await context.route((url) => url.origin !== origin, (route) => {
    wrong.push(`asked ${route.request().url()}`);
    return route.abort();
  });
  const page = await context.newPage();
  page.on("websocket", (socket) => wrong.push(`asked ${socket.url()}`));
  page.on("pageerror", (error) => wrong.push(error.message));
  page.on("console", (said) => {
    const bad = said.type() === "error" && /Content Security|Uncaught/.test(said.text());
    if (bad) wrong.push(said.text());
  });
  const go = async (lang = "en", hash = "") => {
    await page.goto(`${base}/?lang=${lang}${hash}`);
    await page.locator(".page:not([inert]) [data-machine]").first().waitFor();
  };
  const close = async () => {
    await context.close();
    assert.deepEqual(wrong, []);
  };
  return { page, go, close };
}

/** What a person with a screen reader, a phone or another language must find in order on any page. */
export async function inspect(page, lang) {
  const { lang: told, wide } = await page.evaluate(() => ({
    lang: document.documentElement.lang,
    wide: document.documentElement.scrollWidth > innerWidth,
  }));
  assert.equal(told, LANGUAGES[lang]);
  assert.ok(!wide, "scrolls sideways");
  if (!(await page.evaluate(() => "axe" in globalThis))) await page.evaluate(AXE);
  const found = await page.evaluate((runOnly) => globalThis.axe.run({ runOnly }), RULES);
  const offences = found.violations.map((v) => [v.id, v.nodes.slice(0, 3).map((n) => n.html)]);
  assert.deepEqual(offences, []);
}

/** Keeps a picture in ANDON_SHOTS, if set, for people to look at. */
export async function shot(page, name) {
  if (!SHOTS) return;
  mkdirSync(SHOTS, { recursive: true });
  await page.waitForFunction(
    () => [...document.querySelectorAll("svg[role=img]")].every((svg) => svg.children.length > 0),
    null, { timeout: 10_000 },
  );
  await page.screenshot({ path: `${SHOTS}/${name}.png` });
}
