"""Ports for servers, each given to nobody else.

JupyterHub's ``random_port`` closes the port that it finds: another test may find it too.
"""

import fcntl
import os
import random
import socket
import tempfile
from pathlib import Path

from jupyterhub import spawner

_PORTS = range(12000, 30000)  # below those that the system gives to clients
_locks = open(Path(tempfile.gettempdir(), f"spawner-tokens-test-ports-{os.getuid()}"), "ab")
_taken = set()


def random_port():
    """A free port that no test in any process has taken: its byte in a file is locked."""
    port = random.choice(_PORTS)
    return port if _take(port) else random_port()


def _take(port):
    try:
        fcntl.lockf(_locks, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        with socket.socket() as found:
            found.bind(("", port))
    except OSError:
        return False
    is_new = port not in _taken  # a process does not lock itself out
    _taken.add(port)
    return is_new


spawner.random_port = random_port
