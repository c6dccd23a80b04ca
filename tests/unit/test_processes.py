"""Children end with the call that started them, however it ends, and with this process."""

import os
import signal
import subprocess
import sys
import time

import pytest

from pleach import processes
from pleach.spread import spread

# A tree as of a build: the command, its child and its grandchild, which hold a file open each.
TREE = 'echo $$ >> "$0"; sh -c \'echo $$ >> "$0"; (exec sleep 60) & wait\' "$0" & wait'


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def tree_of(file, count: int = 2) -> list[int]:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if file.exists() and len(pids := file.read_text().split()) == count:
            return [int(pid) for pid in pids]
        time.sleep(0.01)
    raise AssertionError("the tree did not start")


def assert_gone(pids) -> None:
    end = time.monotonic() + 5
    while any(map(alive, pids)):
        assert time.monotonic() < end, "processes are left"
        time.sleep(0.01)


def test_output_status_and_no_input():
    done = processes.run(
        ["sh", "-c", "cat; echo out; echo err >&2; exit 3"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")


def test_a_command_that_does_not_exist():
    assert processes.run(["/nonexistent/command"], stderr=subprocess.DEVNULL).returncode == 127


def test_the_whole_tree_ends_at_the_time_limit(tmp_path):
    with pytest.raises(subprocess.TimeoutExpired):
        processes.run(["sh", "-c", TREE, str(tmp_path / "pids")], timeout=0.3)
    assert_gone(tree_of(tmp_path / "pids"))


def test_what_a_command_leaves_behind_ends_too(tmp_path):
    file = tmp_path / "pid"
    processes.run(["sh", "-c", f'sleep 60 & echo $! > "{file}"'], stdout=subprocess.DEVNULL)
    assert_gone([int(file.read_text())])


PARENT = """
import signal, sys
from pleach import processes

def unwind(number, frame):
    raise SystemExit(128 + number)

if sys.argv[1] == "handled":
    signal.signal(signal.SIGTERM, unwind)
    signal.signal(signal.SIGHUP, unwind)
try:
    processes.run(["sh", "-c", sys.argv[2], sys.argv[3]])
finally:
    print("unwound", flush=True)
"""


@pytest.mark.parametrize(
    ("how", "number"),
    [
        ("handled", signal.SIGTERM),
        ("handled", signal.SIGHUP),
        ("not handled", signal.SIGTERM),
        ("not handled", signal.SIGKILL),
    ],
)
def test_the_whole_tree_ends_with_its_parent(how, number, tmp_path):
    command = [sys.executable, "-S", "-c", PARENT, how, TREE, str(tmp_path / "pids")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    pids = tree_of(tmp_path / "pids")
    assert all(map(alive, pids))
    parent.send_signal(number)
    output, _ = parent.communicate(timeout=20)
    assert (output == "unwound\n") == (how == "handled")
    assert parent.returncode == (128 + number if how == "handled" else -number)
    assert_gone(pids)


def _pid_and_sleep(file):
    with open(file, "a") as pids:
        pids.write(f"{os.getpid()}\n")
    time.sleep(60)


def test_workers_end_with_the_block(tmp_path):
    with pytest.raises(KeyboardInterrupt), spread(processes=2) as jobs:
        for number in range(2):
            jobs.submit(number, _pid_and_sleep, tmp_path / "pids")
        pids = tree_of(tmp_path / "pids")
        raise KeyboardInterrupt
    assert_gone(pids)


WORKERS = """
import sys, time
from pleach.spread import spread

def note(file):
    import os
    with open(file, "a") as pids:
        pids.write(f"{os.getpid()}\\n")
    time.sleep(60)

with spread(processes=2) as jobs:
    list(jobs.map(note, sys.argv[1:] * 2))
"""


@pytest.mark.skipif(
    sys.platform != "linux", reason="Linux alone tells a process that its parent died"
)
def test_workers_end_with_a_parent_that_was_killed(tmp_path):
    command = [sys.executable, "-S", "-c", WORKERS, str(tmp_path / "pids")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen(command, env=environment)
    pids = tree_of(tmp_path / "pids")
    parent.kill()
    parent.wait()
    assert_gone(pids)
