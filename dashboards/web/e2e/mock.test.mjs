//! The board in a real browser against the mock: what it shows in each situation, and what a person can do.
//! What holds of any gateway is in live.test.mjs. ANDON_SHOTS=DIR keeps pictures.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { start, TOKEN } from "../mock/server.mjs";
import { inspect, LANGUAGES, launch, shot, SIZES, visit } from "./browser.mjs";

const LOOKED_AT = ["normal", "alarm", "stop", "stop-failed", "quarantined", "restart", "controllers", "controllers-gone", "meters"];
let browser, mock;

before(async () => {
  mock = await start();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await mock?.stop();
});

async function open(situation, { lang, count = 8, ...how } = {}) {
  mock.set(situation, count);
  const visited = await visit(browser, mock.url, how);
  await visited.go(lang);
  return visited;
}

test("a detail opens by its link and closes", async () => {
  const { page, close } = await open("normal");
  await page.locator("[data-machine=laser] a").click();
  await page.locator("dialog[open] [data-item=voltage]").waitFor();
  assert.match(await page.locator("dialog .hazards").innerText(), /Flames/);
  assert.equal(await page.locator("[data-machine=laser] svg[data-kind=laser]").count(), 1);
  await inspect(page, "en");
  await shot(page, "detail");
  await page.locator("dialog button").click();
  await page.locator("dialog").waitFor({ state: "detached" });
  await close();
});

for (const [lang, year, digest] of [["en", "Year", /least .* known for \d+ % of the time/], ["zh-CN", "1 年", /最小 .*占 \d+ %/]]) {
  test(`a machine's past is drawn as far back as one likes, and says what is not known; ${lang}`, async () => {
    const { page, close } = await open("normal", { lang });
    mock.pasts.length = 0;
    await page.locator("[data-machine=laser] a").click();
    const past = page.locator("dialog[open] [data-past]");
    await past.locator("path.line").waitFor();
    assert.match(await past.locator("figcaption").innerText(), digest);
    // Messages arrive each second; the past is asked for once a minute.
    await page.waitForTimeout(2500);
    assert.equal(mock.pasts.length, 1);
    assert.equal(await past.locator("[data-gap]").count(), 2);
    await past.locator("label", { hasText: new RegExp(`^${year}$`) }).click();
    await past.locator("select").selectOption("voltage");
    await page.waitForFunction((n) => document.querySelectorAll("[data-past] path.line").length === n, 1);
    const { machine, item, from, to } = mock.pasts.at(-1);
    assert.deepEqual([machine, item, to - from], ["laser", "voltage", 365 * 86_400_000]);
    await inspect(page, lang === "en" ? "en" : "zh");
    await shot(page, `past-${lang}`);
    await close();
  });
}

test("a past that cannot be read is not drawn, and an old one does not stay", async () => {
  const { page, close } = await open("normal");
  await page.locator("[data-machine=laser] a").click();
  const past = page.locator("dialog[open] [data-past]");
  await past.locator("path.line").waitFor();
  mock.forget(true);
  await past.locator("label", { hasText: /^Day$/ }).click();
  await past.getByText("does not answer this now").waitFor();
  mock.forget(false);
  assert.equal(await past.locator("path").count(), 0);
  assert.equal(await past.locator("[data-gap]").count(), 1);
  await close();
});

test("hazards are told in the language of the board; a kind without any has no heading", async () => {
  const { page, close } = await open("normal", { lang: "zh-CN" });
  await page.locator("[data-machine=laser] a").click();
  assert.match(await page.locator("dialog[open] .hazards").innerText(), /明火/);
  await page.locator("dialog button").click();
  await page.locator("[data-machine=kiln] a").click();
  await page.locator("dialog[open] [data-item=voltage]").waitFor();
  assert.equal(await page.locator("dialog .hazards").count(), 0);
  await close();
});

for (const [lang, values, torn, summary] of [
  ["en", "Values only", "Conflict", "0 without data"], ["zh-CN", "仅测量值", "读数矛盾", "0 台无数据"],
]) {
  test(`values alone and a contradiction are told apart from missing data; ${lang}`, async () => {
    const { page, close } = await open("meters", { lang });
    const state = (id) => page.locator(`[data-machine=${id}] .state strong`).innerText();
    assert.deepEqual([await state("laser"), await state("cnc")], [values, torn]);
    assert.ok((await page.locator(".summary").innerText()).includes(summary));
    assert.equal(await page.locator("[data-machine=laser].blind").count(), 0);
    assert.equal(await page.locator("[data-machine=cnc].blind").count(), 1);
    await inspect(page, lang === "en" ? "en" : "zh");
    await shot(page, `meters-${lang}`);
    await page.locator("[data-machine=laser] a").click();
    await page.locator("dialog[open] .reason").waitFor();
    await close();
  });
}

test("a silent machine looks stale, the others do not", async () => {
  const { page, close } = await open("stale");
  await page.locator("[data-machine=laser] .value.stale").first().waitFor({ timeout: 8000 });
  assert.equal(await page.locator("[data-machine=cnc] .value.stale").count(), 0);
  assert.match(await page.locator("[data-machine=laser] .age").first().innerText(), /[5-9] s ago/);
  assert.equal(await page.locator("[data-machine=cnc] .age").first().innerText(), "now");
  await shot(page, "stale");
  await close();
});

test("silence covers the page in time; the board itself finds back to a picture", async () => {
  const { page, close } = await open("alarm");
  await page.locator("[data-alarm=laser-hot] [data-deed=reset]").click();
  await page.locator("dialog[data-order]").waitFor();
  mock.set("cut");
  const from = Date.now();
  await page.locator(".cover").waitFor({ timeout: 12_000 });
  assert.ok(Date.now() - from <= 11_500, `covered after ${Date.now() - from} ms`);
  assert.equal(await page.locator(".page[inert]").count(), 1);
  assert.equal(await page.locator("dialog").count(), 0, "an order may not be given to a covered page");
  await shot(page, "cut");
  // By now the page holds a stream that was opened during the cut and will never say a word.
  mock.set("normal");
  await page.locator(".cover").waitFor({ state: "detached", timeout: 30_000 });
  assert.equal(await page.locator("dialog").count(), 0, "nor come back by itself");
  await close();
});

test("another build reloads the page, once; the next only after a minute", async () => {
  const { page, close } = await open("normal");
  let loads = 0;
  page.on("load", () => (loads += 1));
  mock.rebuild("second");
  mock.set("normal");
  await page.waitForEvent("load", { timeout: 5000 });
  await page.locator(".page:not([inert]) [data-machine]").first().waitFor();
  mock.rebuild("third");
  mock.set("alarm");
  // The alarm of the new picture is there, so the new build has been seen too.
  await page.locator("[data-alarm=laser-hot]").waitFor();
  await page.locator("[data-machine=laser] .time").evaluate(async (time) => {
    const was = time.textContent;
    while (time.textContent === was) await new Promise(requestAnimationFrame);
  });
  assert.equal(loads, 1);
  await page.evaluate(() => sessionStorage.setItem("andon-reloaded", String(Date.now() - 60_001)));
  await page.waitForEvent("load", { timeout: 5000 });
  mock.rebuild("mock");
  await close();
});

test("the last hour is asked for once, not with every message", async () => {
  const { page, close } = await open("normal");
  const asked = [];
  page.on("request", (request) => {
    if (request.url().includes("/history")) asked.push(request.url());
  });
  // What the page before still asked on its way out is not this one's: tiles ask at random moments.
  page.on("framenavigated", () => { asked.length = 0; });
  await page.reload();
  await page.locator("[data-machine=kiln] .curve path").first().waitFor();
  await page.waitForTimeout(5000);
  assert.equal(asked.length, 8, "one for each machine");
  assert.equal(new Set(asked).size, 8);
  await close();
});

test("200 machines do not overflow sideways", async () => {
  const { page, close } = await open("normal", { size: "wall", count: 200 });
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
  await shot(page, "wall-200");
  await close();
});

test("words before ids: a stop says what tripped it, an alarm without words what was compared", async () => {
  const { page, close } = await open("stop");
  const badge = page.locator("[data-machine=laser] .badge");
  assert.match(await badge.innerText(), /power off, proved by meter[\s\S]*Tube too hot/);
  mock.set("restart");
  await page.locator("[data-machine=laser] [data-phase=unknown]").waitFor();
  assert.equal(await page.locator("[data-machine=laser]").getAttribute("data-look"), "fault");
  const old = page.locator("[data-alarm=old-rule]");
  assert.match(await old.innerText(), /2\.6 kW[\s\S]*no longer configured[\s\S]*since before/);
  assert.equal(await old.locator("button").count(), 0);
  for (const id of ["laser-hot", "old-rule"]) {
    assert.ok(!(await page.locator("body").innerText()).includes(id), id);
  }
  await close();
});

test("a stop that failed is the headline, with what the machine still draws; never stopped", async () => {
  for (const [count, size] of [[8, "wall"], [60, "wall"], [8, "phone"]]) {
    const { page, close } = await open("stop-failed", { count, size });
    const tile = page.locator("[data-machine=laser]");
    assert.equal(await tile.locator(".state strong").innerText(), "STOP FAILED");
    assert.match(await tile.locator(".unstopped").innerText(), /draws 1\.52\skW[\s\S]*Running/);
    assert.doesNotMatch(await tile.innerText(), /Stopped/);
    assert.equal(await tile.getAttribute("data-look"), "stop");
    const first = page.locator("[data-alarm]").first();
    assert.match(await first.innerText(), /Critical[\s\S]*FAILED[\s\S]*by hand/);
    assert.equal(await first.locator("button").count(), 0, "nobody resets a stop that has failed");
    await shot(page, `stop-failed-${count}-${size}`);
    await close();
  }
});

test("acknowledge by keyboard: asked once who it is, a wrong token is told, the next needs no asking", async () => {
  const { page, close } = await open("alarm");
  const acknowledge = (id) => page.locator(`[data-alarm=${id}] [data-deed=acknowledge]`);
  mock.received.length = 0;
  await acknowledge("laser-hot").focus();
  await page.keyboard.press("Enter");
  const dialog = page.locator("dialog[data-order=acknowledge]");
  await dialog.waitFor();
  await inspect(page, "en");
  await page.keyboard.type("Lin");
  await page.keyboard.press("Tab");
  await page.keyboard.type("not the token");
  await page.keyboard.press("Enter");
  await dialog.getByRole("alert").getByText("not the operator").waitFor();
  assert.equal(mock.received.length, 0, "what no header can carry is not sent");
  await dialog.locator("[name=token]").fill(TOKEN.replace("0", "1"));
  await page.keyboard.press("Enter");
  while (mock.received.length < 1) await page.waitForTimeout(20);
  await dialog.getByRole("alert").getByText("not the operator").waitFor();
  await dialog.locator("[name=token]").fill(TOKEN);
  await page.keyboard.press("Enter");
  await dialog.waitFor({ state: "detached" });
  await acknowledge("laser-hot").waitFor({ state: "detached" });
  await acknowledge("air-low").click();
  await page.locator("[data-alarm=air-low]").waitFor({ state: "detached" });
  const told = mock.received.map(([deed, id, status, body]) => [deed, id, status, body.by]);
  assert.deepEqual(told, [
    ["acknowledge", "laser-hot", 401, "Lin"],
    ["acknowledge", "laser-hot", 204, "Lin"],
    ["acknowledge", "air-low", 204, "Lin"],
  ]);
  assert.deepEqual(await page.evaluate(() => Object.keys(localStorage)), []);
  await page.getByRole("button", { name: "Sign off Lin" }).click();
  assert.ok(!(await page.evaluate(() => JSON.stringify(sessionStorage))).includes(TOKEN));
  await close();
});

for (const lang of Object.keys(LANGUAGES)) {
  test(`reset with a reason: refused in words, then carried out; ${lang}`, async () => {
    const { page, close } = await open("stop", { lang, size: "phone" });
    mock.received.length = 0;
    await page.locator("[data-alarm=laser-hot] [data-deed=reset]").click();
    const dialog = page.locator("dialog[data-order=reset]");
    await dialog.locator("[name=by]").fill("林");
    await dialog.locator("[name=token]").fill(TOKEN);
    await dialog.locator(".go").click();
    await dialog.locator("[name=reason]:invalid").waitFor();
    await dialog.locator("[name=reason]").fill("   ");
    await dialog.locator(".go").click();
    assert.equal(mock.received.length, 0, "no reset without a reason");
    await dialog.locator("[name=reason]").fill("chiller switched on");
    await shot(page, `reset-${lang}`);
    await dialog.locator(".go").click();
    const refused = { en: "Refused: its condition still holds", zh: "被拒绝：条件仍然成立" }[lang];
    await dialog.getByRole("alert").getByText(refused).waitFor();
    await inspect(page, lang);
    await shot(page, `refused-${lang}`);
    mock.set("cooled");
    await dialog.locator(".go").click();
    await dialog.waitFor({ state: "detached" });
    await page.locator("[data-machine=laser][data-look=stop]").waitFor({ state: "detached" });
    assert.deepEqual(mock.received.map(([, , status]) => status), [409, 204]);
    assert.deepEqual(mock.received[1][3], { by: "林", reason: "chiller switched on" });
    await close();
  });
}

test("what a finger presses is 48 px high", async () => {
  const { page, close } = await open("alarm", { size: "phone" });
  await page.locator("[data-alarm=laser-hot] [data-deed=reset]").click();
  const heights = await page.locator("button, input").evaluateAll((all) =>
    all.map((each) => [each.textContent, each.getBoundingClientRect().height]));
  assert.ok(heights.length >= 9, `${heights.length} targets`);
  assert.deepEqual(heights.filter(([, height]) => height < 48), []);
  await close();
});

for (const lang of Object.keys(LANGUAGES)) for (const size of Object.keys(SIZES)) {
  for (const colorScheme of ["dark", "light"]) {
    test(`in order: ${lang}, ${size}, ${colorScheme}`, async (t) => {
      const { page, go, close } = await visit(browser, mock.url, { size, colorScheme });
      for (const situation of LOOKED_AT) {
        await t.test(situation, async () => {
          mock.set(situation, 8);
          await go(lang);
          await inspect(page, lang);
          await shot(page, `${situation}-${lang}-${size}-${colorScheme}`);
        });
      }
      await close();
    });
  }
}
