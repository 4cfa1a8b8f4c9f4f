"""Imported by a process, this makes it the parent of its descendants' orphans.

A Hub takes a server for running until its dead process has been waited for, and this machine's init
may be slow. multiprocessing's forkserver waits for them.
"""

import ctypes

PR_SET_CHILD_SUBREAPER = 36

ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
