"""What `pleach export --system` writes, read as other tools do."""

import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from pleach.engine.registers import REGISTERS, Access
from pleach.errors import ConfigError
from pleach_cli.app import app
from pleach_hw.build.export import ports_of
from pleach_hw.build.system import ARTY, PINS, SYSTEM
from pleach_sim.runner import run_cocotb
from tests.cocotb.system import ENGINE
from tests.cocotb.test_export import verilator

SMALL = replace(ENGINE, columns=16, entries=16, codebook=4, accumulators=4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("system")
    settings = [f"{name}={str(value).lower()}" for name, value in asdict(SMALL).items()]
    options = [word for setting in settings for word in ("--set", setting)]
    options += ["--system", str(folder), "--flash", "0x200000", "--json"]
    done = CliRunner().invoke(app, ["export", *options])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert (said["module"], said["engine"]) == (SYSTEM, asdict(SMALL))
    assert {*map(Path, said["files"])} == {*folder.iterdir()}
    return folder


def test_lint_has_nothing_to_say(folder):
    """The Arty's top with all that is in it, the system too."""
    done = verilator("--lint-only", "-Wall", f"{ARTY}.v", folder=folder)
    assert done.returncode == 0 and not re.findall("^%.*", done.stdout + done.stderr, re.M)
    for module in (SYSTEM, ARTY):
        text = (folder / f"{module}.v").read_text()
        assert text.startswith(f"// Module {module}: ") and "gateware version" in text


def test_ip_xact_has_the_ports_and_the_registers(folder):
    root = ElementTree.parse(folder / "component.xml").getroot()
    space = {"x": root.tag[1:].partition("}")[0]}
    ports = ports_of((folder / f"{SYSTEM}.v").read_text(), SYSTEM)
    found = {
        port.find("x:name", space).text: (
            port.find("x:wire/x:direction", space).text,
            int(port.findtext("x:wire/x:vectors/x:vector/x:left", "0", space)) + 1,
        )
        for port in root.iterfind("x:model/x:ports/x:port", space)
    }
    assert found == ports and {"s_axil_wstrb", "irq", "cs_n"} <= found.keys()
    mapped = {port.text for port in root.iterfind(".//x:physicalPort/x:name", space)}
    assert ports.keys() - mapped == {"clk", "rst", "irq", "cs_n", "sck", "copi", "cipo"}
    registers = list(root.iterfind(".//x:register", space))
    assert [(r.findtext("x:name", "", space), r.findtext("x:addressOffset", "", space))
            for r in registers] == [(r.name, f"'h{r.offset:x}") for r in REGISTERS]  # fmt: skip
    assert registers[-1].findtext("x:dim", "", space) == str(SMALL.layers)


def test_peakrdl_describes_the_same_registers(folder, tmp_path):
    """What its exporter writes of the SystemRDL says what our IP-XACT says."""
    rdl, ipxact = pytest.importorskip("systemrdl"), pytest.importorskip("peakrdl_ipxact")
    compiler = rdl.RDLCompiler()
    compiler.compile_file(str(folder / "pleach.rdl"))
    theirs = tmp_path / "theirs.xml"
    exporter = ipxact.IPXACTExporter(standard=ipxact.Standard.IEEE_1685_2014)
    exporter.export(compiler.elaborate(), str(theirs))

    def registers(file):
        found = ElementTree.parse(file).getroot().iterfind(".//{*}register")
        return [(*(r.findtext(f"{{*}}{tag}") for tag in ("name", "addressOffset", "size")),
                 [[f.findtext(f"{{*}}{tag}") for tag in ("name", "bitOffset", "bitWidth")]
                  for f in r.iterfind("{*}field")]) for r in found]  # fmt: skip

    assert len(registers(theirs)) == len(REGISTERS)
    assert registers(theirs) == registers(folder / "component.xml")


#: what the hardware gives and takes around PeakRDL's bank; registers for what it says
AROUND = """module around(
  input clk, input rst, {ports}
  input [2:0] happened, output [2:0] enabled,
  output logic [7:0] resets, output logic [63:0] words);
pleach_pkg::pleach__in_t i;
pleach_pkg::pleach__out_t o;
pleach bank(.*, .hwif_in(i), .hwif_out(o));
{values}
assign i.interrupt.answer.hwset = happened[0];
assign i.interrupt.error.hwset = happened[1];
assign i.interrupt.boot.hwset = happened[2];
assign enabled = {{o.interrupt_enable.boot.value, o.interrupt_enable.error.value,
                  o.interrupt_enable.answer.value}};
assign i.answer_word.rd_data = {answer};
logic [2:0] acknowledged;
assign {{i.packet_word.wr_ack, i.packet_last.wr_ack, i.answer_word.rd_ack}} = acknowledged;
always @(posedge clk) begin
  acknowledged <= {{o.packet_word.req & o.packet_word.req_is_wr,
                   o.packet_last.req & o.packet_last.req_is_wr,
                   o.answer_word.req & ~o.answer_word.req_is_wr}};
  if (o.packet_word.req) words[31:0] <= o.packet_word.wr_data;
  if (o.packet_last.req) words[63:32] <= o.packet_last.wr_data;
  if (o.control.reset.value) resets <= resets + 1;
  if (rst) resets <= 0;
end
endmodule
"""


@pytest.mark.timeout(300)
def test_peakrdls_own_bank(folder, tmp_path):
    """The bank that it makes of the SystemRDL answers as the table of registers says."""
    rdl, regblock = pytest.importorskip("systemrdl"), pytest.importorskip("peakrdl_regblock")
    from peakrdl_regblock.cpuif.axi4lite import AXI4Lite_Cpuif_flattened as Flattened
    from peakrdl_regblock.udps import ALL_UDPS

    compiler = rdl.RDLCompiler()
    for its_property in ALL_UDPS:
        compiler.register_udp(its_property)
    compiler.compile_file(str(folder / "pleach.rdl"))
    checked = {"cpuif_cls": Flattened, "err_if_bad_addr": True, "err_if_bad_rw": True}
    regblock.RegblockExporter().export(compiler.elaborate(), str(tmp_path), **checked)
    package, bank = ((tmp_path / f"pleach{end}.sv").read_text() for end in ("_pkg", ""))
    drawn = np.random.default_rng(1)
    given, values = [], {}
    for register in REGISTERS:
        many = register.count > 1
        for at in range(register.count if register.access is Access.READ else 0):
            fields = {n: int(drawn.integers(1 << width)) for n, _, width in register.fields()}
            values.setdefault(register.name, []).append(register.word.pack(**fields))
            if register.name != "answer_word":
                place = f"i.{register.name}{f'[{at}]' if many else ''}"
                given += [f"assign {place}.{n}.next = {value};" for n, value in fields.items()]
    ports = re.search(r"(?s)rst,\s*(.*?)\s*input pleach_pkg", bank)[1]
    around = AROUND.format(ports=ports, values="\n".join(given), answer=values["answer_word"][0])
    run_cocotb(
        package + bank + around,
        "around",
        "tests.cocotb.bench_peakrdl",
        parameters={"values": values},
        python_path=Path(__file__).parents[2],
        ports=("s_axil_*", "happened", "enabled", "resets", "words"),
    )


def test_pins_of_the_arty(folder):
    ports = ports_of((folder / f"{ARTY}.v").read_text(), ARTY)
    assert ports.keys() == PINS.keys()
    text = (folder / f"{ARTY}.xdc").read_text()
    located = re.findall(r"PACKAGE_PIN (\w+) IOSTANDARD LVCMOS33} \[get_ports (\w+)\]", text)
    assert {port: pin for pin, port in located} == PINS
    boards = pytest.importorskip("amaranth_boards.arty_a7")
    resources = {(r.name, r.number): r for r in boards.ArtyA7_35Platform.resources}
    uart = {part.name: part.ios[0].names for part in resources["uart", 0].ios}
    known = {name: resources[name, 0].ios[0].names for name in ("clk100", "rst", "led")}
    pins = {name: [pin] for name, pin in PINS.items()}
    assert (pins["uart_rx"], pins["uart_tx"]) == (uart["rx"], uart["tx"])
    assert (pins["clk100"], pins["rst_n"], pins["led"]) == (*known.values(),)


def test_the_scripts_are_tcl(folder):
    """Each command ends, and names files that are there."""
    if not shutil.which("tclsh"):
        pytest.skip("no tclsh")
    script = "proc unknown {args} { puts $args; return x }\nforeach f $argv { source $f }\n"
    (folder / "lint.tcl").write_text(script)
    files = [f"{ARTY}.tcl", "package_ip.tcl", f"{ARTY}.xdc"]
    done = subprocess.run(["tclsh", "lint.tcl", *files], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    read = re.findall(r"^(?:read_verilog|read_xdc|add_files) (\S+)$", done.stdout, re.M)
    assert len(read) == 3 and all((folder / name).exists() for name in read)
    core = (folder / f"{SYSTEM}.core").read_text()
    named = re.findall(r"- (\S+\.\w+): ", core)
    assert len(named) == 3 and all((folder / name).exists() for name in named)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--flash", "0x100"], "--flash is of a system"),
        (["--flash", "0x1000000", "--system", "s"], "an address of 24 bits, such as 0x200000"),
        (["--flash", "there", "--system", "s"], "an address of 24 bits"),
    ],
)
def test_what_is_no_flash(options, words):
    done = CliRunner().invoke(app, ["export", *options])
    assert isinstance(done.exception, ConfigError) and words in str(done.exception)
