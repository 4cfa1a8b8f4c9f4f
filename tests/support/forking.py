"""Processes that are forked from one that has imported all that they need: imports take seconds."""

import multiprocessing
import os
from multiprocessing import forkserver
from pathlib import Path

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(
    [
        *("pytest", "tests.support.reaping", "tests.support.crashing", "tests.support.killed"),
        *("tests.support.spawners", "tests.support.kubespawners"),
    ]
)


def start_forkserver():
    """Start it in the repository: before Python 3.13, it imports from its own folder alone."""
    before = os.getcwd()
    os.chdir(Path(__file__).parents[2])
    forkserver.ensure_running()
    os.chdir(before)


def log_to(path):
    """Append what this process prints to a file."""
    with open(path, "a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
