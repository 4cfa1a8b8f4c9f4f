"""Imported by a process, this makes it the parent of its descendants' orphans, in place of an init that may be slow.

A Hub takes a server for running until its dead process has been waited for. multiprocessing's forkserver does that.
"""

import ctypes

PR_SET_CHILD_SUBREAPER = 36

ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
