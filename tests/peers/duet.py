"""A fake of a Duet with RepRapFirmware 3, standalone, written from the firmware's public sources.

    duet.py [PORT]          commands on stdin; see fake_http.py for what every fake knows

The password is `secret`. Sessions have keys, at most SESSIONS_MAX, and die SESSION_SECONDS after their
last request, as on a board.

Its liberties: the object model has the parts heat, job, state and tools and only fields that a
monitor may want; nothing moves or heats by itself; `M25` pauses at once, `M0` ends a paused job, all
other codes but `M112` are swallowed; a halted board comes back only with `state idle`.

Commands: `print NAME`, `position BYTES`, `state WORD`, `heater INDEX CURRENT ACTIVE STATE`,
`message WORDS`, `busy N` (the next N model requests get 503), `expire` (all sessions), `sessions` (how
many there are), `codes` (those received, joined by commas).
"""

import secrets
import sys
import time

from fake_http import serve

PASSWORD = "secret"
SESSIONS_MAX = 8
SESSION_SECONDS = 8


class Board:
    """The board: its model, its sessions."""

    def __init__(self):
        self.sessions, self.codes, self.busy = {}, [], 0
        self.status, self.file, self.position, self.message = "idle", None, 0, ""
        self.heaters = [{"active": 0, "current": 21.2, "standby": 0, "state": "off"},
                        {"active": 0, "current": 21.9, "standby": 0, "state": "off"}]
        self.sequences = {"heat": 1, "job": 1, "state": 1, "tools": 1}

    def handle(self, method, path, query, headers):
        """One request."""
        now = time.monotonic()
        self.sessions = {key: last for key, last in self.sessions.items()
                         if now - last < SESSION_SECONDS}
        if method != "GET" or not path.startswith("/rr_"):
            return 404, {}, {"err": 1}
        if path == "/rr_connect":
            return 200, {}, self.connect(query, now)
        key = headers.get("X-Session-Key")
        if key not in self.sessions:
            return 401, {"Content-Type": "text/plain"}, b"Not authorized"
        self.sessions[key] = now
        if path == "/rr_disconnect":
            del self.sessions[key]
            return 200, {}, {"err": 0}
        if path == "/rr_gcode":
            self.code(query.get("gcode", ""))
            return 200, {}, {"buff": 251}
        if path != "/rr_model":
            return 500, {}, b"Unknown request"
        if self.busy > 0:
            self.busy -= 1
            return 503, {}, b""
        name, flags = query.get("key", ""), query.get("flags", "")
        model = self.model()
        result = self.live(model) if name == "" else model.get(name)
        return 200, {}, {"key": name, "flags": flags, "result": result}

    def connect(self, query, now):
        """The answer to rr_connect."""
        if query.get("password") != PASSWORD:
            return {"err": 1}
        if len(self.sessions) >= SESSIONS_MAX:
            return {"err": 2}
        key = str(secrets.randbelow(2**32 - 1) + 1)
        self.sessions[key] = now
        return {"err": 0, "sessionTimeout": SESSION_SECONDS * 1000, "boardType": "duetwifi102",
                "apiLevel": 1, "sessionKey": int(key)}

    def code(self, code):
        """A G-code."""
        self.codes.append(code)
        if code == "M112":
            self.status = "halted"
            for heater in self.heaters:
                heater.update(state="off")
        elif code == "M25" and self.status == "processing":
            self.status = "paused"
        elif code == "M0" and self.status == "paused":
            self.status, self.file, self.position = "idle", None, 0
            self.sequences["job"] += 1

    def model(self):
        """The parts of the object model, whole."""
        printing = self.file is not None
        left = {"filament": None, "file": 180 if printing else None, "slicer": None}
        return {
            "heat": {"bedHeaters": [0, -1, -1, -1], "chamberHeaters": [-1, -1],
                     "coldExtrudeTemperature": 160.0, "heaters": self.heaters},
            "job": {"duration": 60 if printing else None, "filePosition": self.position,
                    "layer": 3 if printing else None, "timesLeft": left,
                    "file": {"fileName": self.file, "size": 4000 if printing else 0,
                             "numLayers": 240 if printing else 0, "filament": []}},
            "state": {"status": self.status, "currentTool": 0, "displayMessage": self.message,
                      "messageBox": None, "upTime": int(time.monotonic())},
            "tools": [{"number": 0, "name": "", "state": "active", "heaters": [1],
                       "active": [self.heaters[1]["active"]], "standby": [0]}],
        }

    def live(self, model):
        """What changes often, as with the flag f."""
        return {
            "heat": {"heaters": self.heaters},
            "job": {name: model["job"][name]
                    for name in ("duration", "filePosition", "layer", "timesLeft")},
            "seqs": self.sequences,
            "state": {name: model["state"][name] for name in ("status", "currentTool", "upTime")},
            "tools": [{"active": model["tools"][0]["active"], "standby": [0], "state": "active"}],
        }

    def command(self, words):
        """One command of stdin."""
        word, rest = words[0], words[1:]
        if word == "print":
            self.file, self.position, self.status = f"0:/gcodes/{rest[0]}", 0, "processing"
            self.sequences["job"] += 1
        elif word == "position":
            self.position = int(rest[0])
        elif word == "state":
            self.status = rest[0]
        elif word == "heater":
            self.heaters[int(rest[0])].update(
                current=float(rest[1]), active=float(rest[2]), state=rest[3])
        elif word == "message":
            self.message = " ".join(rest)
            self.sequences["state"] += 1
        elif word == "busy":
            self.busy = int(rest[0])
        elif word == "expire":
            self.sessions.clear()
        elif word == "sessions":
            return str(len(self.sessions))
        elif word == "codes":
            return ",".join(self.codes)
        else:
            raise KeyError(word)
        return "ok"


if __name__ == "__main__":
    board = Board()
    serve(int(sys.argv[1]) if len(sys.argv) > 1 else 0, board.handle, board.command)
