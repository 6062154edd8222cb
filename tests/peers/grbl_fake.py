"""A GRBL 1.1 controller on a pseudo-terminal, made from the public interface description.

    grbl_fake.py [--link PATH] [--flavour grbl|grblhal|fluidnc] [--baud N]

Prints `ready PATH` (the terminal to open) and then takes one command per line on its standard
input, ending when that closes:

    run | jog | idle | hold | door | check | tool | sleep     the state, from now on
    dwell SECONDS     between two moves: Idle, then Run again
    home SECONDS      Home, silent all the while, then Idle
    alarm N           ALARM:N; after 1 and 2 silent until reset
    end               the program's end: [MSG:Pgm End] and Idle
    spindle RPM | feed RATE | pins LETTERS | say TEXT | cut    (cut: the next report is cut off)
    mute | unmute     answers nothing, as a board that hangs while its motors go on
    log               prints every byte received so far, as hex
    course            prints each change of the state that its reports gave, joined by commas:
                      the moment of the first such report (ms of CLOCK_BOOTTIME), the state

Liberties: no G-code is executed (every line is answered `ok`); holds and doors take 0.3 s whatever
the speed; the position advances by 1 mm a report while running; the work offset is sent every
tenth report in any state; opening the terminal resets nothing (`say` or 0x18 gives a banner).
Knows nothing of andon. Needs nothing but Python's standard library.
"""

import argparse
import os
import pty
import select
import sys
import time
import tty

BANNERS = {
    "grbl": "Grbl 1.1h ['$' for help]",
    "grblhal": "GrblHAL 1.1f ['$' or '$HELP' for help]",
    "fluidnc": "Grbl 3.7 [FluidNC v3.7.8 (wifi) '$' for help]",
}
BUILDS = {
    "grbl": ["[VER:1.1h.20190825:]", "[OPT:V,15,128]"],
    "grblhal": ["[VER:1.1f.20230606:]", "[OPT:VNMSL,35,1024,3,0]", "[FIRMWARE:grblHAL]"],
    "fluidnc": ["[VER:3.7 FluidNC v3.7.8:]", "[OPT:MPHS]"],
}
MOVING = ("Run", "Jog", "Home")
SLOWING = 0.3


class Controller:
    def __init__(self, master, flavour, baud):
        self.master, self.flavour, self.baud = master, flavour, baud
        self.state, self.then = "Idle", None  # then: (moment, state)
        self.silent, self.critical, self.locked = False, False, False
        self.x, self.feed, self.spindle, self.pins = 0.0, 0, 0, ""
        self.reports, self.cut, self.partial, self.received = 0, False, b"", b""
        self.course = []

    def send(self, text):
        """Paced as the line would be: ten bits a byte, in portions of eight bytes."""
        data = text.encode()
        for at in range(0, len(data), 8):
            part = data[at : at + 8]
            os.write(self.master, part)
            time.sleep(len(part) * 10 / self.baud)

    def line(self, text):
        self.send(text + "\r\n")

    def tick(self, now):
        if self.then and now >= self.then[0]:
            self.state, self.then, self.silent = self.then[1], None, False

    def change(self, state, after=None, then=None):
        self.state = state
        self.then = (time.monotonic() + after, then) if then else None

    def report(self):
        if self.silent or self.critical:
            return
        self.reports += 1
        if not self.course or self.course[-1][1] != self.state:
            moment = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
            self.course.append((moment, self.state))
        if self.state == "Run":
            self.x += 1
        feed = self.feed if self.state in MOVING else 0
        fields = [self.state, f"MPos:{self.x:.3f},0.000,0.000", f"FS:{feed},{self.spindle}"]
        if self.pins:
            fields.append(f"Pn:{self.pins}")
        if self.reports % 10 == 1:
            fields.append("WCO:0.000,0.000,0.000")
        elif self.reports % 10 == 2:
            fields.append("Ov:100,100,100" + ("|A:S" if self.spindle else ""))
        text = "<" + "|".join(fields) + ">"
        if self.cut:
            self.cut, text = False, text[: len(text) // 2]
        self.line(text)

    def reset(self):
        moved = self.state in MOVING
        self.silent, self.then, self.partial = False, None, b""
        if moved:
            self.line("ALARM:3")
        alarmed = moved or self.critical or self.state.startswith("Alarm")
        self.critical, self.spindle, self.reports = False, 0, 0
        self.state = "Alarm" if alarmed else "Idle"
        self.send("\r\n" + BANNERS[self.flavour] + "\r\n")
        if alarmed:
            self.line("[MSG:'$H'|'$X' to unlock]")

    def byte(self, byte):
        if byte == 0x18:
            self.reset()
        elif self.critical:
            return
        elif byte == ord("?"):
            self.report()
        elif byte == ord("!") and self.state in ("Run", "Jog", "Idle"):
            target = "Idle" if self.state == "Jog" else "Hold:0"
            self.change("Hold:1", SLOWING, target)
        elif byte == 0x84 and not self.state.startswith("Alarm"):
            self.spindle = 0
            self.change("Door:2", SLOWING, "Door:0")
        elif byte == ord("~") and self.state in ("Hold:0", "Door:0"):
            self.change("Run")
        elif byte == 0x87 and self.flavour == "grblhal":
            self.report()
        elif byte in b"\r\n":
            line, self.partial = self.partial, b""
            if line:
                self.command(line.decode("latin-1").strip())
        elif 0x20 <= byte < 0x7F and byte not in b"!~?":
            self.partial = (self.partial + bytes([byte]))[:256]

    def command(self, line):
        if line == "$I":
            if self.state not in ("Idle", "Alarm"):
                return self.line("error:8")
            for text in BUILDS[self.flavour]:
                self.line(text)
        elif line == "$X" and self.state == "Alarm":
            self.line("[MSG:Caution: Unlocked]")
            self.state = "Idle"
        elif self.state == "Alarm" and not line.startswith("$"):
            return self.line("error:9")
        self.line("ok")

    def told(self, words):
        word, rest = words[0], words[1:]
        states = {"run": "Run", "jog": "Jog", "idle": "Idle", "hold": "Hold:0", "door": "Door:0",
                  "check": "Check", "tool": "Tool", "sleep": "Sleep"}
        if word in states:
            self.change(states[word])
        elif word == "dwell":
            self.change("Idle", float(rest[0]), "Run")
        elif word == "home":
            self.change("Home", float(rest[0]), "Idle")
            self.report()
            self.silent = True
        elif word == "alarm":
            self.line(f"ALARM:{rest[0]}")
            self.change("Alarm")
            if rest[0] in ("1", "2"):
                self.critical = True
                self.line("[MSG:Reset to continue]")
        elif word == "end":
            self.line("[MSG:Pgm End]")
            self.change("Idle")
            self.spindle = 0
        elif word == "spindle":
            self.spindle = int(rest[0])
        elif word == "feed":
            self.feed = int(rest[0])
        elif word == "pins":
            self.pins = "".join(rest)
        elif word == "say":
            self.line(" ".join(rest))
        elif word == "cut":
            self.cut = True
        elif word in ("mute", "unmute"):
            self.silent = word == "mute"
        elif word == "log":
            print(self.received.hex(), flush=True)
        elif word == "course":
            print(",".join(f"{moment} {state}" for moment, state in self.course), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--link")
    parser.add_argument("--flavour", choices=sorted(BANNERS), default="grbl")
    parser.add_argument("--baud", type=int, default=115200)
    args = parser.parse_args()
    master, terminal = pty.openpty()
    tty.setraw(terminal)
    path = os.ttyname(terminal)
    if args.link:
        if os.path.islink(args.link):
            os.unlink(args.link)
        os.symlink(path, args.link)
        path = args.link
    controller = Controller(master, args.flavour, args.baud)
    print(f"ready {path}", flush=True)
    orders = b""
    while True:
        ready, _, _ = select.select([master, sys.stdin.fileno()], [], [], 0.05)
        controller.tick(time.monotonic())
        if master in ready:
            data = os.read(master, 4096)
            controller.received = (controller.received + data)[-65536:]
            for byte in data:
                controller.byte(byte)
        if sys.stdin.fileno() in ready:
            data = os.read(sys.stdin.fileno(), 4096)
            if not data:
                break
            orders += data
            while b"\n" in orders:
                order, orders = orders.split(b"\n", 1)
                words = order.decode().split()
                if words:
                    controller.told(words)


if __name__ == "__main__":
    main()
