"""Simulators in tests: most of the time that one takes is to compile it, not to run it."""

from pleach_sim import runner

runner._MAKE_OPTIONS[runner._MAKE_OPTIONS.index("OPT_FAST=-O1")] = "OPT_FAST=-O0"
