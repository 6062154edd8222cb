"""What the fakes of HTTP devices share: a server on 127.0.0.1, commands on stdin, a log of requests.

A fake gives `serve` a function `handle(method, path, query, headers) -> (status, headers, body)` and
one `command(words) -> answer`. A body that is an iterator is sent part by part as they come, outside of
the lock, until it ends or nobody reads. Prints `listening PORT` first (port 0 picks a free one). Commands that
every fake knows: `requests` (how many so far), `mute` (accepts and never answers), `loud`,
`garble` (answers every request with rubbish), `quit`.
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit


def serve(port, handle, command):
    """Serves until `quit` or the end of stdin."""
    state = {"mute": False, "garble": False, "requests": 0}
    lock = threading.Lock()
    unmuted = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self):
            """Answers one request; one at a time, as the small servers of printers do."""
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if state["mute"]:
                unmuted.wait()
                self.close_connection = True
                return
            address = urlsplit(self.path)
            with lock:
                state["requests"] += 1
                status, headers, body = handle(
                    self.command, address.path, dict(parse_qsl(address.query)), self.headers)
            if state["garble"]:
                body = b"\x00<garbled>"
            if hasattr(body, "__next__"):
                self.go_on(status, headers, body)
                return
            if not isinstance(body, bytes):
                headers = {"Content-Type": "application/json", **headers}
                body = b"" if body is None else json.dumps(body).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if status != 204:
                self.wfile.write(body)

        def go_on(self, status, headers, parts):
            """An answer that has no end of its own."""
            self.close_connection = True
            self.send_response(status)
            for name, value in {**headers, "Transfer-Encoding": "chunked"}.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                for part in parts:
                    if state["mute"]:
                        unmuted.wait()
                        return
                    if state["garble"]:
                        part = b"\x00<garbled>"
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part))
                self.wfile.write(b"0\r\n\r\n")
            except OSError:
                pass

        do_GET = do_POST = do_PUT = do_DELETE = answer

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"listening {server.server_port}", flush=True)
    for line in sys.stdin:
        words = line.split()
        if not words:
            continue
        if words[0] == "quit":
            break
        try:
            with lock:
                if words[0] == "requests":
                    reply = str(state["requests"])
                elif words[0] in ("mute", "garble"):
                    state[words[0]], reply = True, "ok"
                    unmuted.clear()
                elif words[0] == "loud":
                    state.update(mute=False, garble=False)
                    unmuted.set()
                    reply = "ok"
                else:
                    reply = command(words) or "ok"
        except (KeyError, ValueError, IndexError) as wrong:
            reply = f"no: {wrong!r}"
        print(reply, flush=True)
    server.shutdown()
