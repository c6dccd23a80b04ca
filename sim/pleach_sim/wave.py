"""A save file for GTKWave beside a waveform: the signals that a person looks for, grouped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from pleach.files import write_whole

#: groups, and their signals as patterns of whole names below the engine; a group whose name has a
#: number of the match is one for each
GROUPS: dict[str, tuple[str, ...]] = {
    "clock and reset": ("clk", "rst"),
    "packets in": tuple(f"s_axis_{name}" for name in ("tvalid", "tready", "tlast", "tdata")),
    "answers out": tuple(f"m_axis_{name}" for name in ("tvalid", "tready", "tlast", "tdata")),
    "host link": (
        r"host\.fsm_state", r"host\.command", r"host\.error", r"host\.state__model_held",
        r"host\.run_watch\.cycles",
    ),
    "load": (
        r"loader\.start", r"loader\.done", r"loader\.error", r"loader\.detail",
        r"loader\.program__write", r"loader\.codebook__write", r"loader\.pes__entry_valid",
        r"loader\.pes__column_end",
    ),
    "inputs": (
        r"unpack\.start", r"unpack\.o__valid", r"unpack\.o__ready", r"router\.source",
        r"router\.sink",
    ),
    "layer": (
        r"control\.fsm_state", r"control\.index", r"control\.start", r"control\.busy",
        r"control\.all_issued",
    ),
    "broadcasts of group {0}": (
        r"lnzd_(\d+)\.o__valid", r"lnzd_(\d+)\.o__ready",
        r"control\.broadcast__(\d+)__valid", r"control\.broadcast__(\d+)__ready",
        r"control\.broadcast__(\d+)__column", r"control\.broadcast__(\d+)__activation",
    ),
    "PE {1} of group {0}": (
        r"group_(\d+)\.pe_(\d+)\.broadcast__valid", r"group_(\d+)\.pe_(\d+)\.broadcast__ready",
        r"group_(\d+)\.pe_(\d+)\.mac", r"group_(\d+)\.pe_(\d+)\.entry",
        r"group_(\d+)\.pe_(\d+)\.drained_valid", r"group_(\d+)\.pe_(\d+)\.drained",
    ),
    "drain": (
        r"drain\.command__start", r"drain\.command__done", r"drain\.o__valid", r"drain\.o__ready",
    ),
    "outputs": (r"pack\.i__valid", r"pack\.o__valid", r"pack\.o__ready"),
}  # fmt: skip
#: shown as numbers with a sign; all else of several bits is hexadecimal
_SIGNED = ("activation", "drained")
# GTKWave's flags of a trace, and of the lines that open and close a group
_BIT, _HEX, _SIGNED_DECIMAL = "@28", "@22", "@424"
_OPEN, _CLOSED, _END_OPEN, _END_CLOSED = "@800200", "@c00200", "@1000200", "@1401200"


def save_file(wave: str | Path, top: str = "engine") -> Path:
    """Write ``NAME.gtkw`` beside a VCD, for ``gtkwave NAME.gtkw``, and return its path.

    PEs are groups that are closed. What the waveform does not have is left out.

    Args:
        wave: a VCD of `pleach_sim.simulate`.
        top: the engine's name in it.
    """
    wave = Path(wave)
    with open(wave) as file:
        there = dict(_signals(file, top))
    lines = [f'[dumpfile] "{wave.absolute()}"', "[timestart] 0", "[sst_width] 200"]
    for title, traces in _grouped(there).items():
        closed = title.startswith("PE ")
        lines += [_CLOSED if closed else _OPEN, f"-{title}"]
        for name in traces:
            range_ = there[name]
            signed = name.rpartition(".")[2].rpartition("__")[2] in _SIGNED
            lines.append((_SIGNED_DECIMAL if signed else _HEX) if range_ else _BIT)
            lines.append(f"{top}.{name}{range_}")
        lines += [_END_CLOSED if closed else _END_OPEN, f"-{title}"]
    return write_whole(wave.with_suffix(".gtkw"), "\n".join([*lines, ""]))


def _signals(lines: Iterable[str], top: str) -> Iterator[tuple[str, str]]:
    """Signals in the header of a VCD, by their names below `top`, and their ranges."""
    scopes: list[str] = []
    for line in lines:
        words = line.split()
        if words[:1] == ["$scope"]:
            scopes.append(words[2])
        elif words[:1] == ["$upscope"]:
            scopes.pop()
        elif words[:1] == ["$var"] and top in scopes:
            inside = scopes[scopes.index(top) + 1 :]
            yield ".".join([*inside, words[4]]), words[5] if words[5] != "$end" else ""
        elif words[:1] == ["$enddefinitions"]:
            return


def _grouped(there: Iterable[str]) -> dict[str, list[str]]:
    """The names that `GROUPS` wants, by the titles, in its order."""
    names = list(there)
    found: dict[str, list[str]] = {}
    for title, patterns in GROUPS.items():
        wanted: dict[tuple[int, ...], list[str]] = {}
        for pattern in patterns:
            for name in names:
                if match := re.fullmatch(pattern, name):
                    wanted.setdefault(tuple(map(int, match.groups())), []).append(name)
        for numbers, traces in sorted(wanted.items()):
            found[title.format(*numbers)] = traces
    return found
