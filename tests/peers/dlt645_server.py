"""An independent DL/T 645-2007 meter (the dlt645 package of PyPI) with values of one moment.

    dlt645_server.py --tcp PORT | --rtu PTY --baud N   --label 181219024435

The package puts the digits of an address on the wire in the order in which they are written; a meter
sends the last pair first, so it is given the pairs in reverse. It logs to stderr.
"""

import argparse
import signal

from dlt645.service.serversvc.server_service import MeterServerService

ENERGY = {0x00010000: 1234.56, 0x00020000: 1.5}
VALUES = {
    0x02010100: 230.1,
    0x02010200: 231.4,
    0x02010300: 229.8,
    0x02020100: 6.52,
    0x02020200: 0.415,
    0x02020300: 0.436,
    0x02030000: 1.503,
    0x02030100: 1.4982,
    0x02030200: 0.0955,
    0x02030300: 0.1003,
    0x02060000: 0.886,
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tcp", type=int)
    parser.add_argument("--rtu")
    parser.add_argument("--baud", type=int, default=2400)
    parser.add_argument("--label", required=True)
    args = parser.parse_args()
    if args.tcp is not None:
        meter = MeterServerService.new_tcp_server("127.0.0.1", args.tcp, 30.0)
    else:
        meter = MeterServerService.new_rtu_server(args.rtu, 8, 1, args.baud, "E", 0.05)
    pairs = [args.label[at : at + 2] for at in range(0, 12, 2)]
    assert meter.set_address("".join(reversed(pairs))) is not False
    for identifier, value in ENERGY.items():
        assert meter.set_00(identifier, value), hex(identifier)
    for identifier, value in VALUES.items():
        assert meter.set_02(identifier, value), hex(identifier)
    meter.server.start()
    print("ready", flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
