"""What holds for all tests."""

import signal

from pleach_sim import runner

# Most of the time that a simulator takes here is to compile it, not to run it.
runner._MAKE_OPTIONS[runner._MAKE_OPTIONS.index("OPT_FAST=-O1")] = "OPT_FAST=-O0"

# A shell's job in the background ignores interrupts, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
