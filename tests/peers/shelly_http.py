"""A Shelly of the second generation over HTTP that wants its password: digest, SHA-256, user admin.

    shelly_http.py --password WORD [--port 0] [--uses 3]

Prints `listening PORT`. A nonce is good for `--uses` requests; then the next request is refused with a
fresh one, as the device does when a nonce has grown old. stdin: `power 73.2`, `stuck` (accepts
Switch.Set and stays as it is), `asked` (prints how many requests were answered, and how many nonces
were given out), `quit`.

Facts: RFC 7616 and Shelly's API documentation of authentication, of RPC over HTTP and of the Switch
component. Liberties: nonces expire by count, so that no test has to wait; only Shelly.GetStatus and
Switch.Set are known; energy stands still. Knows nothing of andon. Standard library only.
"""

import argparse
import hashlib
import json
import re
import secrets
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REALM = "shellyplus1pm-a8032ab12345"


def sha(*parts):
    return hashlib.sha256(":".join(parts).encode()).hexdigest()


class Plug:
    def __init__(self, password, uses):
        self.password, self.uses = password, uses
        self.nonce, self.counts, self.nonces, self.answered = None, set(), 0, 0
        self.on, self.watts, self.stuck = True, 73.2, False

    def challenge(self):
        self.nonce, self.counts = secrets.token_hex(8), set()
        self.nonces += 1
        return (f'Digest qop="auth", realm="{REALM}", nonce="{self.nonce}", algorithm=SHA-256')

    def is_allowed(self, method, path, header):
        """Whether this answers the challenge; a count of a nonce is good once."""
        fields = {name: quoted or bare for name, quoted, bare in
                  re.findall(r'(\w+)=(?:"([^"]*)"|([^,\s]+))', header or "")}
        count = fields.get("nc", "")
        if (not self.nonce or fields.get("nonce") != self.nonce or fields.get("username") != "admin"
                or fields.get("uri") != path or count in self.counts
                or len(self.counts) >= self.uses):
            return False
        expected = sha(sha("admin", REALM, self.password), self.nonce, count,
                       fields.get("cnonce", ""), "auth", sha(method, path))
        self.counts.add(count)
        return secrets.compare_digest(expected, fields.get("response", ""))

    def switch(self):
        watts = self.watts if self.on else 0.0
        return {"id": 0, "source": "http", "output": self.on, "apower": watts, "voltage": 235.0,
                "freq": 50.0, "current": round(watts / 235, 3), "pf": 1.0,
                "aenergy": {"total": 2067.124}, "ret_aenergy": {"total": 0.0},
                "temperature": {"tC": 38.7, "tF": 101.6}}

    def call(self, path, body):
        self.answered += 1
        if path == "/rpc/Shelly.GetStatus":
            return 200, {"switch:0": self.switch(), "wifi": {"status": "got ip", "rssi": -53}}
        if path == "/rpc/Switch.Set":
            was_on, on = self.on, json.loads(body)["on"]
            self.on = self.on if self.stuck else on
            return 200, {"was_on": was_on}
        return 404, {"code": 404, "message": f"No handler for {path[5:]}"}


def handler(plug, lock):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            with lock:
                if plug.is_allowed(self.command, self.path, self.headers.get("Authorization")):
                    status, said = plug.call(self.path, body)
                    fresh = None
                else:
                    status, said, fresh = 401, None, plug.challenge()
            payload = json.dumps(said).encode() if said is not None else b""
            self.send_response(status)
            if fresh:
                self.send_header("WWW-Authenticate", fresh)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        do_GET = do_POST = answer

        def log_message(self, *_):
            pass

    return Handler


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--password", required=True)
    parser.add_argument("--uses", type=int, default=3)
    args = parser.parse_args()
    plug, lock = Plug(args.password, args.uses), threading.Lock()
    server = ThreadingHTTPServer(("127.0.0.1", args.port), handler(plug, lock))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"listening {server.server_port}", flush=True)
    for line in sys.stdin:
        with lock:
            match line.split():
                case ["power", watts]:
                    plug.watts = float(watts)
                case ["stuck"]:
                    plug.stuck = True
                case ["asked"]:
                    print(f"answered {plug.answered} nonces {plug.nonces}", flush=True)
                case ["quit"]:
                    break
    server.shutdown()


if __name__ == "__main__":
    main()
