"""A Haas control's data collection, made from the public pages of the manufacturer: over TCP, or on a
pseudo-terminal as an older control's RS-232 port.

    haas_fake.py [--port N | --link PATH [--baud N]]

Prints `ready PORT` or `ready PATH` and then takes one order per line on its standard input, ending when that
closes:

    idle | hold | alarm | busy     what Q500 says
    mode WORDS | program NAME | parts N | tool N | spindle RPM
    comma yes|no      whether busy is `STATUS, BUSY` or `STATUS BUSY`
    mute N            leaves the next N questions unanswered
    say TEXT          a line to everybody, as a program's print or somebody's answer
    log               prints every line received so far, one JSON list
    xoff MS           on the terminal: XOFF in the middle of every answer, and XON so much after its end
    late              prints how many bytes came between an XOFF and its XON

At most two connections, as the control; every answer goes to all of them. The very first question
of a connection goes unanswered, on the terminal the very first of all. Answers stand between STX and ETB, then CR LF and a prompt.
Liberties: unknown queries are answered by silence; E commands are logged and change nothing; times
stand still; Q600 knows the variable 3027 alone. On the terminal answers are paced as the line would be,
ten bits a byte; parity and 7 bits are not there, because a pseudo-terminal carries whole characters; it
obeys no XOFF itself. Knows nothing of andon. Standard library only.
"""

import argparse
import json
import os
import pty
import select
import socket
import sys
import time
import tty

XON, XOFF = b"\x11", b"\x13"
SETTLING = 0.02  # what was on its way when XOFF was sent may still come


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


def whole(begun):
    """The lines that are whole, and what has begun after them."""
    *lines, begun = begun.replace(b"\r", b"\n").split(b"\n")
    return [line.decode("latin-1").strip() for line in lines], begun[-1024:]


def obey(order, control, log, say):
    """An order of stdin."""
    word, _, rest = order.partition(" ")
    if word == "say":
        say(rest)
    elif word == "log":
        print(json.dumps(log), flush=True)
    else:
        control.told(word, rest)


class Line:
    """The RS-232 port: one terminal, its pace, and who may speak on it."""

    def __init__(self, link, baud):
        self.master, self.terminal = pty.openpty()
        tty.setraw(self.terminal)
        os.symlink(os.ttyname(self.terminal), link)
        self.baud, self.xoff, self.late, self.begun, self.asked = baud, None, 0, b"", False

    def send(self, data):
        for byte in data:
            os.write(self.master, bytes([byte]))
            time.sleep(10 / self.baud)

    def answer(self, text):
        data = b"\x02" + text.encode() + b"\x17\r\n>"
        if self.xoff is None:
            return self.send(data)
        self.send(data[: len(data) // 2] + XOFF)
        time.sleep(SETTLING)
        early = self.pending()
        self.send(data[len(data) // 2 :])
        time.sleep(self.xoff)
        after = self.pending()
        self.late += len(after)
        self.begun += early + after
        self.send(XON)

    def pending(self):
        """What has come until now."""
        ready, _, _ = select.select([self.master], [], [], 0)
        return os.read(self.master, 4096) if ready else b""


def on_a_line(link, baud):
    """Serves one terminal."""
    line, control, log, orders = Line(link, baud), Control(), [], b""
    print(f"ready {link}", flush=True)
    while True:
        ready, _, _ = select.select([line.master, sys.stdin.fileno()], [], [])
        if sys.stdin.fileno() in ready:
            data = os.read(sys.stdin.fileno(), 4096)
            if not data:
                return
            typed, orders = whole(orders + data)
            for order in typed:
                if order.startswith("xoff "):
                    line.xoff = int(order[5:]) / 1000
                elif order == "late":
                    print(line.late, flush=True)
                else:
                    obey(order, control, log, line.answer)
        if line.master in ready:
            line.begun += os.read(line.master, 4096)
        queries = [""]
        while queries:  # what comes during an answer has begun behind it
            queries, line.begun = whole(line.begun)
            for query in filter(None, queries):
                log.append(query)
                del log[:-1000]
                reply = control.answer(query if query.startswith("?") else "?" + query)
                if control.mute > 0:
                    control.mute -= 1
                elif reply is not None and line.asked:
                    line.answer(reply)
                line.asked = True


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--link")
    parser.add_argument("--baud", type=int, default=19200)
    args = parser.parse_args()
    if args.link:
        return on_a_line(args.link, args.baud)
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
                typed, orders = whole(orders + data)
                for order in typed:
                    obey(order, control, log, everybody)
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
                queries, begun = whole(begun + data)
                for query in filter(None, queries):
                    log.append(query)
                    del log[:-1000]
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
