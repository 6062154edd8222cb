"""A Shelly 1PM of the first generation, at a broker.

    shelly_gen1_replay.py --port PORT [--id shelly1pm-A4CF12F45A10]

stdin: `power 36.5`, and what every replay knows (mqtt_replay.py); `stuck` accepts `off` and stays on.

Facts: Shelly's Gen1 API documentation of MQTT: topics, `command` with `update` and `announce`,
`relay/0/energy` in watt-minutes. Liberties: its temperature is fixed; it publishes everything when it
is asked or switched, and not by itself every 30 seconds; other commands are not known.
"""

import time

from mqtt_replay import Replay, arguments


class Shelly(Replay):
    def __init__(self, args):
        self.base = f"shellies/{args.id}"
        self.id = args.id
        self.filters = ["shellies/command", f"{self.base}/command", f"{self.base}/relay/0/command"]
        self.will = (f"{self.base}/online", "false")
        self.on = True
        self.watts = 36.5
        self.watt_minutes = 6000.0
        self.at = time.monotonic()
        super().__init__(args)

    def born(self):
        self.say(f"{self.base}/online", "true", retain=True)
        self.announce()

    def announce(self):
        self.say("shellies/announce", {
            "id": self.id, "model": "SHSW-PM", "mac": "A4CF12F45A10", "ip": "127.0.0.1",
            "new_fw": False, "fw_ver": "20230913-112003/v1.14.0-gcb84623",
        })

    def update(self):
        now = time.monotonic()
        watts = self.watts if self.on else 0.0
        self.watt_minutes += watts * (now - self.at) / 60
        self.at = now
        self.say(f"{self.base}/relay/0", "on" if self.on else "off")
        self.say(f"{self.base}/relay/0/power", f"{watts:.2f}")
        self.say(f"{self.base}/relay/0/energy", str(int(self.watt_minutes)))
        self.say(f"{self.base}/temperature", "41.50")

    def heard(self, topic, payload):
        if topic.endswith("/relay/0/command"):
            if payload in ("on", "off") and not self.stuck:
                self.update()
                self.on = payload == "on"
            self.update()
        elif payload == "update":
            self.update()
        elif payload == "announce":
            self.announce()

    def typed(self, words):
        match words:
            case ["power", watts]:
                self.watts = float(watts)


if __name__ == "__main__":
    Shelly(arguments(id=("shelly1pm-A4CF12F45A10", "its id"))).serve()
