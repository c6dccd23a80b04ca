"""Child processes that never outlive their purpose, and workers that never outlive their parent."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

# The shell becomes the command. Beside it a watchdog of the same group waits for the end of a pipe
# that this process holds open: so the group ends with us even where nothing of ours can run any
# more, after a SIGKILL. It also keeps the group's number from being given to somebody else.
_WATCHED = 'exec 3<&0; (read _ <&3; kill -KILL 0) >/dev/null 2>&1 & exec "$@" </dev/null 3<&-'

#: seconds that a group which was ended may take to be gone
_GRACE = 0.2


def run(
    command: Sequence[str], *, timeout: float | None = None, **options
) -> subprocess.CompletedProcess:
    """As `subprocess.run`, with a group of processes of its own and nothing on standard input.

    All that the command started is ended when this returns or raises, by a time limit, an
    interrupt or a signal that a handler turns into an exception, and when this process is killed.

    Raises:
        subprocess.TimeoutExpired: it took longer than `timeout` seconds.
        OSError: it cannot be started.
    """
    lifeline, held = os.pipe()
    child = None
    try:
        child = subprocess.Popen(
            ["/bin/sh", "-c", _WATCHED, "sh", *command],
            stdin=lifeline,
            start_new_session=True,
            **options,
        )
        output, errors = child.communicate(timeout=timeout)
    finally:
        os.close(lifeline)
        os.close(held)
        if child is not None:
            _end(child)
    return subprocess.CompletedProcess(command, child.returncode, output, errors)


def _end(child: subprocess.Popen) -> None:
    """Kill a child's group and wait for it: its folders are about to be removed."""
    interrupted = child.poll() is None
    try:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        end = time.monotonic() + _GRACE
        while interrupted and time.monotonic() < end:
            os.killpg(child.pid, 0)
            time.sleep(0.01)
    except (ProcessLookupError, PermissionError):  # gone; macOS says the second of zombies
        child.wait()


def start_worker(parent: int) -> None:
    """What a worker does first: it leaves signals to the process `parent`, and ends with it."""
    # What the parent does at a signal is not for its copies to do, and a terminal's interrupt is
    # the parent's.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
