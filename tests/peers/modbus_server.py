"""An independent Modbus server (pymodbus) that serves a new value at every read and logs each one.

    modbus_server.py --tcp PORT | --rtu PTY --baud N   --units 1,2   --map input:12,input:0   --log FILE

Every listed address holds a big-endian 32-bit float. The n-th read of an address of a unit serves
n / 8 (exact in binary), wrapping at 8000 steps, or n / 1024 for counters (`counter:72`: never
wrapping). Others move as meters do: `tenths` by a volt or two in tenths, `watts` by some tens, and
`slow` counts a hundredth at every fifth read. The log has one JSON line per value served: unit, address, n, value, boot-time
nanoseconds. A value is logged before its reply leaves; SIGTERM therefore refuses every later read and ends
half a second later, when all that is logged has been sent. It knows nothing of andon.
"""

import argparse
import asyncio
import json
import logging
import signal
import struct
import sys
import time

from pymodbus.constants import ExcCodes
from pymodbus.framer import FramerType
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

SIZE = 512
# For the replies to what was logged.
SENT_SECONDS = 0.5
VALUES = {
    "input": lambda n: (n % 8000) / 8,
    "counter": lambda n: n / 1024,
    "tenths": lambda n: 230 + n * 7 % 23 / 10,
    "watts": lambda n: 900 + n * 37 % 601 / 10,
    "slow": lambda n: n // 5 / 100,
}


class Unit:
    """One unit's registers: counts reads per address, until it is closed."""

    def __init__(self, unit, addresses, log, closed):
        self.unit = unit
        self.addresses = addresses
        self.log = log
        self.closed = closed
        self.reads = dict.fromkeys(addresses, 0)

    async def served(self, function_code, start, address, count, registers, values):
        """Called by pymodbus for each request, before the reply is built."""
        if self.closed.is_set():
            return ExcCodes.DEVICE_BUSY
        for item, kind in self.addresses.items():
            if values is None and address <= item and item + 2 <= address + count:
                self.reads[item] += 1
                n = self.reads[item]
                value = VALUES[kind](n)
                high, low = struct.unpack(">HH", struct.pack(">f", value))
                registers[item - start], registers[item + 1 - start] = high, low
                json.dump(
                    {
                        "unit": self.unit,
                        "address": item,
                        "n": n,
                        "value": value,
                        "at": time.clock_gettime_ns(time.CLOCK_BOOTTIME),
                    },
                    self.log,
                )
                self.log.write("\n")
        return None


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tcp", type=int)
    parser.add_argument("--rtu")
    parser.add_argument("--baud", type=int, default=9600)
    parser.add_argument("--units", default="1")
    parser.add_argument("--map", required=True)
    parser.add_argument("--log", required=True)
    args = parser.parse_args()
    logging.getLogger("pymodbus_internal").setLevel(logging.ERROR)
    log = open(args.log, "a", buffering=1, encoding="utf-8")
    closed = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, closed.set)
    addresses = {}
    for entry in args.map.split(","):
        kind, address = entry.split(":")
        addresses[int(address)] = kind
    devices = [
        SimDevice(
            id=int(unit),
            simdata=[SimData(0, count=SIZE, values=0, datatype=DataType.REGISTERS)],
            action=Unit(int(unit), addresses, log, closed).served,
        )
        for unit in args.units.split(",")
    ]
    if args.tcp is not None:
        server = ModbusTcpServer(devices, address=("127.0.0.1", args.tcp))
    else:
        server = ModbusSerialServer(
            devices, framer=FramerType.RTU, port=args.rtu, baudrate=args.baud
        )
    print("ready", flush=True)
    serving = asyncio.ensure_future(server.serve_forever())
    await closed.wait()
    await asyncio.sleep(SENT_SECONDS)
    serving.cancel()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit(0)
