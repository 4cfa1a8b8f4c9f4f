"""The demo's folder, ports and processes. Nothing of them is left, however the demo ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import psutil
import requests

T = TypeVar("T")

PACKAGE_DIR = Path(__file__).resolve().parents[2]


class DemoError(Exception):
    """A step of the demo failed. The text is for the terminal and holds no secret."""


@contextmanager
def make_folder() -> Iterator[Path]:
    """A private temporary folder. At the end, processes are stopped and it is removed."""
    with tempfile.TemporaryDirectory(prefix="spawner-tokens-demo-") as name:
        folder = Path(name)
        try:
            yield folder
        finally:
            while processes := find_processes(folder):
                end_processes(processes)


@contextmanager
def reserve_ports(count: int) -> Iterator[tuple[int, ...]]:
    """Free ports on loopback, for servers that bind them with ``SO_REUSEADDR``, as tornado's do.

    On Linux such a server can share the port with our socket, which is bound and does not listen,
    and others cannot take it. Other systems do not allow that: there, the ports are closed at once.
    """
    with ExitStack() as stack:
        ports = []
        for _ in range(count):
            reservation = stack.enter_context(socket.socket())
            reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            reservation.bind(("127.0.0.1", 0))
            ports.append(reservation.getsockname()[1])
        if sys.platform != "linux":
            stack.close()
        yield tuple(ports)


class Child:
    """A process of the demo, with its output in ``<name>.log`` in the folder."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env=os.environ | make_environment(folder) | dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Ctrl-C reaches this process alone, which ends the others in order.
                start_new_session=True,
            )

    def wait_until(self, condition: Callable[[], T | None], what: str, seconds: float = 60) -> T:
        """The first true value of ``condition()``.

        Raises :exc:`DemoError` if it takes longer than ``seconds``, or if the process ends.
        """

        def condition_while_running() -> T | None:
            self.expect_running()
            return condition()

        return wait_until(condition_while_running, what, seconds)

    def expect_running(self) -> None:
        if self.process.poll() is not None:
            raise DemoError(
                f"the {self.name} has ended; the last lines of its log:\n{self.log_tail()}"
            )

    def log_tail(self, lines: int = 20) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def close(self) -> None:
        self.process.terminate()
        try:
            # The Hub waits up to 15 s for a server that does not end by itself.
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def make_environment(folder: Path) -> dict[str, str]:
    """The variables of our processes; the Hub gives ``PATH`` and ``PYTHONPATH`` to the servers."""
    inherited = os.environ.get("PYTHONPATH")
    return {
        "HOME": str(folder),
        "PATH": os.pathsep.join(
            [os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)]
        ),
        "PYTHONPATH": os.pathsep.join([str(PACKAGE_DIR), *([inherited] if inherited else [])]),
    }


def find_processes(folder: Path) -> list[psutil.Process]:
    """All processes of the demo, orphans too: those whose ``HOME`` is in its folder."""
    return [
        process
        for process in psutil.process_iter(["environ"])
        if Path((process.info["environ"] or {}).get("HOME", "/")).is_relative_to(folder)
    ]


def end_processes(processes: Sequence[psutil.Process]) -> None:
    """Stop processes, by SIGKILL after five seconds. Returns when they have ended."""
    for signal_number, seconds in ((signal.SIGTERM, 5), (signal.SIGKILL, None)):
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal_number)
        _, processes = psutil.wait_procs(processes, timeout=seconds)


def wait_until(condition: Callable[[], T | None], what: str, seconds: float = 60) -> T:
    """The first true value of ``condition()``; :exc:`DemoError` after so many ``seconds``."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise DemoError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.05)
    return value


def is_listening(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def answers(url: str) -> bool:
    with requests.Session() as session:
        session.trust_env = False  # else a proxy of the environment is used
        try:
            return session.get(url, timeout=5).ok
        except requests.RequestException:
            return False
