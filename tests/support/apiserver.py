"""An API server to kill and start again: of the cluster whose folder ``REAL_KUBE_DIR`` names."""

import asyncio
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

from .waiting import until

_START = 'log=$1; shift; setsid "$@" </dev/null >>"$log" 2>&1 & echo $!'


class Daemon:
    """One whose pid, and when it began, are in ``folder/pids``: the cluster stops what is there."""

    def __init__(self, folder, name):
        self._recorded, self._log = Path(folder, "pids", name), Path(folder, "logs", f"{name}.log")
        process = Path("/proc", str(self.pid))
        self._command = (process / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        environment = (process / "environ").read_bytes().rstrip(b"\0").split(b"\0")
        self._environment = dict(entry.split(b"=", 1) for entry in environment)

    @property
    def pid(self):
        return int(self._recorded.read_text().split()[0])

    @property
    def runs(self):
        return _stat(self.pid) is not None

    def kill(self):
        with suppress(ProcessLookupError):  # controllers end by themselves without an API server
            os.kill(self.pid, signal.SIGKILL)
        while self.runs:  # its port is free
            time.sleep(0.01)

    def start(self):
        """The same command, in the same place; it outlives this process, as it did."""
        command = ["sh", "-c", _START, "sh", self._log, *self._command]
        pid = int(subprocess.check_output(command, env=self._environment, cwd="/"))
        self._recorded.write_text(f"{pid} {_stat(pid)[19]}")


class ApiServer:
    def __init__(self, folder, cluster):
        self._cluster = cluster
        self._daemon, self._controllers = (
            Daemon(folder, "kube-apiserver"),
            Daemon(folder, "kube-controller-manager"),
        )
        self._restart = None

    def kill(self):
        self._daemon.kill()

    def interrupt(self):
        """Kill it with what it is asked in the next moment, and start it again."""
        os.kill(self._daemon.pid, signal.SIGSTOP)
        self._restart = asyncio.ensure_future(self._kill_and_start())

    async def _kill_and_start(self):
        await asyncio.sleep(0.3)
        self.kill()
        await self.start()

    async def start(self):
        """Start it. Returns when it is ready."""
        self._daemon.start()
        await until(lambda: asyncio.to_thread(self._is_ready), seconds=60, pause=0.1)
        # After some outages they would wait for half a minute; those that start do not.
        self._controllers.kill()
        self._controllers.start()

    async def settle(self):
        """Returns when it is ready, whatever has been done to it."""
        if self._restart is not None:
            await self._restart
        if not self._daemon.runs:
            await self.start()

    def _is_ready(self):
        try:
            urllib.request.urlopen(
                f"{self._cluster.url}/readyz", context=self._cluster.tls, timeout=5
            ).close()
        except urllib.error.HTTPError as error:
            error.close()
            return False
        except OSError:
            return False
        return True


def _stat(pid):
    """What follows the name in ``/proc/PID/stat``, of a process that has not ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return fields if fields[0] != "Z" else None
