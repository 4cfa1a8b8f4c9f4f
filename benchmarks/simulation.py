"""Simulated time: a clock and an event loop that skip all waiting, and what they measure."""

import asyncio
import selectors
import threading
import time
from array import array
from typing import NamedTuple


class Figure(NamedTuple):
    """What was measured, and when."""

    phase: str
    name: str
    value: float
    unit: str
    words: str = ""


# -- time ----------------------------------------------------------------------------------------


class Clock:
    """Seconds since the epoch, as if we had waited."""

    def __init__(self):
        self._begin = time.time() - time.perf_counter()
        self.skipped = 0.0

    def __call__(self):
        return self._begin + time.perf_counter() + self.skipped


class Selector(selectors.DefaultSelector):
    """Skips what an event loop would wait; takes the time from one wait to the next."""

    def __init__(self, clock, skips):
        super().__init__()
        self._clock = clock
        self._skips = skips
        self._resumed = time.perf_counter()
        self.passes = array("d")

    def select(self, timeout=None):
        self.passes.append(time.perf_counter() - self._resumed)
        events = super().select(0 if timeout and self._skips else timeout)
        while timeout and not events and self._skips and _is_writing():
            events = super().select(0.001)
        if timeout and not events and self._skips:
            self._clock.skipped += timeout
        self._resumed = time.perf_counter()
        return events


def _name(callback):
    owner = getattr(callback, "__self__", None)
    function = owner.get_coro() if isinstance(owner, asyncio.Task) else callback
    return getattr(function, "__qualname__", repr(function))


def _is_writing():
    """Whether a thread works on files, which takes its time."""
    return any(thread.name == "spawner-tokens-files" for thread in threading.enumerate())


class Loop(asyncio.SelectorEventLoop):
    """An event loop in simulated time, which takes the time of each callback.

    ``skips``: whether it skips all waiting; threads need their time.
    """

    def __init__(self, clock, skips=True):
        self.time = clock
        self._waits = Selector(clock, skips)
        self._collecting = 0.0
        self._left_out = 0.0, 0.0
        super().__init__(self._waits)
        self._reset()

    async def forget(self):
        """Begin to measure anew, once the running callback has ended."""
        await asyncio.sleep(0)
        self._reset()

    def _reset(self):
        self._calls, self._collections = array("d"), array("d", [0])
        self._longest = 0.0, 0.0, ""
        self._busiest = 0.0, ""
        del self._waits.passes[:]
        self._began, self._busy = self.time(), time.process_time()

    def call_soon(self, callback, *args, context=None):
        return super().call_soon(self._call, callback, *args, context=context)

    def call_at(self, when, callback, *args, context=None):
        return super().call_at(when, self._call, callback, *args, context=context)

    def leave_out(self, seconds, busy):
        """What the running callback spends on something else, in all and on the CPU."""
        self._left_out = self._left_out[0] + seconds, self._left_out[1] + busy

    def _call(self, callback, *args):
        began, busy, collecting = time.perf_counter(), time.thread_time(), self._collecting
        self._left_out = 0.0, 0.0
        callback(*args)
        collecting = self._collecting - collecting
        seconds = time.perf_counter() - began - collecting - self._left_out[0]
        busy = time.thread_time() - busy - collecting - self._left_out[1]
        self._calls.append(seconds)
        if seconds > self._longest[0]:
            self._longest = seconds, busy, _name(callback)
        if busy > self._busiest[0]:
            self._busiest = busy, _name(callback)

    def see_collector(self, phase, info):
        """For :data:`gc.callbacks`."""
        now = time.perf_counter()
        if phase == "start":
            self._collection_began = now
        else:
            self._collecting += now - self._collection_began
            self._collections.append(now - self._collection_began)

    def figures(self, phase):
        """How busy the process was, and how long callbacks blocked the event loop."""
        busy, seconds = time.process_time() - self._busy, self.time() - self._began
        (longest, cpu, name), (busiest, busiest_name) = self._longest, self._busiest
        calls = sorted(self._calls)
        yield Figure(
            phase,
            "CPU",
            100 * busy / seconds,
            "%",
            f"of a core: {busy:.1f} s in {seconds / 3600:.2g} h",
        )
        yield Figure(
            phase, "callback, median", 1e3 * calls[len(calls) // 2], "ms", f"of {len(calls):,}"
        )
        yield Figure(phase, "callback, p99", 1e3 * calls[len(calls) * 99 // 100], "ms")
        yield Figure(
            phase,
            "callback, longest",
            1e3 * longest,
            "ms",
            f"{name}; {1e3 * cpu:.1f} ms of it on the CPU",
        )
        words = f"{busiest_name}; on the CPU"
        yield Figure(phase, "callback, busiest", 1e3 * busiest, "ms", words)
        yield Figure(
            phase,
            "pass, longest",
            1e3 * max(self._waits.passes),
            "ms",
            "between two looks at the network",
        )
        yield Figure(
            phase,
            "collector, longest",
            1e3 * max(self._collections),
            "ms",
            "in passes, not in callbacks",
        )
