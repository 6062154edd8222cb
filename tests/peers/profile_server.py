"""A pymodbus server that serves the examples of device profiles, encoded here with Python's struct.

    profile_server.py --tcp PORT --profiles DIR --plan FILE

Every Modbus profile of the folder is one unit, from 1 on in the order of their names; its items hold
what its first example expects, encoded from the value (type, order, unit, scale, scale register), not
copied from the example's registers. FILE gets what every unit serves, as JSON:
[{"unit": 1, "profile": "abb/b21", "items": {"voltage": 230.1, …}}, …]. It knows nothing of andon but
the format of its profiles.
"""

import argparse
import asyncio
import json
import logging
import pathlib
import struct
import sys
import tomllib
from fractions import Fraction

from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

CODES = {"u16": ">H", "i16": ">h", "u32": ">I", "i32": ">i", "u64": ">Q", "i64": ">q", "f32": ">f", "f64": ">d"}
# How many canonical units a unit of a device is.
UNITS = {"kW": 1000, "kVA": 1000, "kvar": 1000, "kWh": 1000, "%": Fraction(1, 100), "mA": Fraction(1, 1000), "ppb": Fraction(1, 1000)}
BITS = ("coil", "discrete")


def place(text):
    table, address = text.split(":")
    return table, int(address, 0)


def exact(number):
    return Fraction(str(number))


def words(item, value, exponent):
    kind = item["type"]
    number = exact(value) / UNITS.get(item.get("unit"), 1) / exact(item.get("scale", 1))
    number = number * exact(item.get("divide_by", 1)) / Fraction(10) ** exponent
    if kind.startswith("f"):
        raw = struct.pack(CODES[kind], float(number))
    else:
        assert number.denominator == 1, (item, value)
        raw = struct.pack(CODES[kind], int(number))
    parts = [raw[at : at + 2] for at in range(0, len(raw), 2)]
    order = item.get("order", "ABCD")
    if order in ("CDAB", "DCBA"):
        parts.reverse()
    if order in ("BADC", "DCBA"):
        parts = [part[::-1] for part in parts]
    return [struct.unpack(">H", part)[0] for part in parts]


def image(profile):
    """The registers of a profile by table and address, and what its items read."""
    example = profile["example"][0]
    held = {}
    for key, values in example["registers"].items():
        table, start = place(key)
        held |= {(table, start + at): value for at, value in enumerate(values)}
    tables = {"coil": {}, "discrete": {}, "input": {}, "holding": {}}
    items = {}
    for item in profile["item"]:
        if item["name"] not in example["expect"]:
            continue
        value = items[item["name"]] = example["expect"][item["name"]]
        table, address = place(item["read"])
        if table in BITS:
            tables[table][address] = bool(value)
            continue
        exponent = 0
        if "scale_register" in item:
            register = place(item["scale_register"])
            exponent = struct.unpack(">h", struct.pack(">H", held[register]))[0]
            tables[table][register[1]] = held[register]
        for at, word in enumerate(words(item, value, exponent)):
            tables[table][address + at] = word
    return tables, items


def blocks(addresses, bits):
    """What lies near is served as one block: a reader may read across small gaps."""
    empty = False if bits else 0
    datatype = DataType.BITS if bits else DataType.REGISTERS
    found = []
    for address in sorted(addresses):
        if not found or address > found[-1][0] + len(found[-1][1]) + 128:
            found.append((address, []))
        start, values = found[-1]
        values.extend([empty] * (address - start - len(values)))
        values.append(addresses[address])
    if not found:
        # pymodbus wants each table to have something; nothing asks for it.
        found.append((0xFFFE, [empty]))
    return [SimData(start, values=values, datatype=datatype) for start, values in found]


def devices(folder):
    served = []
    for file in sorted(folder.glob("*/*.toml")):
        profile = tomllib.loads(file.read_text(encoding="utf-8"))
        if any(item["read"].startswith(("di:", "drive:")) for item in profile["item"]):
            continue
        tables, items = image(profile)
        simdata = tuple(
            blocks(tables[table], table in BITS) for table in ("coil", "discrete", "holding", "input")
        )
        unit = len(served) + 1
        name = f"{file.parent.name}/{file.stem}"
        served.append((SimDevice(id=unit, simdata=simdata), {"unit": unit, "profile": name, "items": items}))
    return served


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tcp", type=int, required=True)
    parser.add_argument("--profiles", type=pathlib.Path, required=True)
    parser.add_argument("--plan", type=pathlib.Path, required=True)
    args = parser.parse_args()
    logging.getLogger("pymodbus_internal").setLevel(logging.ERROR)
    served = devices(args.profiles)
    args.plan.write_text(json.dumps([entry for _, entry in served]), encoding="utf-8")
    server = ModbusTcpServer([device for device, _ in served], address=("127.0.0.1", args.tcp))
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit(0)
