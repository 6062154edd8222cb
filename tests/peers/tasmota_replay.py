"""A Tasmota plug with a power meter, at a broker.

    tasmota_replay.py --port PORT [--topic plug-saw] [--channels 1]

stdin: `power 1200`, and what every replay knows (mqtt_replay.py); `stuck`: its relays accept OFF and
stay as they are.

Facts: Tasmota's documentation of MQTT, of Status 8, 10 and 11, and of its discovery.
Liberties: voltage is fixed; current and factor follow from power; energy grows by power times the
time since it was last asked; TelePeriod is off, so it speaks only when it is asked or switched;
`Time` is fixed; of `STATE` only the fields in use are there; commands beside POWER and STATUS are
not known.
"""

import time

from mqtt_replay import Replay, arguments

VOLTAGE = 230


class Plug(Replay):
    def __init__(self, args):
        self.topic = args.topic
        self.filters = [f"cmnd/{self.topic}/#"]
        self.will = (f"tele/{self.topic}/LWT", "Offline")
        self.relays = [True] * args.channels
        self.power = 5.0
        self.kwh = 3.705
        self.at = time.monotonic()
        super().__init__(args)

    def born(self):
        self.say(f"tele/{self.topic}/LWT", "Online", retain=True)
        config = {
            "ip": "127.0.0.1", "dn": self.topic, "fn": [self.topic], "hn": self.topic,
            "mac": "5CCF7F49A3BC", "md": "Generic", "ofln": "Offline", "onln": "Online",
            "state": ["OFF", "ON", "TOGGLE", "HOLD"], "sw": "13.4.0", "t": self.topic,
            "ft": "%prefix%/%topic%/", "tp": ["cmnd", "stat", "tele"],
            "rl": [1] * len(self.relays) + [0] * (8 - len(self.relays)), "ver": 1,
        }
        self.say("tasmota/discovery/5CCF7F49A3BC/config", config, retain=True)
        sensors = {"sn": self.sensors(), "ver": 1}
        self.say("tasmota/discovery/5CCF7F49A3BC/sensors", sensors, retain=True)

    def name(self, channel):
        return "POWER" if len(self.relays) == 1 else f"POWER{channel + 1}"

    def word(self, channel):
        return "ON" if self.relays[channel] else "OFF"

    def sensors(self):
        now = time.monotonic()
        power = self.power if any(self.relays) else 0.0
        self.kwh += power * (now - self.at) / 3_600_000
        self.at = now
        return {
            "Time": "2022-01-11T21:57:38",
            "ENERGY": {
                "TotalStartTime": "2020-10-21T22:15:00", "Total": round(self.kwh, 3),
                "Yesterday": 0.028, "Today": 0.026, "Power": power, "ApparentPower": power,
                "ReactivePower": 0, "Factor": 1.0, "Voltage": VOLTAGE,
                "Current": round(power / VOLTAGE, 3),
            },
        }

    def state(self):
        relays = {self.name(n): self.word(n) for n in range(len(self.relays))}
        return {"Time": "2022-01-11T21:57:38", "UptimeSec": 11, **relays,
                "Wifi": {"AP": 1, "RSSI": 30, "Signal": -85}}

    def heard(self, topic, payload):
        command = topic.rsplit("/", 1)[-1].upper()
        if command == "STATUS" and payload in ("8", "10"):
            self.say(f"stat/{self.topic}/STATUS{payload}", {"StatusSNS": self.sensors()})
        elif command == "STATUS" and payload == "11":
            self.say(f"stat/{self.topic}/STATUS11", {"StatusSTS": self.state()})
        elif command.startswith("POWER"):
            number = int(command[5:] or 1)
            all_of_them = range(len(self.relays)) if number == 0 else [number - 1]
            for channel in all_of_them:
                self.switch(channel, payload.upper())

    def switch(self, channel, word):
        self.sensors()
        if word in ("ON", "OFF") and not self.stuck:
            self.relays[channel] = word == "ON"
        shown = word if self.stuck and word else self.word(channel)
        self.say(f"stat/{self.topic}/RESULT", {self.name(channel): shown})
        self.say(f"stat/{self.topic}/{self.name(channel)}", shown)

    def typed(self, words):
        match words:
            case ["power", watts]:
                self.sensors()
                self.power = float(watts)


if __name__ == "__main__":
    Plug(arguments(topic=("plug-saw", "its topic"), channels=(1, "its relays"))).serve()
