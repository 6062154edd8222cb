"""A Tasmota plug that proves whether anything gets through its broker.

    tasmota_beating_replay.py --port PORT

In all that andon sees and says it is the plug of tasmota_replay.py. Besides, it says something to
itself through the broker every BEAT seconds and prints `beat SECONDS`, by CLOCK_MONOTONIC, whenever
it hears that. Where the beats pause, it was this process or the broker that stood still; where they
go on, a question that was not heard was not asked, and an answer that is not shown was not read.
"""

import threading
import time

from mqtt_replay import arguments
from tasmota_replay import Plug

BEAT = 0.1


class Beating(Plug):
    def heard(self, topic, payload):
        if topic.endswith("/BEAT"):
            print(f"beat {time.monotonic():.3f}", flush=True)
        else:
            super().heard(topic, payload)

    def beat(self):
        while True:
            self.say(f"cmnd/{self.topic}/BEAT", "")
            time.sleep(BEAT)

    def serve(self):
        threading.Thread(target=self.beat, daemon=True).start()
        super().serve()


if __name__ == "__main__":
    Beating(arguments(topic=("plug-saw", "its topic"), channels=(1, "its relays"))).serve()
