//! The page of diagnostics in a real browser against the mock. ANDON_SHOTS=DIR keeps pictures.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { start } from "../mock/server.mjs";
import { inspect, LANGUAGES, launch, shot, SIZES, visit } from "./browser.mjs";

/** Three questions of 2 s without an answer, and what a busy machine may add. */
const STALE_WITHIN_MS = 9_000;
let browser, mock;

before(async () => {
  mock = await start();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await mock?.stop();
});

/** The page, opened by the link that leads there. */
async function open(situation, { lang = "en", ...how } = {}) {
  mock.set(situation, 8);
  const visited = await visit(browser, mock.url, how);
  await visited.go(lang);
  await visited.page.locator("footer a").click();
  await visited.page.locator("[data-diagnostics] [data-bus], [data-diagnostics] [role=status]:not(:empty)").first().waitFor();
  return visited;
}

test("reached by keyboard, left by keyboard; alarms stay in sight", async () => {
  mock.set("alarm", 8);
  const { page, go, close } = await visit(browser, mock.url);
  await go();
  await page.locator("footer a").focus();
  await page.keyboard.press("Enter");
  await page.locator("[data-bus=panel]").waitFor();
  assert.equal(await page.evaluate(() => document.activeElement?.tagName), "H2");
  assert.ok(await page.locator("[data-alarm=laser-hot]").isVisible());
  assert.equal(await page.locator("[data-machine]").count(), 0);
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.locator("[data-machine=laser]").waitFor();
  assert.equal(new URL(page.url()).hash, "");
  await close();
});

test("a shop in trouble: what failed, in words, the worst first", async () => {
  const { page, close } = await open("quarantined");
  const panel = page.locator("[data-bus=panel]");
  const order = await panel.locator("[data-unit]").evaluateAll((all) => all.map((each) => each.dataset.unit));
  assert.deepEqual(order, ["panel-5", "panel-4", "panel-3"]);
  assert.match(await panel.locator("[data-unit=panel-5]").innerText(), /quarantined, asked rarely[\s\S]*no answer from the device[\s\S]*never answered[\s\S]*31 of 31 questions failed/);
  assert.match(await panel.locator("[data-unit=panel-4]").innerText(), /19 of 8120 questions failed: the answer was damaged 12 · no answer from the device 7/);
  assert.match(await panel.innerText(), /87 % busy · little room[\s\S]*cannot keep up: 12 %[\s\S]*1 of 3 units do not answer\n12 values never read, or refused/);
  assert.match(await panel.innerText(), /oldest value of the last minute: 3\.3 s/);
  assert.match(await page.locator("[data-part=History]").innerText(), /2 days cannot be merged \(disk I\/O error\)/);
  assert.match(await page.locator("[data-part=Journal]").innerText(), /mqtt: its place was last saved 412 records ago/);
  assert.match(await page.locator("[data-bus=wood] h3").innerText(), /No such file or directory/);
  assert.match(await page.locator("[data-part=MQTT]").innerText(), /down \(connection refused\)[\s\S]*412 not confirmed/);
  assert.match(await page.locator("[data-part=Journal]").innerText(), /50 records deleted before they were delivered/);
  const bars = await page.locator("progress").evaluateAll((all) => all.map((bar) => bar.value));
  assert.deepEqual(bars, [0.87], "a line that is down has no bar");
  await close();
});

test("what nobody knows yet is said and never a zero", async () => {
  const { page, close } = await open("restart");
  const text = await page.locator("[data-diagnostics]").innerText();
  assert.match(text, /rate not measured yet/);
  assert.match(text, /at most –/);
  assert.doesNotMatch(text, /0 readings per second|all 0 questions/);
  await close();
});

test("it asks while it is open and no longer", async () => {
  const { page, close } = await open("normal");
  const before = mock.diagnosed();
  while (mock.diagnosed() < before + 2) await page.waitForTimeout(50);
  await page.locator("[data-diagnostics] header a").click();
  await page.locator("[data-machine=laser]").waitFor();
  // A question may have been on its way.
  await page.waitForTimeout(2000);
  const left = mock.diagnosed();
  await page.waitForTimeout(5000);
  assert.equal(mock.diagnosed(), left);
  await close();
});

test("figures that are no longer told look stale, and recover", async () => {
  const { page, close } = await open("normal");
  await page.locator("[data-bus=panel]").waitFor();
  mock.set("undiagnosed");
  await page.locator("[data-diagnostics].stale").waitFor({ timeout: STALE_WITHIN_MS });
  assert.match(await page.locator("[data-diagnostics] [role=status]").innerText(), /NOT LIVE: no fresh figures for [6-9] s/);
  assert.equal(await page.locator(".cover").count(), 0, "the rest of the board is live");
  await inspect(page, "en");
  await shot(page, "diagnostics-stale");
  mock.set("normal");
  await page.locator("[data-diagnostics]:not(.stale)").waitFor({ timeout: 10_000 });
  await close();
});

test("a page that never had an answer says so", async () => {
  const { page, close } = await open("undiagnosed");
  await page.locator("[data-diagnostics].stale").waitFor({ timeout: STALE_WITHIN_MS });
  assert.equal(await page.locator("[data-bus]").count(), 0);
  await close();
});

test("silence of the gateway covers it like everything else", async () => {
  const { page, close } = await open("normal");
  mock.set("cut");
  await page.locator(".cover").waitFor({ timeout: 12_000 });
  assert.equal(await page.locator(".page[inert] [data-diagnostics].stale").count(), 1);
  await close();
});

test("what a finger presses is 48 px high", async () => {
  mock.set("normal", 8);
  const { page, go, close } = await visit(browser, mock.url, { size: "phone" });
  await go();
  const high = async (of) => (await page.locator(of).boundingBox()).height;
  assert.ok((await high("footer a")) >= 48, String(await high("footer a")));
  await page.locator("footer a").click();
  await page.locator("[data-bus=panel]").waitFor();
  assert.ok((await high("[data-diagnostics] header a")) >= 48);
  await close();
});

for (const lang of Object.keys(LANGUAGES)) for (const size of Object.keys(SIZES)) {
  for (const colorScheme of ["dark", "light"]) {
    test(`in order: ${lang}, ${size}, ${colorScheme}`, async () => {
      for (const situation of ["normal", "quarantined", "restart"]) {
        const { page, close } = await open(situation, { lang, size, colorScheme });
        await page.locator("[data-bus=panel]").waitFor();
        await inspect(page, lang);
        await shot(page, `diagnostics-${situation}-${lang}-${size}-${colorScheme}`);
        await close();
      }
    });
  }
}
