"""What the replays of devices behind a broker have in common: a paho client, a command line.

Every replay serves until it is killed, prints "ready" when it is subscribed, and obeys lines on
stdin: those that it names itself, and `silent` (hears and answers nothing more, its will is not
sent), `speak`, `stuck` (what it switches accepts and stays as it is), `free`, `quit` (leaves without
a good-bye: the broker sends its will). It knows nothing of andon.
"""

import argparse
import json
import os
import sys
import threading

import paho.mqtt.client as mqtt


def arguments(**extra):
    """--host, --port, and whatever else a replay needs: name=(default, help)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    for name, (default, words) in extra.items():
        kind = type(default) if default is not None else str
        parser.add_argument(f"--{name}", type=kind, default=default, help=words)
    return parser.parse_args()


class Replay:
    """A device at a broker. A subclass has `filters`, `will` and `heard(topic, payload)`."""

    filters = []
    will = None
    silent = False
    stuck = False

    def __init__(self, args):
        self.args = args
        self.lock = threading.RLock()
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        if self.will:
            topic, payload = self.will
            self.client.will_set(topic, payload, qos=1, retain=True)
        self.client.on_connect = self.connected
        self.client.on_message = self.message

    def connected(self, client, userdata, flags, reason, properties):
        for topic in self.filters:
            client.subscribe(topic, qos=1)
        with self.lock:
            self.born()
        print("ready", flush=True)

    def message(self, client, userdata, message):
        with self.lock:
            if not self.silent:
                self.heard(message.topic, message.payload.decode("utf-8", "replace"))

    def say(self, topic, payload, retain=False):
        if not isinstance(payload, str):
            payload = json.dumps(payload, separators=(",", ":"))
        self.client.publish(topic, payload, qos=0, retain=retain)

    def born(self):
        """Called when connected."""

    def typed(self, words):
        """A line on stdin that is this replay's own, split into words."""

    def quit(self):
        """Leaves without a good-bye."""
        os._exit(0)

    def told(self, words):
        """Any line on stdin."""
        match words:
            case ["silent" | "speak"]:
                self.silent = words[0] == "silent"
            case ["stuck" | "free"]:
                self.stuck = words[0] == "stuck"
            case ["quit"]:
                self.quit()
            case _:
                self.typed(words)

    def serve(self):
        self.client.connect(self.args.host, self.args.port, keepalive=15)
        self.client.loop_start()
        for line in sys.stdin:
            if line.split():
                with self.lock:
                    self.told(line.split())
        threading.Event().wait()
