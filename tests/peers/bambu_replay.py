"""A Bambu Lab printer in its LAN: its own mosquitto with TLS and login, and what it pushes.

    bambu_replay.py --dir DIR --port PORT [--serial 01S00C123400001] [--code 12345678]

Makes a CA and a certificate whose CN is the serial number in DIR (ca.pem is what a client has to
trust), starts mosquitto there on 127.0.0.1:PORT for user `bblp` with the access code as password,
and prints "ready". It answers `pushall` with a full report (msg 0), `get_version` with versions,
`stop` and `pause` with a result, and pushes only what changed (msg 1) in between.

stdin: `state RUNNING 0` (gcode_state and stg_cur), `set nozzle_temper 219.5` (any field of the
report, JSON), `signed` (from now on `print.*` is refused as unsigned, and `fun` says so),
`deaf` (accepts `stop` and `pause` and does nothing), `silent`, `speak`, `quit`.

Facts: OpenBambuAPI's description of its MQTT, Home Assistant's integration for the port, the login
and the certificate. Liberties: the certificate is signed by a CA of this folder, not by the
vendor's, and also names localhost, which the printer's does not; the report has the fields of the
published example that andon or its neighbours read; a cancelled job goes to FAILED with print_error
50348044 at once, without parking; commands beside those four are not answered; the printer's limit
of clients is not there.
"""

import ctypes
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import time

from mqtt_replay import Replay, arguments

FULL = {
    "command": "push_status", "sequence_id": "2021", "gcode_state": "IDLE", "stg_cur": -1, "stg": [],
    "mc_percent": 0, "mc_remaining_time": 0, "layer_num": 0, "total_layer_num": 0,
    "nozzle_temper": 25.0, "nozzle_target_temper": 0.0, "bed_temper": 25.0, "bed_target_temper": 0.0,
    "chamber_temper": 24.0, "print_error": 0, "fail_reason": "0", "hms": [], "home_flag": 0,
    "subtask_name": "", "gcode_file": "", "print_type": "", "spd_lvl": 2, "wifi_signal": "-45dBm",
}
SIGNATURE = "41ABCFF9BFF"


def openssl(directory, *words):
    subprocess.run(["openssl", *words], cwd=directory, check=True, capture_output=True)


def certificates(directory, serial):
    """ca.pem, and server.pem with its key."""
    openssl(directory, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key",
            "-out", "ca.pem", "-days", "2", "-subj", "/CN=replay CA",
            "-addext", "basicConstraints=critical,CA:TRUE")
    openssl(directory, "req", "-newkey", "rsa:2048", "-nodes", "-keyout", "server.key",
            "-out", "server.csr", "-subj", f"/CN={serial}")
    with open(os.path.join(directory, "names"), "w", encoding="ascii") as names:
        names.write(f"subjectAltName=DNS:{serial},DNS:localhost,IP:127.0.0.1\n")
    openssl(directory, "x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-CAcreateserial", "-out", "server.pem", "-days", "2", "-extfile", "names")


def die_with_parent():
    """So that mosquitto is gone when this script was killed: PR_SET_PDEATHSIG, SIGKILL."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def broker(directory, port, code):
    """mosquitto; returns its process."""
    passwords = os.path.join(directory, "passwords")
    subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "bblp", code], check=True,
                   capture_output=True)
    path = os.path.join(directory, "mosquitto.conf")
    with open(path, "w", encoding="ascii") as conf:
        conf.write(
            f"listener {port} 127.0.0.1\nallow_anonymous false\npassword_file {passwords}\n"
            f"certfile {directory}/server.pem\nkeyfile {directory}/server.key\n"
            "persistence false\nuser root\n"
        )
    program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    return subprocess.Popen([program, "-c", path], stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL, preexec_fn=die_with_parent)


class Printer(Replay):
    def __init__(self, args):
        self.report = f"device/{args.serial}/report"
        self.filters = [f"device/{args.serial}/request"]
        self.full = dict(FULL)
        self.signed = False
        self.deaf = False
        super().__init__(args)
        self.client.username_pw_set("bblp", args.code)
        self.client.tls_set(os.path.join(args.dir, "ca.pem"), tls_version=ssl.PROTOCOL_TLS_CLIENT)

    def push(self, changes, msg):
        if not self.silent:
            self.say(self.report, {"print": {"command": "push_status", "msg": msg, **changes}})

    def change(self, **changes):
        self.full.update(changes)
        self.push(changes, 1)

    def heard(self, topic, payload):
        try:
            request = json.loads(payload)
        except ValueError:
            return
        if not isinstance(request, dict):
            return
        for kind, body in request.items():
            command = body.get("command") if isinstance(body, dict) else None
            answer = {"command": command, "sequence_id": body.get("sequence_id", "0")}
            match kind, command:
                case "pushing", "pushall":
                    self.push(self.full, 0)
                case "info", "get_version":
                    module = [{"name": "ota", "sw_ver": "01.07.00.00", "hw_ver": "", "sn": ""}]
                    self.say(self.report, {"info": {**answer, "module": module}})
                case "print", ("stop" | "pause") if self.signed:
                    answer |= {"result": "failed", "reason": "mqtt message verify failed",
                               "err_code": 84033543}
                    self.say(self.report, {"print": answer})
                case "print", "pause":
                    self.say(self.report, {"print": answer | {"result": "success", "reason": ""}})
                    if not self.deaf and self.full["gcode_state"] == "RUNNING":
                        self.change(gcode_state="PAUSE", stg_cur=16)
                case "print", "stop":
                    self.say(self.report, {"print": answer | {"result": "success", "reason": ""}})
                    if not self.deaf and self.full["gcode_state"] in ("RUNNING", "PREPARE", "PAUSE"):
                        self.change(gcode_state="FAILED", stg_cur=-1, print_error=50348044)

    def typed(self, words):
        match words:
            case ["state", state, stage]:
                self.change(gcode_state=state, stg_cur=int(stage))
            case ["set", field, *value]:
                self.change(**{field: json.loads(" ".join(value))})
            case ["signed"]:
                self.signed = True
                self.change(fun=SIGNATURE)
            case ["deaf"]:
                self.deaf = True

    def quit(self):
        sys.exit(0)


def main():
    args = arguments(dir=(None, "folder for keys and configuration"),
                     serial=("01S00C123400001", "its serial number"),
                     code=("12345678", "its access code"))
    args.dir = os.path.abspath(args.dir or ".")
    certificates(args.dir, args.serial)
    process = broker(args.dir, args.port, args.code)
    try:
        printer = Printer(args)
        for attempt in range(100):
            try:
                printer.serve()
            except ConnectionRefusedError:
                if process.poll() is not None or attempt == 99:
                    raise
                time.sleep(0.1)
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
