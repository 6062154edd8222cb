"""A Haas control's data collection over TCP, made from the public pages of the manufacturer.

    haas_fake.py [--port N]

Prints `ready PORT` and then takes one order per line on its standard input, ending when that
closes:

    idle | hold | alarm | busy     what Q500 says
    mode WORDS | program NAME | parts N | tool N | spindle RPM
    comma yes|no      whether busy is `STATUS, BUSY` or `STATUS BUSY`
    mute N            leaves the next N questions unanswered
    say TEXT          a line to everybody, as a program's print or somebody's answer
    log               prints every line received so far, one JSON list

At most two connections, as the control; every answer goes to all of them. The very first question
of a connection goes unanswered. Answers stand between STX and ETB, then CR LF and a prompt.
Liberties: unknown queries are answered by silence; E commands are logged and change nothing; times
stand still; Q600 knows the variable 3027 alone. Knows nothing of andon. Standard library only.
"""

import argparse
import json
import os
import select
import socket
import sys


class Control:
    def __init__(self):
        self.state, self.mode, self.program = "IDLE", "(MDI)", "O01234"
        self.parts, self.tool, self.spindle, self.comma, self.mute = 4380, 5, 0.0, ", ", 0

    def answer(self, query):
        if query == "?Q500":
            if self.state == "BUSY":
                return f"STATUS{self.comma}BUSY"
            return f"PROGRAM, {self.program}, {self.state}, PARTS, {self.parts}"
        return {
            "?Q100": "SERIAL NUMBER, 1234567",
            "?Q101": "SOFTWARE VERSION, 100.16.000.1031",
            "?Q102": "MODEL, CSMD-G2",
            "?Q104": f"MODE, {self.mode}",
            "?Q201": f"USING TOOL, {self.tool}",
            "?Q300": "P.O. TIME, 06282:17:13",
            "?Q301": "C.S. TIME, 00098:18:29",
            "?Q402": f"M30 #1, {self.parts}",
            "?Q600 3027": f"MACRO, 3027, {self.spindle:.6f}",
        }.get(query)

    def told(self, word, rest):
        states = {"idle": "IDLE", "hold": "FEED HOLD", "alarm": "ALARM ON", "busy": "BUSY"}
        if word in states:
            self.state = states[word]
        elif word in ("mode", "program"):
            setattr(self, word, rest)
        elif word in ("parts", "tool", "mute"):
            setattr(self, word, int(rest))
        elif word == "spindle":
            self.spindle = float(rest)
        elif word == "comma":
            self.comma = ", " if rest == "yes" else " "


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    args = parser.parse_args()
    listener = socket.create_server(("127.0.0.1", args.port))
    print(f"ready {listener.getsockname()[1]}", flush=True)
    control, peers, log, orders = Control(), {}, [], b""

    def everybody(text):
        for peer in list(peers):
            try:
                peer.sendall(b"\x02" + text.encode() + b"\x17\r\n>")
            except OSError:
                peers.pop(peer).clear()

    while True:
        ready, _, _ = select.select([listener, sys.stdin.fileno(), *peers], [], [])
        for source in ready:
            if source is listener:
                peer, _ = listener.accept()
                if len(peers) < 2:
                    peers[peer] = [b"", False]  # what it has begun to ask; whether it has asked yet
                else:
                    peer.close()
            elif source == sys.stdin.fileno():
                data = os.read(source, 4096)
                if not data:
                    return
                orders += data
                while b"\n" in orders:
                    order, orders = orders.split(b"\n", 1)
                    word, _, rest = order.decode().partition(" ")
                    if word == "say":
                        everybody(rest)
                    elif word == "log":
                        print(json.dumps(log), flush=True)
                    else:
                        control.told(word, rest)
            elif source in peers:
                try:
                    data = source.recv(4096)
                except OSError:
                    data = b""
                if not data:
                    del peers[source]
                    source.close()
                    continue
                begun, asked = peers[source]
                begun = (begun + data.replace(b"\r", b"\n"))[-1024:]
                while b"\n" in begun:
                    line, begun = begun.split(b"\n", 1)
                    query = line.decode("latin-1").strip()
                    if not query:
                        continue
                    log = (log + [query])[-1000:]
                    reply = control.answer(query) if asked else None
                    asked = True
                    if control.mute > 0:
                        control.mute -= 1
                    elif reply is not None:
                        everybody(reply)
                if source in peers:
                    peers[source] = [begun, asked]


if __name__ == "__main__":
    main()
