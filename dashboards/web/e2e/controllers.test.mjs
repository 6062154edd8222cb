//! Machines with a controller of their own, in a real browser against the mock: what their tiles and details
//! say in both languages, and what is no longer said once the controller is silent. ANDON_SHOTS=DIR keeps pictures.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { start } from "../mock/server.mjs";
import { inspect, LANGUAGES, launch, shot, visit } from "./browser.mjs";

const WORDS = {
  en: {
    left: "1 h 12 min left", soon: "less than 1 min left", noTime: "time left unknown", nozzle: "Nozzle",
    torn: "The controller says “Running”, the meter says 0\u00a0W: one of them is wrong.",
    failed: /^The machine says, code 27\s+“?Heater extruder not heating at expected rate\./,
    layer: "layer 42 of 98", unheard: ["Hours at work", "Temperature chamber"], off: "53 °C → off",
    gone: "Progress: the connection is gone",
  },
  zh: {
    left: "剩余 1 小时 12 分", soon: "剩余不到 1 分", noTime: "剩余时间未知", nozzle: "喷嘴",
    torn: "控制器显示“运行”，电表显示 0\u00a0W：其中之一有误。",
    failed: /^设备消息，代码 27\s+“?Heater extruder not heating at expected rate\./,
    layer: "第 42 层，共 98 层", unheard: ["工作时数", "腔体温度"], off: "53 °C → 关",
    gone: "进度：连接已断开",
  },
};
let browser, mock;

before(async () => {
  mock = await start();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await mock?.stop();
});

async function open(situation, { lang = "en", count = 9, hash, ...how } = {}) {
  mock.set(situation, count);
  const visited = await visit(browser, mock.url, how);
  await visited.go(lang, hash);
  const tile = (id) => visited.page.locator(`[data-machine=${id}]`);
  return { ...visited, tile };
}

for (const lang of Object.keys(LANGUAGES)) {
  const said = WORDS[lang];

  test(`a tile tells job, progress, time left and targets; ${lang}`, async () => {
    const { tile, close } = await open("controllers", { lang });
    const text = (id) => tile(id).innerText();
    const printing = await text("printing");
    for (const words of ["43 %", said.left, said.nozzle, "210 → 210 °C"]) assert.ok(printing.includes(words), words);
    assert.equal(await tile("printing").locator("progress").getAttribute("value"), "43");
    const title = tile("printing").locator(".title");
    assert.match(await title.getAttribute("title"), /^机械臂底座.*\.gcode$/);
    assert.ok(await title.evaluate((each) => each.scrollWidth > each.clientWidth), "the name is too long for the tile");
    assert.ok((await text("heating")).includes(said.noTime));
    assert.ok((await text("milling")).includes(said.soon));
    assert.ok((await text("halted")).includes(said.off));
    const done = await text("done");
    assert.ok(done.includes("100 %") && !done.includes(said.soon), "what is done takes no more time");
    await close();
  });

  test(`the machine's own words are marked as its own, a contradiction has two sides; ${lang}`, async () => {
    const { tile, page, close } = await open("controllers", { lang });
    assert.match(await tile("failed").locator("[data-says].loud").innerText(), said.failed);
    assert.match(await tile("failed").locator("q").innerText(), /for the parameters that control this check\.$/);
    assert.match(await tile("halted").locator("[data-says].loud q").innerText(), /^Shutdown due to webhooks request$/);
    assert.match(await tile("filament").locator("[data-says]:not(.loud) q").innerText(), /^Filament runout\./);
    assert.equal(await tile("torn").locator(".reason").innerText(), said.torn);
    assert.equal(await tile("torn").getAttribute("data-look"), "unknown");
    await page.locator("[data-machine=torn] a").click();
    assert.equal(await page.locator("dialog .reason").innerText(), said.torn);
    await close();
  });

  test(`a detail has the controller's word, the layer, and apart what was never heard; ${lang}`, async () => {
    const { page, tile, close } = await open("controllers", { lang, hash: "#printing", size: "phone" });
    const detail = page.locator("dialog[open]");
    assert.equal(await detail.locator("[data-controller] q").innerText(), "Printing from SD");
    assert.ok((await detail.locator("[data-job]").innerText()).includes(said.layer));
    assert.deepEqual(await detail.locator("[data-unheard] li").allInnerTexts(), said.unheard);
    for (const name of ["execution", "controller.state", "temperature.target.nozzle", "temperature.chamber", "job.name"]) {
      assert.equal(await detail.locator(`[data-item="${name}"]`).count(), 0, name);
    }
    assert.ok(!(await tile("printing").innerText()).includes("–"), "no dash for what was never heard");
    await inspect(page, lang);
    await shot(page, `controller-detail-${lang}`);
    await close();
  });

  test(`a controller that has gone shows no progress and says so; ${lang}`, async () => {
    const { tile, close } = await open("controllers-gone", { lang });
    assert.ok((await tile("printing").innerText()).includes(said.gone));
    assert.equal(await tile("printing").locator("progress").count(), 0);
    assert.ok(!(await tile("printing").innerText()).includes("%"));
    assert.equal(await tile("filament").locator("progress").count(), 1);
    await close();
  });
}

test("a controller that falls silent: its progress is never carried on, and goes when it is stale", async () => {
  const { tile, page, close } = await open("controllers-mute");
  const progress = tile("printing").locator("progress");
  const from = Date.now();
  const heard = new Set();
  while ((await progress.count()) > 0) {
    heard.add(await tile("printing").locator(".far").innerText({ timeout: 500 }).catch(() => null));
    assert.ok(Date.now() - from < 8000, "still drawn");
    await page.waitForTimeout(100);
  }
  heard.delete(null);
  assert.deepEqual([...heard].map((words) => words.replace(/\s+/g, " ")), ["43 % 1 h 12 min left"]);
  assert.match(await tile("printing").innerText(), /Progress: no fresh value/);
  assert.equal(await tile("filament").locator("progress").count(), 1);
  await close();
});

/** What lies outside its tile, across another number, or is cut in half. */
function misplaced(tiles) {
  return tiles.flatMap((tile) => {
    const box = tile.getBoundingClientRect();
    const told = [...tile.querySelectorAll("h3, .state, .reason, .says, .title, .far, .number")]
      .map((each) => [each, each.getBoundingClientRect()])
      .filter(([, { height }]) => height > 0);
    const outside = told.filter(([, { left, right, bottom }]) => left < box.left || right > box.right + 0.5 || bottom > box.bottom);
    const squeezed = told.filter(([each, { height }]) => height < parseFloat(getComputedStyle(each).fontSize));
    const numbers = told.filter(([each]) => each.className.includes("number"));
    const across = numbers.filter(([, a], i) => numbers.slice(i + 1).some(([, b]) =>
      a.left < b.right && b.left < a.right && a.top + 1 < b.bottom && b.top + 1 < a.bottom));
    const half = [...tile.querySelectorAll(".time")].filter((each) => each.scrollWidth > each.clientWidth).map((each) => [each]);
    return [...outside, ...half, ...squeezed, ...across].map(([each]) => `${tile.dataset.machine}: ${each.className} ${each.textContent}`);
  });
}

const FULL = [["wall", 3], ["wall", 9], ["wall", 20], ["wall", 28], ["wall", 40], ["desktop", 9], ["desktop", 15], ["desktop", 40], ["phone", 9], ["phone", 40]];
for (const lang of Object.keys(LANGUAGES)) for (const [size, count] of FULL) {
  test(`${count} machines on a ${size}: all fit, nothing lies across another or is cut; ${lang}`, async () => {
    const { page, close } = await open("controllers", { lang, size, count });
    assert.deepEqual(await page.locator("[data-machine]").evaluateAll(misplaced), []);
    const scrolls = await page.locator("main").evaluate((main) => main.scrollHeight > main.clientHeight + 1);
    assert.ok(size === "phone" || !scrolls, "machines that can only be seen by scrolling");
    await inspect(page, lang);
    await shot(page, `controllers-${count}-${size}-${lang}`);
    await close();
  });
}
