"""What `pleach export --system` writes, read as other tools do."""

import json
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pleach.engine.registers import REGISTERS
from pleach.errors import ConfigError
from pleach_cli.app import app
from pleach_hw.build.export import ports_of
from pleach_hw.build.system import ARTY, PINS, SYSTEM
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
