"""What holds for all tests."""

import gc
import signal
import sys

import pytest

from pleach_sim import runner

# Most of the time that a simulator takes here is to compile it, not to run it. In one piece it is
# compiled in less time than in parts, though not by two processors.
runner._MAKE_OPTIONS[runner._MAKE_OPTIONS.index("OPT_FAST=-O1")] = "OPT_FAST=-O0"
runner._VERILATOR_OPTIONS += ["--output-split", "0"]

# torch, numba and designs are a million objects that stay: look less often for what does not.
gc.set_threshold(20_000, 50, 50)

# A shell's job in the background ignores interrupts, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def nothing_registered_stays():
    """Families of kinds forget what a test added: the next test of this process may list them."""
    loaded = [m for name, m in list(sys.modules.items()) if name.startswith("pleach.compression.")]
    found = {id(v): v for m in loaded for v in vars(m).values() if hasattr(v, "_found")}
    before = [(family, dict(family._found)) for family in found.values() if family.names()]
    yield
    for family, kinds in before:
        family._found = kinds
