"""OctoPrint's virtual printer, a real program's idea of Marlin, on a pseudo-terminal.

    marlin_virtual.py [--link PATH] [--folder FOLDER] [--set KEY=JSON]...

Needs `pip install octoprint` (1.11). Prints `ready PATH` (the terminal to open), then takes one
order per line on its standard input, ending when that closes:

    gcode LINE        a line as from another host: heating, moves, `M23 NAME` and `M24`, `M25`
    debug WORDS       what the virtual printer takes behind `!!DEBUG:`: `action_pause`,
                      `trigger_fatal_error_marlin`, `go_awol`, `send TEXT`, `reset` …
    card NAME LINES   writes a file of so many moves on the card, a few dozen a second; NAME longer than 8.3

--set changes the virtual printer's own settings: --set numExtruders=2 --set sendBusy=true.
Liberties: the bytes are not paced; opening the terminal does not reset the printer (`debug reset`
does), and an `ok` for each `gcode` order comes back too; M524 without a print on the card kills its reading thread, so it is not to be sent then.
This file only joins that program to a terminal and gives it settings; it knows nothing of andon.
"""

import argparse
import json
import os
import pty
import select
import sys
import tempfile
import threading
import tty

from octoprint.plugin import plugin_manager
from octoprint.plugins.virtual_printer import VirtualPrinterPlugin
from octoprint.plugins.virtual_printer.virtual import VirtualPrinter
from serial import SerialTimeoutException


class Settings:
    """As much of OctoPrint's settings as the virtual printer asks for."""

    def __init__(self, values, folder):
        self.values, self.folder = values, folder

    def get(self, path, merged=False):
        value = self.values
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        return value

    def get_int(self, path):
        return int(self.get(path) or 0)

    def get_float(self, path):
        return float(self.get(path) or 0)

    def get_boolean(self, path):
        return bool(self.get(path))

    def global_get_basefolder(self, _name):
        return self.folder


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--link")
    parser.add_argument("--folder")
    parser.add_argument("--set", action="append", default=[])
    args = parser.parse_args()
    folder = args.folder or tempfile.mkdtemp(prefix="marlin-")
    card = os.path.join(folder, "card")
    os.makedirs(card, exist_ok=True)
    values = VirtualPrinterPlugin().get_settings_defaults()
    for change in args.set:
        key, value = change.split("=", 1)
        values[key] = json.loads(value)
    plugin_manager(init=True, plugin_folders=[], plugin_entry_points=[])
    printer = VirtualPrinter(Settings(values, card), None, data_folder=folder, read_timeout=0.5)

    master, terminal = pty.openpty()
    tty.setraw(terminal)
    path = os.ttyname(terminal)
    if args.link:
        if os.path.islink(args.link):
            os.unlink(args.link)
        os.symlink(path, args.link)
        path = args.link

    def speak():
        while printer.outgoing is not None:
            line = printer.readline()
            if line:
                os.write(master, line if line.endswith(b"\n") else line + b"\n")

    threading.Thread(target=speak, daemon=True).start()
    print(f"ready {path}", flush=True)
    heard, orders = b"", b""
    while True:
        ready, _, _ = select.select([master, sys.stdin.fileno()], [], [])
        if master in ready:
            heard += os.read(master, 4096)
            while b"\n" in heard:
                line, heard = heard.split(b"\n", 1)
                try:
                    printer.write(line + b"\n")
                except SerialTimeoutException:
                    print("the virtual printer no longer reads", file=sys.stderr)
                    os._exit(1)
            heard = heard[-4096:]
        if sys.stdin.fileno() in ready:
            data = os.read(sys.stdin.fileno(), 4096)
            if not data:
                break
            orders += data
            while b"\n" in orders:
                order, orders = orders.split(b"\n", 1)
                word, _, rest = order.decode().partition(" ")
                if word == "gcode":
                    printer.write(rest.encode() + b"\n")
                elif word == "debug":
                    printer.write(b"!!DEBUG:" + rest.encode() + b"\n")
                elif word == "card":
                    name, lines = rest.split()
                    with open(os.path.join(card, name), "w", encoding="ascii") as file:
                        for _ in range(int(lines)):
                            file.write("G1 X20 F600\n")
    printer.close()
    os._exit(0)


if __name__ == "__main__":
    main()
