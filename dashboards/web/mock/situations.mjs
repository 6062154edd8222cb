//! The situations that the mock can be in, as the API's Picture. Pure: a situation and what people have ordered
//! since it began go in, a picture comes out. No machine is behind any of it.

import { controlled, CONTROLLERS } from "./controllers.mjs";

const NAMES = [
  ["laser", "CO₂ laser", "激光切割机"],
  ["cnc", "CNC router", "数控雕刻机"],
  ["printer-1", "Printer 1", "三维打印机 1"],
  ["printer-2", "Printer 2", "三维打印机 2"],
  ["saw", "Table saw", "台锯"],
  ["lathe", "Metal lathe", "金属车床"],
  ["compressor", "Compressor", "空压机"],
  ["kiln", "Kiln", "陶瓷窑"],
];
const KINDS = {
  laser: "laser", cnc: "router", "printer-1": "fdm-printer", "printer-2": "fdm-printer", saw: "table-saw",
};
const OF_KIND = {
  laser: {
    name: { en: "Laser cutter", zh: "激光切割机" },
    hazards: [
      { en: "Flames: stay beside it, extinguisher at hand.", zh: "明火：必须有人值守，备好灭火器。" },
      { en: "Toxic fumes: exhaust on; never cut PVC (chlorine).", zh: "有毒烟气：开启排风；严禁切割 PVC（氯气）。" },
    ],
  },
};
const STATES = ["running", "ready", "running", "finished", "off", "paused", "ready", "preparing"];
const ACTIVITY = {
  running: "run", preparing: "run", ready: "idle", paused: "idle", finished: "idle",
  off: "off", fault: "fault", stopped: "fault", unknown: "unknown",
};
const POWER = { running: 1523.4, preparing: 340, off: 0.4, stopped: 0.2 };

/** What people have ordered since the situation began: ids of alarms. */
export const untouched = () => ({ acked: new Set(), reset: new Set() });

/** What may be asked for: every situation by what it shows. */
export const SITUATIONS = {
  normal: "all well",
  alarm: "alarms of each severity, a fault",
  stop: "the laser is stopped and still hot: a reset is refused",
  "stop-failed": "the laser's stop has failed, and it runs on",
  cooled: "the laser is stopped and cool again: a reset is carried out",
  quarantined: "a meter is quarantined, the broker is gone, the clock unknown",
  restart: "the gateway has just started and knows little",
  stale: "the laser says nothing, the others do",
  controllers: "printers and a CNC with a controller each, in every state that one can tell of",
  "controllers-gone": "the same, but the first controller has gone while its meter still tells",
  "controllers-mute": "the same, but of the first nothing is told any more",
  meters: "nobody asked what the laser does, its values are told; the router's meter is the wrong way round",
  undiagnosed: "all well, but questions for diagnostics hang",
  cut: "every stream is silent, and those opened meanwhile stay so",
};

function stopOf(situation, orders) {
  const stop = { output: "laser-contactor", phase: "armed", level: null, cause: null, trouble: null };
  if (situation === "restart") return { ...stop, phase: "unknown" };
  const trouble = "timeout";
  if (situation === "stop-failed") return { ...stop, phase: "failed", level: "C0", cause: "laser-hot", trouble };
  const stopped = ["stop", "cooled"].includes(situation) && !orders.reset.has("laser-hot");
  return stopped ? { ...stop, phase: "latched", level: "C3", cause: "laser-hot" } : stop;
}

function itemsOf(id, execution, i, situation) {
  const item = (name, unit, value, key = true, kind = "gauge") => ({
    name, kind, unit, value, why: null, age_ms: 300, stale_after_ms: 5000, key,
  });
  const items = [
    item("power.active", "W", (POWER[execution] ?? 46.2) + i),
    item("energy.import", "Wh", 812_400 + i, false, "counter"),
    item("voltage", "V", 231.4, false),
  ];
  const hot = ["alarm", "stop", "stop-failed"].includes(situation);
  if (id === "laser") items.splice(1, 0, item("temperature.tube", "°C", hot ? 63.2 : 24.1));
  if (id.startsWith("printer")) items.splice(1, 0, item("temperature.nozzle", "°C", 214.9));
  return items;
}

function machine(i, situation, orders) {
  const own = situation.startsWith("controllers") ? controlled(i, situation) : null;
  const [id, en, zh] = own ? [own.id, own.en, own.zh] : NAMES[i % NAMES.length];
  const round = Math.floor(i / (own ? CONTROLLERS : NAMES.length));
  const stop = i === 0 && !own ? stopOf(situation, orders) : null;
  let execution = STATES[i % STATES.length];
  if (i === 0 && situation === "cooled") execution = "ready";
  if (stop?.phase === "latched") execution = "stopped";
  if (i === 1 && situation === "alarm") execution = "fault";
  let items = itemsOf(id, execution, i, situation);
  let why = null;
  const silent = (reason, age_ms) => {
    [execution, why] = ["unknown", reason];
    items = items.map((each) => ({ ...each, value: null, why: reason, age_ms }));
  };
  if (i === 2 && ["quarantined", "stop"].includes(situation)) silent("timeout", 92_000);
  if (i > 0 && situation === "restart") silent("not_yet", null);
  if (i === 0 && situation === "meters") execution = "unknown";
  if (i === 1 && situation === "meters") {
    [execution, why] = ["unknown", "conflict"];
    items = items.map((each) => (each.name === "power.active" ? { ...each, value: -2734.5 } : each));
  }
  if (own) [execution, why, items] = [own.execution, own.why, own.items];
  const again = (name) => (round > 0 ? `${name} ${round + 1}` : name);
  return {
    id: round > 0 ? `${id}-r${round}` : id, name: { en: again(en), zh: again(zh) }, kind: KINDS[id] ?? id,
    execution, activity: ACTIVITY[execution], why, items, stop,
    activity_from: i === 0 && situation === "meters" ? [] : own ? ["execution"] : ["power.active"],
    in_state_ms: 734_000 + i * 97_000 + Math.round(performance.now()),
  };
}

const LASER_HOT = {
  id: "laser-hot", machine: "laser", severity: "high", active: true, acked: false, latched: true,
  for_ms: 12_345, cause: "temperature 63.2 °C",
  message: {
    en: "Tube too hot: stop cutting and check the chiller.",
    zh: "激光管过热：停止切割并检查冷水机。",
  },
};
const STOP_FAILED = {
  id: "stop:laser-contactor", stop: "laser-contactor", machine: "laser", severity: "critical", active: true, acked: false,
  latched: true, for_ms: 9_345, cause: "timeout",
  message: {
    en: "The protective stop FAILED: stop the machine by hand, at its own emergency stop or main switch.",
    zh: "保护停机失败：请立即用机器自身的急停按钮或总开关手动停机。",
  },
};
const AIR_LOW = {
  id: "air-low", machine: "compressor", severity: "medium", active: false, acked: false,
  latched: false, for_ms: 840_000, cause: "",
  message: { en: "Motor ran long: look for an air leak.", zh: "电机运行过久：检查是否漏气。" },
};
const KILN_LID = {
  id: "kiln-lid", machine: "kiln", severity: "low", active: null, acked: true, latched: false,
  for_ms: 4_000_000, cause: "",
  message: { en: "Kiln lid: sensor gives no value.", zh: "窑盖：传感器无数值。" },
};
const ALARMS = {
  alarm: [LASER_HOT, AIR_LOW, KILN_LID],
  stop: [LASER_HOT, AIR_LOW],
  "stop-failed": [STOP_FAILED, LASER_HOT],
  cooled: [{ ...LASER_HOT, active: false, cause: "temperature 31.0 °C" }],
  restart: [
    { ...LASER_HOT, active: null, for_ms: null, cause: "" },
    { ...AIR_LOW, id: "old-rule", active: false, latched: true, for_ms: null, message: null,
      cause: "power.active 2.6 kW" },
  ],
};

function alarms(situation, orders) {
  return (ALARMS[situation] ?? [])
    .map((alarm) => ({
      stop: null,
      ...alarm,
      acked: alarm.acked || orders.acked.has(alarm.id),
      latched: alarm.latched && !orders.reset.has(alarm.id),
    }))
    .filter((alarm) => alarm.active !== false || !alarm.acked || alarm.latched);
}

function gateway(situation) {
  const lost = situation === "quarantined";
  const young = situation === "restart";
  const link = (down, why) => ({ state: down ? "down" : "up", why: down ? why : null });
  const unit = (source, unit_id, bad) => ({
    source, unit_id, errors: bad && lost ? 31 : 0,
    state: young ? "not_asked" : bad ? "quarantined" : "online",
    why: young ? "not_yet" : bad ? "timeout" : null,
  });
  return {
    version: "0.1.0", build: "mock", clock: lost || young ? "unsynced" : "synced", clock_standing: lost || young ? "unsynced" : "synced",
    now_ms: lost || young ? null : Date.now(),
    mqtt: {
      ...link(lost || young, young ? "not_yet" : "connection refused"),
      behind: lost ? 412 : 0, confirmed_by: "recorder",
    },
    store: { ...link(young, "not_yet"), behind: 0 },
    journal: { state: young ? "failing" : "ok", dropped: 0, quarantined: lost ? 2 : 0 },
    buses: [{
      id: "panel", ...link(young, "not_yet"), occupancy: young ? null : 0.31,
      units: [unit("panel-3", 3, false), unit("panel-5", 5, lost || situation === "stop")],
    }],
    devices: [{
      source: "printer", protocol: "moonraker", state: young || lost ? "down" : "answering",
      why: young ? "not_yet" : lost ? "connection refused" : null, errors: lost ? 3 : 0,
    }],
    viewers: { connected: 1, dropped: lost ? 1 : 0, missed: 0 },
  };
}

export function picture(seq, situation, orders, count) {
  const site = { en: "Chaihuo Maker Space", zh: "柴火创客空间" };
  return {
    v: 1, seq,
    site: { id: "chaihuo", name: site, time_zone: "Asia/Shanghai" },
    gateway: gateway(situation),
    machines: Array.from({ length: count }, (_, i) => machine(i, situation, orders)),
    kinds: OF_KIND,
    alarms: alarms(situation, orders),
  };
}

export function history() {
  const buckets = Array.from({ length: 60 }, (_, i) => {
    if (i > 20 && i < 27) return null;
    const mean = 600 + 500 * Math.sin(i / 5) + (i > 40 ? 500 : 0);
    return { min: mean - 80, max: mean + 120, mean, coverage: 1 };
  });
  return { v: 1, span_ms: 3_600_000, step_ms: 60_000, unit: "W", buckets };
}

/** The long past of one series: known but for the first third and a break in the middle. */
export function past(asked) {
  const [from_ms, to_ms, count] = ["from", "to", "buckets"].map((name) => Number(asked.get(name)));
  const buckets = Array.from({ length: count }, (_, i) => {
    if (i < count / 3 || (i > count / 2 && i < count / 2 + 9)) return null;
    const mean = 600 + 500 * Math.sin(i / 15);
    return { min: mean - 80, max: mean + 120, mean, last: mean, coverage: 1 };
  });
  const [machine, item] = [asked.get("machine"), asked.get("item")];
  return { v: 1, from_ms, to_ms, step_ms: (to_ms - from_ms) / count, level: "samples", series: [{ machine, item, unit: "W", buckets }] };
}
