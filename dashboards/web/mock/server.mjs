//! A gateway that is not one: the API contract with scripted situations, for development and the browser tests.
//! It reads no machine. Bounds: loopback only; one situation at a time, chosen by ANDON_MOCK or POST /mock/NAME.
import { createReadStream, existsSync } from "node:fs";
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";

const DIST = fileURLToPath(new URL("../dist/", import.meta.url));
const TYPES = { html: "text/html; charset=utf-8", js: "text/javascript", css: "text/css", svg: "image/svg+xml" };
const CSP = "default-src 'self'; object-src 'none'; base-uri 'none'; frame-ancestors 'none'";
const NAMES = [
  ["laser", "CO₂ laser", "激光切割机"], ["cnc", "CNC router", "数控雕刻机"], ["printer-1", "Printer 1", "三维打印机 1"],
  ["printer-2", "Printer 2", "三维打印机 2"], ["saw", "Table saw", "台锯"], ["lathe", "Metal lathe", "金属车床"],
  ["compressor", "Compressor", "空压机"], ["kiln", "Kiln", "陶瓷窑"],
];
const STATES = ["running", "ready", "running", "finished", "off", "paused", "ready", "preparing"];
const ACTIVITY = { running: "run", preparing: "run", ready: "idle", paused: "idle", finished: "idle", off: "off", fault: "fault", stopped: "fault", unknown: "unknown" };

function machine(i, situation) {
  const [id, en, zh] = NAMES[i % NAMES.length];
  const round = Math.floor(i / NAMES.length);
  let execution = STATES[i % STATES.length];
  const item = (name, unit, value, key = true) => ({ name, unit, value, why: null, age_ms: 300, stale_after_ms: 5000, key });
  const power = { running: 1523.4, preparing: 340, off: 0.4 }[execution] ?? 46.2;
  const items = [item("power.active", "W", power + i), item("energy.import", "Wh", 812_400 + i, false), item("voltage", "V", 231.4, false)];
  if (id === "laser") items.splice(1, 0, item("temperature.tube", "°C", situation === "alarm" ? 63.2 : 24.1));
  if (id.startsWith("printer")) items.splice(1, 0, item("temperature.nozzle", "°C", 214.9));
  let why = null;
  let stop = i === 0 ? { output: "laser-contactor", phase: "armed", level: null, cause: null, trouble: null } : null;
  if (i === 0 && situation === "stop") {
    execution = "stopped";
    stop = { output: "laser-contactor", phase: "latched", level: "C2", cause: "laser-hot", trouble: null };
  }
  if (i === 1 && situation === "alarm") execution = "fault";
  if (i === 2 && situation === "quarantined") {
    [execution, why] = ["unknown", "timeout"];
    for (const each of items) [each.value, each.why, each.age_ms] = [null, "timeout", 92_000];
  }
  return {
    id: round ? `${id}-r${round}` : id, name: { en: round ? `${en} ${round + 1}` : en, zh: round ? `${zh} ${round + 1}` : zh },
    kind: id, execution, activity: ACTIVITY[execution], why, in_state_ms: 734_000 + i * 97_000 + Math.round(performance.now()), items, stop,
  };
}

function picture(seq, situation, count) {
  const bad = situation === "quarantined";
  const alarms = [];
  if (situation === "alarm" || situation === "stop") {
    alarms.push({ id: "laser-hot", machine: "laser", severity: "high", active: true, acked: false, latched: true, for_ms: 12_345, cause: "temperature 63.2 °C",
      message: { en: "Tube too hot: stop cutting and check the chiller.", zh: "激光管过热：停止切割并检查冷水机。" } });
  }
  if (situation === "alarm") {
    alarms.push({ id: "air-low", machine: "compressor", severity: "medium", active: false, acked: false, latched: false, for_ms: 840_000, cause: null,
      message: { en: "Motor ran long: look for an air leak.", zh: "电机运行过久：检查是否漏气。" } });
    alarms.push({ id: "kiln-lid", machine: "kiln", severity: "low", active: null, acked: true, latched: false, for_ms: 4_000_000, cause: null,
      message: { en: "Kiln lid: sensor gives no value.", zh: "窑盖：传感器无数值。" } });
  }
  return {
    v: 1, seq,
    site: { id: "chaihuo", name: { en: "Chaihuo Maker Space", zh: "柴火创客空间" }, time_zone: "Asia/Shanghai" },
    gateway: {
      version: "0.1.0", build: "mock", clock: bad ? "unsynced" : "synced", now_ms: bad ? null : Date.now(),
      mqtt: { state: bad ? "down" : "up", why: bad ? "connection refused" : null, behind: bad ? 412 : 0, confirmed_by: "recorder" },
      store: { state: "up", why: null, behind: 0 }, journal: { state: "ok", dropped: 0, quarantined: bad ? 2 : 0 },
      buses: [{ id: "panel", state: "up", why: null, occupancy: 0.31, units: [
        { source: "panel-3", unit_id: 3, state: "online", why: null, errors: 0 },
        { source: "panel-5", unit_id: 5, state: bad ? "quarantined" : "online", why: bad ? "timeout" : null, errors: bad ? 31 : 0 }] }],
    },
    machines: Array.from({ length: count }, (_, i) => machine(i, situation)), alarms,
  };
}

function history() {
  const buckets = Array.from({ length: 60 }, (_, i) => {
    if (i > 20 && i < 27) return null;
    const mean = 600 + 500 * Math.sin(i / 5) + (i > 40 ? 500 : 0);
    return { min: mean - 80, max: mean + 120, mean, coverage: 1 };
  });
  return { v: 1, span_ms: 3_600_000, step_ms: 60_000, unit: "W", buckets };
}

/** Starts on a port of loopback; situations: normal, alarm, stop, quarantined, stale (laser silent), cut (all silent). */
export async function start({ port = 0, situation = "normal", machines = 8 } = {}) {
  let seq = 1;
  const streams = new Set();
  const tell = (stream, event, told) => stream.write(`id: ${seq}\nevent: ${event}\ndata: ${JSON.stringify(told)}\n\n`);
  const open = (stream) => {
    streams.add(stream);
    stream.on("close", () => streams.delete(stream));
    if (situation !== "cut") tell(stream, "picture", picture(seq, situation, machines));
  };
  const set = (name, count = machines) => {
    [situation, machines] = [name, count];
    if (name === "cut") return;
    for (const stream of streams) tell(stream, "picture", picture(seq, situation, machines));
  };
  const beat = setInterval(() => {
    if (situation === "cut") return;
    seq += 1;
    const now = picture(seq, situation, machines);
    for (const stream of streams) {
      now.machines.forEach((told, i) => { if (situation !== "stale" || i > 0) tell(stream, "machine", told); });
      if (seq % 5 === 0) tell(stream, "tick", { seq, now_ms: now.gateway.now_ms, build: "mock", clock: now.gateway.clock });
    }
  }, 1000);
  const server = createServer((request, response) => {
    const { pathname } = new URL(request.url, "http://localhost");
    const json = (told) => response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(told));
    if (pathname === "/api/v1/events") {
      response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
      return open(response);
    }
    if (pathname === "/api/v1/picture") return json(picture(seq, situation, machines));
    if (pathname === "/api/v1/history") return json(history());
    if (request.method === "POST" && pathname.startsWith("/mock/")) { set(pathname.slice(6)); return json({}); }
    const name = pathname === "/" ? "index.html" : pathname.slice(1);
    if (!/^(index\.html|app\.js|app\.css|favicon\.svg)$/.test(name) || !existsSync(DIST + name)) return response.writeHead(404).end();
    response.writeHead(200, { "content-type": TYPES[name.split(".")[1]], "content-security-policy": CSP });
    createReadStream(DIST + name).pipe(response);
  });
  await new Promise((ready) => server.listen(port, "127.0.0.1", ready));
  const stop = () => { clearInterval(beat); server.closeAllConnections(); return new Promise((done) => server.close(done)); };
  return { url: `http://127.0.0.1:${server.address().port}`, set, stop };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { url } = await start({ port: Number(process.env.PORT ?? 8080), situation: process.env.ANDON_MOCK ?? "normal" });
  console.log(url);
}
