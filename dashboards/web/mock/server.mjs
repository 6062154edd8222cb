//! A gateway that is not one: the API contract over scripted situations, for development and the browser tests.
//! It reads no machine. Bounds: loopback only; one situation at a time, chosen by ANDON_MOCK or POST /mock/NAME.
import { createReadStream, existsSync } from "node:fs";
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";
import { diagnostics } from "./diagnostics.mjs";
import { history, past, picture, SITUATIONS, untouched } from "./situations.mjs";

/** The mock's operator. */
export const TOKEN = "00112233445566778899aabbccddeeff";

const DIST = fileURLToPath(new URL("../dist/", import.meta.url));
const FILES = /^(index\.html|app\.js|app\.css|favicon\.svg)$/;
const TYPES = {
  html: "text/html; charset=utf-8", js: "text/javascript", css: "text/css", svg: "image/svg+xml",
};
// The gateway's own, so that what it would forbid is found here.
const CSP = "default-src 'self'; img-src 'self' data:; object-src 'none'; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
const ORDER = /^\/api\/v1\/alarms\/([^/]+)\/(acknowledge|reset)$/;
/** Situations in which nothing is told of the first machine. */
const MUTE = ["stale", "controllers-mute"];
/** Situations in which questions for diagnostics hang. */
const UNDIAGNOSED = ["cut", "undiagnosed"];
const BODY_CHARS_MAX = 4096;

/** Carries out an order as the gateway would: [status, error]. */
function obey(orders, alarms, id, deed, headers, body) {
  if (headers.authorization !== `Bearer ${TOKEN}`) return [401, "the operator's token is needed"];
  const alarm = alarms.find((each) => each.id === id);
  if (alarm === undefined) return [404, "there is no alarm of this id"];
  if (!body.by) return [400, "\"by\" must say who, in at most 64 characters"];
  if (deed === "acknowledge") {
    orders.acked.add(id);
    return [204];
  }
  if (!body.reason) return [400, "\"reason\" must say why, in at most 500 characters"];
  if (alarm.active !== false) return [409, "its condition still holds"];
  orders.reset.add(id);
  orders.acked.add(id);
  return [204];
}

async function bodyOf(request) {
  let text = "";
  for await (const part of request) {
    text += part;
    if (text.length > BODY_CHARS_MAX) return {};
  }
  try { return JSON.parse(text); } catch { return {}; }
}

class Mock {
  seq = 1;
  streams = new Set();
  orders = untouched();
  build = "mock";
  /** Orders received: [deed, alarm, status, body]. */
  received = [];
  /** Questions to the long past, and whether they are refused. */
  pasts = [];
  forgets = false;
  /** How often diagnostics were asked for. */
  diagnosed = 0;

  constructor(situation, machines) {
    [this.situation, this.machines] = [situation, machines];
  }

  picture() {
    const now = picture(this.seq, this.situation, this.orders, this.machines);
    return { ...now, gateway: { ...now.gateway, build: this.build } };
  }

  tell(stream, event, told) {
    stream.write(`id: ${this.seq}\nevent: ${event}\ndata: ${JSON.stringify(told)}\n\n`);
  }

  open(stream) {
    // What is opened during a cut stays dead: only a board that connects again recovers.
    if (this.situation === "cut") return;
    this.streams.add(stream);
    stream.on("close", () => this.streams.delete(stream));
    this.tell(stream, "picture", this.picture());
  }

  set(situation, machines = this.machines) {
    [this.situation, this.machines, this.orders] = [situation, machines, untouched()];
    if (situation === "cut") this.streams.clear();
    for (const stream of this.streams) this.tell(stream, "picture", this.picture());
  }

  beat() {
    this.seq += 1;
    const now = this.picture();
    const { clock, now_ms, build } = now.gateway;
    for (const stream of this.streams) {
      now.machines.forEach((told, i) => {
        if (!MUTE.includes(this.situation) || i > 0) this.tell(stream, "machine", told);
      });
      if (this.seq % 5 === 0) this.tell(stream, "tick", { seq: this.seq, now_ms, build, clock });
    }
  }

  async order(request, [, id, deed]) {
    const body = await bodyOf(request);
    const { alarms } = this.picture();
    const [status, error] = obey(this.orders, alarms, decodeURIComponent(id), deed, request.headers, body);
    this.received.push([deed, id, status, body]);
    const now = this.picture();
    for (const stream of this.streams) {
      this.tell(stream, "alarms", now.alarms);
      this.tell(stream, "machine", now.machines[0]);
    }
    return [status, error];
  }
}

async function answer(mock, request, response) {
  const { pathname, searchParams: asked } = new URL(request.url, "http://localhost");
  const json = (told, status = 200) =>
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(told));
  if (pathname === "/api/v1/events") {
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
    response.flushHeaders();
    return mock.open(response);
  }
  if (pathname === "/api/v1/picture") return json(mock.picture());
  if (pathname === "/api/v1/history" && asked.has("span_s")) return json(history());
  if (pathname === "/api/v1/history") {
    mock.pasts.push(Object.fromEntries(asked));
    return json(mock.forgets ? { error: "history cannot be read now" } : past(asked), mock.forgets ? 503 : 200);
  }
  if (pathname === "/api/v1/diagnostics") {
    mock.diagnosed += 1;
    // A gateway in trouble takes the question and says nothing.
    if (UNDIAGNOSED.includes(mock.situation)) return undefined;
    return json(diagnostics(mock.situation));
  }
  const order = request.method === "POST" && ORDER.exec(pathname);
  if (order) {
    const [status, error] = await mock.order(request, order);
    return error ? json({ error }, status) : response.writeHead(status).end();
  }
  const wanted = pathname.startsWith("/mock/") ? pathname.slice(6) : "";
  if (request.method === "POST" && wanted in SITUATIONS) {
    mock.set(wanted);
    return json({});
  }
  const name = pathname === "/" ? "index.html" : pathname.slice(1);
  if (!FILES.test(name) || !existsSync(DIST + name)) return json({ error: "there is nothing here" }, 404);
  response.writeHead(200, { "content-type": TYPES[name.split(".")[1]], "content-security-policy": CSP });
  return createReadStream(DIST + name).pipe(response);
}

/** Starts on a port of loopback, in one of SITUATIONS. */
export async function start({ port = 0, situation = "normal", machines = 8 } = {}) {
  const mock = new Mock(situation, machines);
  const beat = setInterval(() => mock.beat(), 1000);
  const server = createServer((request, response) => {
    answer(mock, request, response).catch((error) => response.destroy(error));
  });
  await new Promise((ready) => server.listen(port, "127.0.0.1", ready));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    received: mock.received,
    pasts: mock.pasts,
    forget: (forgets) => { mock.forgets = forgets; },
    diagnosed: () => mock.diagnosed,
    set: (name, count) => mock.set(name, count),
    rebuild: (build) => { mock.build = build; },
    stop: () => {
      clearInterval(beat);
      server.closeAllConnections();
      return new Promise((done) => server.close(done));
    },
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const port = Number(process.env.PORT ?? 8080);
  const { url } = await start({ port, situation: process.env.ANDON_MOCK ?? "normal" });
  console.log(`${url}  operator's token: ${TOKEN}`);
}
