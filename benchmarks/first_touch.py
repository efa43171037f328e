"""What fresh memory costs on this machine: the seconds to touch each page of it once.

    python -m benchmarks.first_touch [--gigabytes=1,6,12] [--rounds=5]

On a machine of one's own, that is the time in which the kernel clears pages. It is the same per GB
for any size. On a virtual machine whose host takes back free memory (free page reporting of the
balloon device), pages that have been free come from the host again. Programs that free and take
gigabytes in each step are then slower than their arithmetic. The time of anything that takes more
memory than another program has just used seems to grow faster than its size.
"""

import argparse
import mmap
import sys
import time

import numpy as np


def touch(size):
    """Takes fresh memory, writes to each page, and gives it back; returns the seconds of writing.

    Args:
        size: int, bytes.
    """
    with mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        pages = np.frombuffer(memory, np.uint8)[:: mmap.PAGESIZE]
        begin = time.perf_counter()
        pages[:] = 1
        seconds = time.perf_counter() - begin
        del pages  # else the memory cannot be given back
    return seconds


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", default="1,6,12")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args(argv)
    for size in asked.gigabytes.split(","):
        seconds = [touch(int(float(size) * 1e9)) / float(size) for _ in range(asked.rounds)]
        shown = ", ".join(f"{second:.2f}" for second in seconds)
        print(f"{size} GB, {asked.rounds} times: {shown} s a GB", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
