"""A simulated year of a Hub, held against the promises 1 to 14 at each step.

``python -m benchmarks.year [--seed 1] [--days 365] [--shrink]``, from the folder above. The seed
also decides how long a token lives, and what else differs between Hubs. What is simulated, and what
happens: ``tests.support.year``.
"""

import argparse
import random
import sys
import tempfile
import time

from tests.support.year import Setting, live, make_events

GAP = 1800  # seconds between two events
USERS = 50


def make_setting(seed):
    dice = random.Random(seed)
    kills, doubts, moves = (dice.random() < 0.5 for _ in range(3))
    missing = dice.choice(("warn", "refuse"))
    return Setting(dice.choice((900, 3600, 28800)), kills, doubts, moves, missing)


def find(seed, events):
    """What was broken: (promise, words) → how it was the first time."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        broken = live(folder, make_setting(seed), seed, events, USERS).broken
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
    parser.add_argument(
        "--shrink", action="store_true", help="print the fewest events with which each is broken"
    )
    given = parser.parse_args()
    number = int(86400 * given.days / GAP)
    events = list(make_events(given.seed, USERS, number, GAP))
    broken = find(given.seed, events)
    seconds = time.process_time()
    print(f"seed {given.seed}: {make_setting(given.seed)}")
    print(f"{number} events, {seconds:.0f} s of a CPU, {len(broken)} kinds of faults", flush=True)
    for what, first in broken.items():
        day = first.time / 86400
        print(f"{first.promise:>4} {first.words}: {first.user}, day {day:.1f}", flush=True)
        if given.shrink:

            def is_broken(events, what=what):
                return what in find(given.seed, events)

            print(*shrink(events[: first.number + 1], is_broken), sep="\n", flush=True)
    sys.exit(bool(broken))


if __name__ == "__main__":
    main()
