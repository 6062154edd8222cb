"""A Shelly of the second generation with one metered relay, at a broker.

    shelly_replay.py --port PORT [--prefix shellyplus1pm-a8032ab12345]

stdin: `power 73.2` (notified when it differs by more than 5 % and 10 W, else silent), and what every
replay knows (mqtt_replay.py); `stuck` accepts Switch.Set and stays as it is.

Facts: Shelly's API documentation of MQTT, the RPC protocol, notifications and the Switch component.
Liberties: only Shelly.GetStatus, Switch.GetStatus and Switch.Set are known, others are answered
with error 404; voltage, frequency and temperature are fixed; energy grows by power times time;
generic status updates are off, as the firmware has them.
"""

import json
import time

from mqtt_replay import Replay, arguments


class Shelly(Replay):
    def __init__(self, args):
        self.prefix = args.prefix
        self.filters = [f"{self.prefix}/rpc"]
        self.will = (f"{self.prefix}/online", "false")
        self.output = True
        self.watts = 73.2
        self.notified = self.watts
        self.wh = 2067.124
        self.at = time.monotonic()
        super().__init__(args)

    def born(self):
        self.say(f"{self.prefix}/online", "true", retain=True)

    def switch(self):
        now = time.monotonic()
        watts = self.watts if self.output else 0.0
        self.wh += watts * (now - self.at) / 3600
        self.at = now
        return {
            "id": 0, "source": "MQTT", "output": self.output, "apower": watts, "voltage": 235.0,
            "freq": 50.0, "current": round(watts / 235.0, 3), "pf": 1.0 if watts else 0.0,
            "aenergy": {"total": round(self.wh, 3), "by_minute": [0.0, 0.0, 0.0]},
            "ret_aenergy": {"total": 0.0}, "temperature": {"tC": 38.7, "tF": 101.6},
        }

    def status(self):
        return {
            "cloud": {"connected": False}, "mqtt": {"connected": True}, "switch:0": self.switch(),
            "sys": {"mac": "A8032AB12345", "uptime": 11}, "wifi": {"status": "got ip", "rssi": -53},
        }

    def notify(self, changes):
        self.say(f"{self.prefix}/events/rpc", {
            "src": "shellyplus1pm-a8032ab12345", "dst": f"{self.prefix}/events",
            "method": "NotifyStatus", "params": {"ts": 1773420285.1, "switch:0": changes},
        })

    def heard(self, topic, payload):
        try:
            request = json.loads(payload)
            answer = {"id": request["id"], "src": "shellyplus1pm-a8032ab12345", "dst": request["src"]}
        except (ValueError, KeyError, TypeError):
            return
        match request.get("method"):
            case "Shelly.GetStatus":
                answer["result"] = self.status()
            case "Switch.GetStatus":
                answer["result"] = self.switch()
            case "Switch.Set":
                was_on, on = self.output, bool(request["params"]["on"])
                self.switch()
                if not self.stuck:
                    self.output = on
                answer["result"] = {"was_on": was_on}
            case method:
                answer["error"] = {"code": 404, "message": f"No handler for {method}"}
        self.say(f"{request['src']}/rpc", answer)
        if request.get("method") == "Switch.Set" and not self.stuck:
            self.notify({"id": 0, "output": self.output, "source": "MQTT"})

    def typed(self, words):
        match words:
            case ["power", watts]:
                self.switch()
                self.watts = float(watts)
                change = abs(self.watts - self.notified)
                if not self.silent and change > 10 and change > 0.05 * abs(self.notified):
                    self.notified = self.watts
                    self.notify({"id": 0, "apower": self.watts})


if __name__ == "__main__":
    Shelly(arguments(prefix=("shellyplus1pm-a8032ab12345", "its MQTT prefix"))).serve()
