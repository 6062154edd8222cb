//! The board in a real browser against a running gateway, whatever its machines: ANDON_BOARD_URL says where.
//! ANDON_GATEWAY_PID, if set, is stopped and continued, to see the page covered; without it that case is not
//! among the tests. ANDON_SHOTS=DIR keeps pictures. Nothing here gives an order.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { inspect, LANGUAGES, launch, shot, SIZES, visit } from "./browser.mjs";

const base = process.env.ANDON_BOARD_URL?.replace(/\/$/, "");
const pid = Number(process.env.ANDON_GATEWAY_PID ?? 0);
/** Ten seconds of silence, the half second in which the page looks, and as much for the browser. */
const COVERED_WITHIN_MS = 11_000;
let browser;

before(async () => {
  assert.ok(base, "set ANDON_BOARD_URL to the gateway's address, for example http://127.0.0.1:8480");
  browser = await launch();
});
after(() => browser?.close());

/** Opens the board where values with ages are to be seen: in the tiles, or else in the first detail. */
async function values(how) {
  const visited = await visit(browser, base, how);
  await visited.go("en");
  const { page } = visited;
  if ((await page.locator(".value").count()) === 0) {
    const id = await page.locator("[data-machine]").first().getAttribute("data-machine");
    await page.evaluate((hash) => (location.hash = hash), encodeURIComponent(id));
    await page.locator("dialog .value").first().waitFor();
  }
  return visited;
}

test("tiles live: a value grows older, is read again, and never passes its limit", async () => {
  const { page, close } = await values();
  // Some devices may be dead; of one value all must be true.
  const lives = () => {
    const seen = (globalThis.seen ??= new Map());
    for (const value of document.querySelectorAll(".value[data-age]")) {
      const owner = value.closest("[data-machine], dialog").getAttribute("data-machine") ?? "";
      const key = `${owner}/${value.dataset.item}`;
      const age = Number(value.dataset.age);
      const one = seen.get(key) ?? { last: age, older: false, younger: false, kept: true };
      one.older ||= age > one.last;
      one.younger ||= age < one.last;
      one.kept &&= age <= Number(value.dataset.limit) && !value.classList.contains("stale");
      seen.set(key, { ...one, last: age });
    }
    return [...seen.values()].some((one) => one.older && one.younger && one.kept);
  };
  await page.waitForFunction(lives, null, { polling: 100, timeout: 20_000 });
  await close();
});

test("time in state counts on", async () => {
  const { page, close } = await values();
  const times = () => page.locator("[data-machine] .time").allInnerTexts();
  const was = (await times()).join("|");
  await page.waitForFunction(
    (old) => [...document.querySelectorAll("[data-machine] .time")].map((t) => t.innerText).join("|") !== old,
    was, { timeout: 5000 },
  );
  await close();
});

test("the page says what the gateway says: every machine once, by name", async () => {
  const { page, close } = await values();
  const told = await (await fetch(`${base}/api/v1/picture`)).json();
  const ids = await page.locator("[data-machine]").evaluateAll((all) => all.map((m) => m.dataset.machine));
  assert.deepEqual(ids.toSorted(), told.machines.map(({ id }) => id).toSorted());
  for (const { id, name } of told.machines) {
    const heading = page.locator(`[data-machine="${id}"] h3`);
    assert.equal((await heading.textContent()).trim(), name.en ?? Object.values(name)[0]);
  }
  await close();
});

for (const lang of Object.keys(LANGUAGES)) for (const size of Object.keys(SIZES)) {
  test(`in order, and asks nobody but the gateway: ${lang}, ${size}`, async () => {
    const { page, go, close } = await visit(browser, base, { size });
    await go(lang);
    await inspect(page, lang);
    await shot(page, `live-${lang}-${size}`);
    await close();
  });
}

if (pid > 0) {
  test("a gateway that stands still covers the page; a fresh picture uncovers it", async () => {
    const { page, close } = await values();
    const time = page.locator("header time");
    const clock = (await time.count()) > 0 ? await time.innerText() : null;
    const from = Date.now();
    process.kill(pid, "SIGSTOP");
    try {
      await page.locator(".cover").waitFor({ timeout: COVERED_WITHIN_MS + 2000 });
      const took = Date.now() - from;
      assert.ok(took <= COVERED_WITHIN_MS, `covered after ${took} ms`);
      assert.equal(await page.locator(".page[inert]").count(), 1);
      await shot(page, "live-covered");
    } finally {
      process.kill(pid, "SIGCONT");
    }
    await page.locator(".cover").waitFor({ state: "detached", timeout: 30_000 });
    await page.locator(".value[data-age]:not(.stale)").first().waitFor({ timeout: 20_000 });
    if (clock !== null) assert.notEqual(await time.innerText(), clock);
    await close();
  });
} else {
  console.error("ANDON_GATEWAY_PID is not set: the covered page is left to the mock's tests");
}
