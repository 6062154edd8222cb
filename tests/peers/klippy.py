"""A stand-in for Klipper's host process, so that a real Moonraker has something to speak with.

    klippy.py SOCKET        commands come as lines on stdin, one answer line each on stdout

It serves the API of Klipper's webhooks on a unix socket: JSON objects, each ended by 0x03. Written
from the public description of that API and of the printer objects; it has no firmware, no motion
and no thermodynamics.

Its liberties: time stands still but for `tick`; a job is whatever the last command says; heaters
move only by command; `objects/query` and `objects/subscribe` know the objects below and no others;
a restart closes every connection and opens them again at once.

Commands: `print NAME`, `extrude MM`, `pause`, `resume`, `cancel`, `complete`, `fail WORDS`, `clear`,
`heat TARGET`, `temperature VALUE`, `tick SECONDS`, `startup`, `ready`, `shutdown WORDS`, `restart`,
`mute` (answers nothing any more), `quit`.
"""

import asyncio
import json
import os
import sys

READY = "Printer is ready"
ESTOP = "Shutdown due to webhooks request"
HOW_TO_RECOVER = """
Once the underlying issue is corrected, use the
"FIRMWARE_RESTART" command to reset the firmware, reload the
config, and restart the host software.
Printer is shutdown
"""


class Klippy:
    """The printer and its clients."""

    def __init__(self):
        self.clients = set()
        self.mute = False
        self.time = 1000.0
        self.reset()

    def reset(self):
        """As after a start of the process."""
        self.webhooks = {"state": "ready", "state_message": READY}
        self.stats = {
            "filename": "", "total_duration": 0.0, "print_duration": 0.0, "filament_used": 0.0,
            "state": "standby", "message": "", "info": {"total_layer": None, "current_layer": None},
        }
        self.progress = 0.0
        self.nozzle = {"temperature": 21.5, "target": 0.0, "power": 0.0, "can_extrude": False}
        self.bed = {"temperature": 21.0, "target": 0.0, "power": 0.0}

    def objects(self):
        """What the printer knows, by name of the object."""
        state = self.stats["state"]
        return {
            "webhooks": self.webhooks,
            "print_stats": self.stats,
            "virtual_sdcard": {
                "progress": self.progress, "is_active": state == "printing",
                "file_position": int(self.progress * 1000), "file_size": 1000, "file_path": None,
            },
            "display_status": {"progress": self.progress, "message": None},
            "pause_resume": {"is_paused": state == "paused"},
            "idle_timeout": {"state": "Printing" if state == "printing" else "Idle",
                             "printing_time": 0.0},
            "gcode_move": {"speed_factor": 1.0, "extrude_factor": 1.0, "speed": 1500.0},
            "extruder": self.nozzle,
            "heater_bed": self.bed,
            "temperature_sensor chamber": {"temperature": 30.5, "measured_min_temp": 20.0},
            "configfile": {"config": {}, "settings": {}, "warnings": []},
            "mcu": {"mcu_version": "v0.12.0", "last_stats": {}},
        }

    def status(self, wanted):
        """The fields asked for: `{object: null | [fields]}`."""
        known = self.objects()
        return {
            name: {field: value for field, value in known[name].items()
                   if fields is None or field in fields}
            for name, fields in wanted.items() if name in known
        }

    def answer(self, client, method, params):
        """The result of a request; raises KeyError for a method that does not exist."""
        if method == "info":
            return {**self.webhooks, "hostname": "peer", "software_version": "v0.12.0",
                    "klipper_path": "/nowhere", "python_path": sys.executable,
                    "process_id": os.getpid(), "user_id": os.getuid(), "group_id": os.getgid(),
                    "log_file": "/nowhere/klippy.log", "config_file": "/nowhere/printer.cfg"}
        if method == "list_endpoints":
            return {"endpoints": [
                "info", "emergency_stop", "register_remote_method", "list_endpoints",
                "objects/list", "objects/query", "objects/subscribe", "gcode/help", "gcode/script",
                "gcode/restart", "gcode/firmware_restart", "gcode/subscribe_output",
                "pause_resume/pause", "pause_resume/resume", "pause_resume/cancel",
            ]}
        if method in ("register_remote_method", "gcode/subscribe_output", "gcode/help", "gcode/script"):
            return {}
        if method == "objects/list":
            return {"objects": list(self.objects())}
        if method in ("objects/query", "objects/subscribe"):
            wanted = params.get("objects", {})
            if method == "objects/subscribe":
                client.wanted, client.template = wanted, params.get("response_template", {})
                client.last = self.status(wanted)
            return {"eventtime": self.time, "status": self.status(wanted)}
        if method == "emergency_stop":
            self.command("shutdown", ESTOP)
        elif method.startswith("pause_resume/"):
            self.command(method.split("/")[1], "")
        elif method in ("gcode/restart", "gcode/firmware_restart"):
            asyncio.get_running_loop().call_soon(self.command, "restart", "")
        else:
            raise KeyError(method)
        return {}

    def command(self, word, rest):
        """Carries out a command of stdin or of a request, and tells the subscribers."""
        job = self.stats["state"]
        if word == "print":
            self.progress = 0.0
            self.stats.update(filename=rest, total_duration=0.0, print_duration=0.0, message="",
                              filament_used=0.0, state="printing",
                              info={"total_layer": 40, "current_layer": 0})
        elif word == "extrude":
            self.stats["filament_used"] += float(rest)
            self.stats["info"] = {"total_layer": 40, "current_layer": 3}
            self.progress = 0.25
        elif word in ("pause", "resume", "cancel", "complete"):
            if job in ("printing", "paused"):
                self.stats["state"] = {"pause": "paused", "resume": "printing",
                                       "cancel": "cancelled", "complete": "complete"}[word]
        elif word == "fail":
            self.stats.update(state="error", message=rest)
        elif word == "clear":
            self.stats.update(state="standby", filename="", total_duration=0.0, message="")
        elif word == "heat":
            self.nozzle["target"] = float(rest)
        elif word == "temperature":
            self.nozzle["temperature"] = float(rest)
        elif word == "tick":
            self.time += float(rest)
            if job == "printing":
                self.stats["total_duration"] += float(rest)
        elif word == "startup":
            self.webhooks = {"state": "startup", "state_message": "Printer is not ready\n"}
        elif word == "ready":
            self.webhooks = {"state": "ready", "state_message": READY}
        elif word == "shutdown":
            self.webhooks = {"state": "shutdown", "state_message": rest + HOW_TO_RECOVER}
        elif word == "restart":
            self.reset()
            for client in list(self.clients):
                client.writer.close()
        elif word == "mute":
            self.mute = True
        else:
            raise KeyError(word)
        for client in list(self.clients):
            client.tell_changes()


class Client:
    """A connection, with what it has subscribed to."""

    def __init__(self, klippy, writer):
        self.klippy, self.writer = klippy, writer
        self.wanted, self.template, self.last = {}, {}, {}

    def send(self, message):
        """Sends a message, unless the printer has gone mute."""
        if not self.klippy.mute:
            self.writer.write(json.dumps(message).encode() + b"\x03")

    def tell_changes(self):
        """Tells the fields that have changed since the last time, as Klipper does."""
        now = json.loads(json.dumps(self.klippy.status(self.wanted)))
        changes = {}
        for name, fields in now.items():
            before = self.last.get(name, {})
            changed = {field: value for field, value in fields.items() if before.get(field) != value}
            if changed:
                changes[name] = changed
        self.last = now
        if changes:
            self.send({**self.template, "params": {"eventtime": self.klippy.time, "status": changes}})

    def hear(self, line):
        """Answers one request."""
        request = json.loads(line)
        reply = {"id": request.get("id")}
        try:
            reply["result"] = self.klippy.answer(self, request["method"], request.get("params", {}))
        except KeyError as unknown:
            reply["error"] = {"error": "WebRequestError",
                              "message": f"webhooks: No registered callback for path {unknown}"}
        if reply["id"] is not None:
            self.send(reply)


async def main():
    """Serves until `quit` or the end of stdin."""
    klippy = Klippy()

    async def serve(reader, writer):
        client = Client(klippy, writer)
        klippy.clients.add(client)
        try:
            while line := await reader.readuntil(b"\x03"):
                client.hear(line[:-1])
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass
        finally:
            klippy.clients.discard(client)
            writer.close()

    server = await asyncio.start_unix_server(serve, sys.argv[1], limit=1 << 20)
    print("listening", flush=True)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        word, _, rest = line.strip().partition(" ")
        if word == "quit":
            break
        try:
            klippy.command(word, rest)
            print("ok", flush=True)
        except (KeyError, ValueError) as wrong:
            print(f"no: {wrong}", flush=True)
    server.close()


asyncio.run(main())
