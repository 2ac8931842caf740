"""What `impledger bench lists` measures, with the seed as only argument; prints JSON."""

import sys

import msgspec

from service.bench_lists import bench_lists


def main() -> None:
    measured = bench_lists(seed=int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    print(msgspec.json.format(msgspec.json.encode(measured)).decode())


if __name__ == "__main__":
    main()
