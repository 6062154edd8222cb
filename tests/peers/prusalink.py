"""A fake of PrusaLink (interface version 1), written from its OpenAPI description.

    prusalink.py [PORT]     commands on stdin; see fake_http.py for what every fake knows

User `maker`, password `secret`, by HTTP digest (RFC 7616, MD5, qop=auth); or `X-Api-Key: secret`.

Its liberties: nothing moves or heats by itself; a job pauses and stops at once unless `slow` was
said; the realm, the nonces and their life are invented (a nonce is good for NONCE_USES requests, then
the answer is 401 with `stale=true`); of the status only the documented fields are sent.

Commands: `print NAME`, `state WORD` (any of the documented words), `nozzle ACTUAL TARGET`,
`progress PERCENT`, `slow` / `fast` (a stop takes effect only at `settle`), `settle`, `bare` (a status
with nothing but the state), `job` (answers the job's number), `expire` (all nonces).
"""

import hashlib
import re
import secrets
import sys

from fake_http import serve

USER, PASSWORD, REALM = "maker", "secret", "Printer API"
NONCE_USES = 20


class Printer:
    """The printer and its nonces."""

    def __init__(self):
        self.state, self.file, self.job, self.progress = "IDLE", None, 419, 0.0
        self.nozzle, self.bare, self.slow, self.wanted = (23.5, 0.0), False, False, None
        self.nonces = {}

    def permitted(self, method, headers, path):
        """Whether the credentials are right; else the challenge's stale flag is to be read."""
        if headers.get("X-Api-Key") == PASSWORD:
            return True
        given = headers.get("Authorization") or ""
        fields = {name: quoted or plain for name, quoted, plain in
                  re.findall(r'(\w+)=(?:"([^"]*)"|([^\s,]+))', given)}
        nonce = fields.get("nonce")
        if not given.startswith("Digest ") or fields.get("username") != USER:
            return None
        if self.nonces.get(nonce, 0) <= 0:
            return False
        md5 = lambda text: hashlib.md5(text.encode()).hexdigest()
        secret = md5(f"{USER}:{REALM}:{PASSWORD}")
        request = md5(f"{method}:{fields.get('uri', '')}")
        expected = md5(":".join([secret, nonce, fields.get("nc", ""), fields.get("cnonce", ""),
                                 fields.get("qop", ""), request]))
        if fields.get("response") != expected or not fields.get("uri", "").startswith(path):
            return None
        self.nonces[nonce] -= 1
        return True

    def challenge(self, stale):
        """401 with a fresh nonce."""
        nonce = secrets.token_hex(16)
        self.nonces = dict(list(self.nonces.items())[-15:])
        self.nonces[nonce] = NONCE_USES
        words = f'Digest realm="{REALM}", nonce="{nonce}", qop="auth", algorithm=MD5'
        words += ", stale=true" if stale else ""
        return 401, {"WWW-Authenticate": words}, {"title": "401", "text": "Unauthorized"}

    def handle(self, method, path, _query, headers):
        """One request."""
        permitted = self.permitted(method, headers, path)
        if not permitted:
            return self.challenge(stale=permitted is False)
        if (method, path) == ("GET", "/api/version"):
            return 200, {}, {"api": "1.0.0", "version": "0.7.0", "printer": "1.3.1",
                             "text": "PrusaLink 0.7.0", "firmware": "3.10.1-4697"}
        if (method, path) == ("GET", "/api/v1/status"):
            return 200, {}, self.status()
        if (method, path) == ("GET", "/api/v1/job"):
            return (200, {}, self.whole_job()) if self.file else (204, {}, None)
        order = re.fullmatch(r"/api/v1/job/(\d+)(/pause|/resume)?", path)
        if not order or (method == "DELETE") != (order[2] is None) or method == "GET":
            return 404, {}, {"title": "404", "text": "Not found"}
        if not self.file or int(order[1]) != self.job:
            return 404, {}, {"title": "404", "text": "No such job"}
        wanted = {None: "STOPPED", "/pause": "PAUSED", "/resume": "PRINTING"}[order[2]]
        if self.state not in ("PRINTING", "PAUSED", "ATTENTION") or self.state == wanted:
            return 409, {}, {"title": "409", "text": "Conflict"}
        self.wanted = wanted
        if not self.slow:
            self.settle()
        return 204, {}, None

    def settle(self):
        """The wanted state comes about."""
        self.state, self.wanted = self.wanted or self.state, None
        if self.state == "STOPPED":
            self.file = None

    def times(self):
        """What a status and a job both tell of the job."""
        return {"id": self.job, "progress": self.progress, "time_printing": 526,
                "time_remaining": 520}

    def whole_job(self):
        """The body of /api/v1/job."""
        return {**self.times(), "state": "PRINTING" if self.state == "BUSY" else self.state,
                "file": {"name": "SPICE~1.GCO", "display_name": self.file, "path": "/local",
                         "m_timestamp": 1648042843}}

    def status(self):
        """The body of /api/v1/status."""
        if self.bare:
            return {"printer": {"state": self.state}}
        printer = {"state": self.state, "temp_nozzle": self.nozzle[0],
                   "target_nozzle": self.nozzle[1], "temp_bed": 24.0, "target_bed": 0.0,
                   "axis_z": 0.2, "flow": 95, "speed": 100, "fan_hotend": 0, "fan_print": 0}
        return {"printer": printer, **({"job": self.times()} if self.file else {}),
                "storage": {"name": "LOCAL", "path": "/local", "read_only": False}}

    def command(self, words):
        """One command of stdin."""
        word, rest = words[0], words[1:]
        if word == "print":
            self.job, self.file, self.state, self.progress = self.job + 1, rest[0], "PRINTING", 0.0
        elif word == "state":
            self.state = rest[0]
        elif word == "nozzle":
            self.nozzle = float(rest[0]), float(rest[1])
        elif word == "progress":
            self.progress = float(rest[0])
        elif word in ("slow", "fast"):
            self.slow = word == "slow"
        elif word == "settle":
            self.settle()
        elif word == "bare":
            self.bare = True
        elif word == "job":
            return str(self.job)
        elif word == "expire":
            self.nonces.clear()
        else:
            raise KeyError(word)
        return "ok"


if __name__ == "__main__":
    printer = Printer()
    serve(int(sys.argv[1]) if len(sys.argv) > 1 else 0, printer.handle, printer.command)
