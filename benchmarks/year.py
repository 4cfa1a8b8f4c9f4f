"""A simulated year of a Hub, held against the promises 1 to 14 at each step.

``python -m benchmarks.year [--seed 1] [--days 365] [--users 50] [--life 28800] [--shrink]``, from
the folder above. What is simulated, and what happens: ``tests.support.year``.
"""

import argparse
import sys
import tempfile
import time

from tests.support.year import Setting, live, make_events

GAP = 1800  # seconds between two events


def find(setting, seed, events, users):
    """What was broken: (promise, words) → how it was the first time."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        broken = live(folder, setting, seed, events, users).broken
    return {(each.promise, each.words): each for each in reversed(broken)}


def shrink(events, is_broken):
    """The fewest of these events with which it is still broken."""
    size = len(events)
    while size := size // 2:
        for start in range(len(events) - size, -1, -size):
            fewer = events[:start] + events[start + size :]
            if is_broken(fewer):
                events = fewer
    return events


def main():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.year", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--days", type=float, default=365)
    parser.add_argument("--users", type=int, default=50, metavar="N")
    parser.add_argument("--life", type=int, default=28800, help="of a token, in seconds")
    for name in ("kills", "doubts", "moves"):
        parser.add_argument(f"--{name}", action="store_true", help="see tests.support.year.Setting")
    parser.add_argument(
        "--shrink", action="store_true", help="print the fewest events with which each is broken"
    )
    given = parser.parse_args()
    setting = Setting(given.life, given.kills, given.doubts, given.moves)
    number = int(86400 * given.days / GAP)
    events = list(make_events(given.seed, given.users, number, GAP))
    broken = find(setting, given.seed, events, given.users)
    print(f"{number} events, {time.process_time():.0f} s of a CPU, {len(broken)} kinds of faults")
    for what, first in broken.items():
        print(f"{first.promise:>4} {first.words}: {first.user}, day {first.time / 86400:.1f}")
        if given.shrink:

            def is_broken(events, what=what):
                return what in find(setting, given.seed, events, given.users)

            print(*shrink(events[: first.number + 1], is_broken), sep="\n")
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
