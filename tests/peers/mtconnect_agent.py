"""A fake of an MTConnect agent with one three-axis mill, written from the standard and from the public
description of the reference agent.

    mtconnect_agent.py [PORT]   commands on stdin; see fake_http.py for what every fake knows

Serves /probe, /current and /sample?from=&count=&interval=&heartbeat=, also below /VMC; XML only.

Its liberties: no `path`, no assets; the buffer holds BUFFER observations, to make a gap easy to come
by; `instanceId` counts up from 1; timestamps are all the same; nothing moves by itself. A sample with
`interval` looks for news every 20 ms, and its boundary is always the same; it ends when the agent is
restarted, as the process would take its connections along.

Commands: `set ID VALUE` (ids: avail estop exec mode prog msg Frt Fovr Sact Xact Yact Zact count tool),
`condition ID LEVEL [CODE [WORDS]]` (ids: system travel), `flood N` (N observations of Xact), `lost`
(everything UNAVAILABLE, as when the adapter is gone), `restart` (a new instance, buffer empty,
everything UNAVAILABLE), `next` (the next sequence number), `once` (an `interval` is passed over from now on), `goes-on` (and not
any more), `twin` (from now on the model has a second path, of exec2 and prog2).
"""

import sys
import threading
import time
from xml.sax.saxutils import escape, quoteattr

from fake_http import serve

BUFFER = 64
COUNT = 100
BOUNDARY = "fake2f1a"
TIME = "2026-01-01T00:00:00Z"

# id: element, category, type, subType, units
ITEMS = {
    "avail": ("Availability", "EVENT", "AVAILABILITY", "", ""),
    "estop": ("EmergencyStop", "EVENT", "EMERGENCY_STOP", "", ""),
    "exec": ("Execution", "EVENT", "EXECUTION", "", ""),
    "mode": ("ControllerMode", "EVENT", "CONTROLLER_MODE", "", ""),
    "prog": ("Program", "EVENT", "PROGRAM", "", ""),
    "msg": ("Message", "EVENT", "MESSAGE", "", ""),
    "Frt": ("PathFeedrate", "SAMPLE", "PATH_FEEDRATE", "ACTUAL", "MILLIMETER/SECOND"),
    "Fovr": ("PathFeedrateOverride", "EVENT", "PATH_FEEDRATE_OVERRIDE", "PROGRAMMED", "PERCENT"),
    "Sact": ("RotaryVelocity", "SAMPLE", "ROTARY_VELOCITY", "ACTUAL", "REVOLUTION/MINUTE"),
    "Xact": ("Position", "SAMPLE", "POSITION", "ACTUAL", "MILLIMETER"),
    "Yact": ("Position", "SAMPLE", "POSITION", "ACTUAL", "MILLIMETER"),
    "Zact": ("Position", "SAMPLE", "POSITION", "ACTUAL", "MILLIMETER"),
    "count": ("PartCount", "EVENT", "PART_COUNT", "", ""),
    "tool": ("ToolNumber", "EVENT", "TOOL_NUMBER", "", ""),
    "exec2": ("Execution", "EVENT", "EXECUTION", "", ""),
    "prog2": ("Program", "EVENT", "PROGRAM", "", ""),
    "system": ("", "CONDITION", "SYSTEM", "", ""),
    "travel": ("", "CONDITION", "POSITION", "", ""),
}


class Agent:
    """The agent: its buffer and its latest values."""

    def __init__(self):
        self.instance, self.once, self.twin = 0, False, False
        self.lock = threading.RLock()
        self.restart()

    def restart(self):
        """A new instance, as after a restart of its process."""
        self.instance += 1
        self.sequence, self.buffer, self.latest, self.active = 1, [], {}, {}
        self.lost()

    def lost(self):
        """Nothing is available."""
        for item in ITEMS:
            if ITEMS[item][1] == "CONDITION":
                self.condition(item, "Unavailable", "", "")
            else:
                self.observe(item, "UNAVAILABLE")

    def observe(self, item, value):
        """A value, as XML into the buffer."""
        element, _, _, subtype, _ = ITEMS[item]
        subtype = f" subType={quoteattr(subtype)}" if subtype else ""
        self.latest[item] = [self.record(
            f'<{element} dataItemId="{item}"{subtype} sequence="%d" timestamp="{TIME}">'
            f"{escape(value)}</{element}>")]

    def condition(self, item, level, code, words):
        """A condition: beside others while it is a warning or fault; alone when it is not."""
        known = self.active.setdefault(item, {})
        native = f" nativeCode={quoteattr(code)}" if code else ""
        line = self.record(
            f'<{level} dataItemId="{item}"{native} sequence="%d" timestamp="{TIME}" '
            f'type="{ITEMS[item][2]}">{escape(words)}</{level}>')
        if level in ("Warning", "Fault"):
            for quiet in [key for key, (was, _) in known.items() if was in ("Normal", "Unavailable")]:
                del known[quiet]
            known[code] = level, line
        elif code and level == "Normal":
            known.pop(code, None)
            if not known:
                known[""] = level, line
        else:
            known.clear()
            known[""] = level, line
        self.latest[item] = [line for _, line in known.values()]

    def record(self, line):
        """Numbers an observation and puts it into the buffer, over the oldest."""
        line = line % self.sequence
        self.buffer = [*self.buffer, (self.sequence, line)][-BUFFER:]
        self.sequence += 1
        return line

    def handle(self, method, path, query, _headers):
        """One request."""
        if path.startswith("/VMC/"):
            path = path[4:]
        elif path.count("/") > 1:
            return self.error(404, "NO_DEVICE", f"Could not find the device '{path.split('/')[1]}'")
        if method != "GET":
            return self.error(400, "INVALID_REQUEST", "Only GET")
        if path == "/probe":
            return self.xml(200, self.probe())
        if path == "/current":
            lines = [line for item in ITEMS for line in self.latest[item]]
            return self.xml(200, self.stream(lines, self.sequence))
        if path != "/sample":
            return self.error(404, "INVALID_REQUEST", "No such request")
        begin, count = int(query.get("from", self.buffer[0][0])), int(query.get("count", COUNT))
        if "interval" not in query or self.once:
            return self.sample(begin, count)[0]
        interval, heartbeat = int(query["interval"]), int(query.get("heartbeat", 10000))
        kind = {"Content-Type": f"multipart/x-mixed-replace;boundary={BOUNDARY}"}
        return 200, kind, self.parts(begin, count, interval / 1000, heartbeat / 1000)

    def sample(self, begin, count):
        """A response, and where the next one begins, if there may be one."""
        first = self.buffer[0][0]
        if not first <= begin <= self.sequence:
            words = f"'from' must be within {first}..{self.sequence}"
            return self.error(404, "OUT_OF_RANGE", words), None
        if not 0 < count <= BUFFER:
            return self.error(404, "OUT_OF_RANGE", f"'count' must be within 1..{BUFFER}"), None
        lines = [line for number, line in self.buffer if begin <= number < begin + count]
        following = min(begin + count, self.sequence)
        return self.xml(200, self.stream(lines, following)), following

    def parts(self, begin, count, interval, heartbeat):
        """A sample that goes on."""
        instance, told = self.instance, 0.0
        while True:
            with self.lock:
                if self.instance != instance:
                    return
                due = begin < self.sequence or time.monotonic() - told >= heartbeat
                (_, _, body), following = self.sample(begin, count) if due else ((0, 0, b""), begin)
            if due:
                told, begin = time.monotonic(), following
                head = f"--{BOUNDARY}\r\nContent-type: text/xml\r\nContent-length: {len(body)}\r\n\r\n"
                yield head.encode() + body + b"\r\n"
                if following is None:
                    return
                time.sleep(interval)
            time.sleep(0.02)

    def header(self, following):
        """The header; with sequence numbers in streams."""
        numbers = ""
        if following is not None:
            numbers = (f' firstSequence="{self.buffer[0][0]}" lastSequence="{self.sequence - 1}"'
                       f' nextSequence="{following}"')
        return (f'<Header creationTime="{TIME}" sender="fake" instanceId="{self.instance}" '
                f'version="2.0.0.0" bufferSize="{BUFFER}"{numbers}/>')

    def stream(self, lines, following):
        """A document of observations. Conditions, samples and events are told apart by their element."""
        parts = {"Samples": [], "Events": [], "Condition": []}
        for line in lines:
            category = ITEMS[line.split('dataItemId="')[1].split('"')[0]][1]
            parts[{"SAMPLE": "Samples", "EVENT": "Events"}.get(category, "Condition")].append(line)
        body = "".join(f"<{name}>{''.join(of)}</{name}>" for name, of in parts.items() if of)
        return (f'<MTConnectStreams xmlns="urn:mtconnect.org:MTConnectStreams:2.0">'
                f'{self.header(following)}<Streams><DeviceStream name="VMC" uuid="fake-1">'
                f'<ComponentStream component="Path" name="path" componentId="p">{body}'
                f"</ComponentStream></DeviceStream></Streams></MTConnectStreams>")

    def probe(self):
        """The model."""
        def items(*ids):
            lines = []
            for item in ids:
                _, category, kind, subtype, units = ITEMS[item]
                more = "".join(f' {name}="{value}"' for name, value in
                               (("subType", subtype), ("units", units)) if value)
                lines.append(f'<DataItem category="{category}" id="{item}" type="{kind}"{more}/>')
            return f"<DataItems>{''.join(lines)}</DataItems>"
        axes = "".join(f'<Linear id="{axis.lower()}" name="{axis}">{items(axis + "act")}</Linear>'
                       for axis in "XYZ")
        second = f'<Path id="p2" name="path2">{items("exec2", "prog2")}</Path>' if self.twin else ""
        return (f'<MTConnectDevices xmlns="urn:mtconnect.org:MTConnectDevices:2.0">'
                f'{self.header(None)}<Devices><Device id="d" name="VMC" uuid="fake-1">'
                f'<Description manufacturer="nobody"/>{items("avail")}<Components>'
                f'<Axes id="ax" name="base"><Components><Rotary id="c" name="C">{items("Sact")}'
                f"</Rotary>{axes}</Components></Axes>"
                f'<Controller id="cn" name="controller">{items("estop", "msg", "system", "travel")}'
                f'<Components><Path id="p" name="path">'
                f'{items("exec", "mode", "prog", "Frt", "Fovr", "count", "tool")}'
                f"</Path>{second}</Components></Controller></Components></Device></Devices></MTConnectDevices>")

    def error(self, status, code, words):
        """An error document."""
        return self.xml(status, (
            f'<MTConnectError xmlns="urn:mtconnect.org:MTConnectError:2.0">{self.header(None)}'
            f'<Errors><Error errorCode="{code}">{escape(words)}</Error></Errors></MTConnectError>'))

    @staticmethod
    def xml(status, text):
        """A response."""
        body = ('<?xml version="1.0" encoding="UTF-8"?>' + text).encode()
        return status, {"Content-Type": "application/xml"}, body

    def command(self, words):
        """One command of stdin."""
        with self.lock:
            return self.obey(words)

    def obey(self, words):
        """The same, while nothing is being told."""
        word, rest = words[0], words[1:]
        if word == "set":
            self.observe(rest[0], " ".join(rest[1:]))
        elif word == "condition":
            code, text = (rest + ["", ""])[2], " ".join(rest[3:])
            self.condition(rest[0], rest[1], code, text)
        elif word == "flood":
            for number in range(int(rest[0])):
                self.observe("Xact", str(number))
        elif word == "lost":
            self.lost()
        elif word == "restart":
            self.restart()
        elif word in ("once", "goes-on"):
            self.once = word == "once"
        elif word == "twin":
            self.twin = True
        elif word == "next":
            return str(self.sequence)
        else:
            raise KeyError(word)
        return "ok"


if __name__ == "__main__":
    agent = Agent()
    serve(int(sys.argv[1]) if len(sys.argv) > 1 else 0, agent.handle, agent.command)
