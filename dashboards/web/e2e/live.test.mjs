//! The board on a real gateway: `andon demo` of the binary that ANDON_BIN names, stopped in its
//! tracks and let go again. ANDON_SHOTS=DIR keeps pictures for people to look at.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const ARGUMENTS = [
  "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
];
/** The page is covered when no tick came for so long. */
const COVERED_WITHIN_MS = 10_000;
/** What a busy machine may add to a timer and a paint. */
const MARGIN_MS = 1_000;
const skip = process.env.ANDON_BIN ? false : "ANDON_BIN names no gateway";
let demo, base, browser;

before(async () => {
  if (skip) return;
  demo = spawn(process.env.ANDON_BIN, ["demo", "--listen", "127.0.0.1:0"], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  for await (const line of createInterface({ input: demo.stdout })) {
    base = line.match(/^board: (http:.*)$/)?.[1];
    if (base) break;
  }
  demo.stdout.resume();
  browser = await chromium.launch({ executablePath: CHROMIUM, args: ARGUMENTS });
});

after(async () => {
  await browser?.close();
  if (!demo) return;
  demo.kill("SIGCONT");
  demo.kill("SIGTERM");
  await once(demo, "exit");
});

async function open(lang, viewport = { width: 1440, height: 900 }) {
  const context = await browser.newContext({ viewport, colorScheme: "dark" });
  const page = await context.newPage();
  const wrong = [];
  page.on("request", (request) => {
    if (new URL(request.url()).host !== new URL(base).host) wrong.push(request.url());
  });
  page.on("pageerror", (error) => wrong.push(error.message));
  await page.goto(`${base}/?lang=${lang}`);
  await page.locator("[data-machine]").first().waitFor();
  await page.locator(".cover").waitFor({ state: "detached" });
  const close = async () => {
    await context.close();
    assert.deepEqual(wrong, [], "requests to other hosts, or errors of the page");
  };
  return { page, close };
}

for (const [lang, of, word] of [["en", "en", "CO₂ laser"], ["zh", "zh-CN", "激光切割机"]]) {
  test(`eleven machines are live in ${of}, and nothing leaves the host`, { skip }, async () => {
    const { page, close } = await open(lang);
    assert.equal(await page.locator("[data-machine]").count(), 11);
    assert.equal(await page.evaluate(() => document.documentElement.lang), of);
    await page.getByText(word).first().waitFor();
    const power = page.locator("[data-machine=extractor] .value").first();
    const was = await power.innerText();
    const moved = ([old]) =>
      document.querySelector("[data-machine=extractor] .value").innerText !== old;
    await page.waitForFunction(moved, [was], { timeout: 10_000 });
    await close();
  });
}

test("printer, router and plug show what they say of themselves", { skip }, async () => {
  const { page, close } = await open("en");
  const tile = (machine) => page.locator(`[data-machine=${machine}]`);
  await tile("printer-a").getByText(/\.gcode/).waitFor();
  await tile("printer-a").getByText(/^Nozzle/).waitFor();
  // The door is opened a quarter of a minute after the start, and the filament changed half a minute after it.
  await tile("router").getByText("Paused").waitFor({ timeout: 30_000 });
  await tile("printer-a").getByText("Paused").waitFor({ timeout: 45_000 });
  await tile("grinder").getByText("Running").waitFor({ timeout: 45_000 });
  await close();
});

test("the overheated laser is shown stopped, proved by its meter", { skip }, async () => {
  const { page, close } = await open("en");
  await page.locator("[data-machine=laser]").getByText("Stopped").waitFor({ timeout: 30_000 });
  await page.getByText(/proved by meter/).first().waitFor({ timeout: 30_000 });
  if (process.env.ANDON_SHOTS) {
    await page.screenshot({ path: `${process.env.ANDON_SHOTS}/live-stopped.png` });
  }
  await close();
});

test("the past of a machine is drawn, and what was before the start is not", { skip }, async () => {
  const { page, close } = await open("en");
  await page.locator("[data-machine=extractor] a").click();
  const past = page.locator("dialog[open] [data-past]");
  await past.locator("path.line").waitFor({ timeout: 15_000 });
  assert.match(await past.locator("figcaption").innerText(), /least .*W, mean .*W, greatest .*W; known for (<1|\d) % of the time/);
  assert.ok((await past.locator("[data-gap]").count()) > 0);
  await close();
});

test("a gateway that stands still is covered in time, and uncovered by a picture", { skip }, async () => {
  const { page, close } = await open("en");
  demo.kill("SIGSTOP");
  const from = Date.now();
  await page.locator(".cover").waitFor({ timeout: 20_000 });
  const took = Date.now() - from;
  demo.kill("SIGCONT");
  assert.ok(took <= COVERED_WITHIN_MS + MARGIN_MS, `covered after ${took} ms`);
  await page.locator(".cover").waitFor({ state: "detached", timeout: 20_000 });
  await close();
});
