"""An engine in a system, for those who start elsewhere: Verilog, and what their tools read."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

import pleach
from pleach.engine import EngineConfig
from pleach.engine.headers import c_header, systemrdl
from pleach.engine.protocol import GATEWARE_VERSION, Command, EngineError, command_word
from pleach.engine.registers import ADDRESS_BITS, BY_NAME, IDENTITY, REGISTERS, Access
from pleach.files import write_whole
from pleach_hw.build.export import commented, ports_of, to_verilog
from pleach_hw.system import System
from pleach_hw.system.arty import ArtyTop

#: module and name of the system, module of the Arty's top
SYSTEM, ARTY = "pleach_system", "arty_a7"
#: vendor, library and version in the names of FuseSoC, IP-XACT and Vivado
VENDOR, LIBRARY, VERSION = "pleach", "user", "1.0"
PART = "xc7a35ticsg324-1L"
#: pins of the Arty A7, from Digilent's reference manual
PINS = {"clk100": "E3", "rst_n": "C2", "uart_rx": "A9", "uart_tx": "D10", "led": "H5"}


def write_system(
    config: EngineConfig,
    folder: str | Path,
    *,
    flash: int | None = None,
    divider: int = 2,
    notes: Sequence[str] = (),
) -> list[Path]:
    """Write a `System` into a folder, and an engine for the Arty A7.

    Args:
        config: of the engine.
        folder: made where it is not there.
        flash, divider: of `System`.
        notes: lines for the header of the Verilog.

    Returns:
        The files: two of Verilog, a header for C, SystemRDL, a core of FuseSoC, IP-XACT, scripts
        for Vivado, pins, a class for PYNQ.

    Raises:
        ValueError: an address in the flash, or a divider, that cannot be.
        ToolError: Yosys refused.
    """
    system = to_verilog(System(config, flash=flash, divider=divider), SYSTEM)
    arty = to_verilog(ArtyTop(config), ARTY)
    about = [f"Pleach {pleach.__version__}, gateware version {GATEWARE_VERSION}."]
    about += [f"An engine with {config.pes} PEs: {config}", *notes]
    where = [] if flash is None else [f"It loads itself from byte {flash:#x} of the flash."]
    texts = {
        f"{SYSTEM}.v": commented(
            [f"Module {SYSTEM}: AXI4-Stream, registers on AXI4-Lite, interrupt.", *about, *where],
            system,
        ),
        f"{ARTY}.v": commented(
            [f"Module {ARTY}: at the serial port, with the board's 100 MHz.", *about], arty
        ),
        "pleach.h": c_header(),
        "pleach.rdl": systemrdl(),
        f"{SYSTEM}.core": fusesoc_core(),
        "component.xml": ip_xact(system, config),
        f"{ARTY}.xdc": xdc(),
        f"{ARTY}.tcl": arty_script(),
        "package_ip.tcl": package_script(),
        "pleach_pynq.py": pynq_class(),
    }
    return [write_whole(Path(folder, name), text) for name, text in texts.items()]


def fusesoc_core() -> str:
    """A core of FuseSoC (CAPI 2): the system to depend on, to lint, and the Arty's bitstream."""
    return f"""\
CAPI=2:

name: {VENDOR}:{LIBRARY}:{SYSTEM}:{VERSION}
description: Engine for compressed neural networks, on AXI4

filesets:
  rtl:
    files:
      - {SYSTEM}.v: {{file_type: verilogSource}}
  {ARTY}:
    files:
      - {ARTY}.v: {{file_type: verilogSource}}
      - {ARTY}.xdc: {{file_type: xdc}}

targets:
  default:
    filesets: [rtl]
    toplevel: {SYSTEM}
  lint:
    flow: lint
    flow_options: {{tool: verilator}}
    filesets: [rtl]
    toplevel: {SYSTEM}
  {ARTY}:
    flow: vivado
    flow_options: {{part: {PART}}}
    filesets: [{ARTY}]
    toplevel: {ARTY}
"""


def xdc() -> str:
    """Pins and clock of the Arty's top."""
    lines = ["# Arty A7, pins of module arty_a7."]
    for port, pin in PINS.items():
        lines.append(
            f"set_property -dict {{PACKAGE_PIN {pin} IOSTANDARD LVCMOS33}} [get_ports {port}]"
        )
    lines += [
        "create_clock -name clk100 -period 10.000 [get_ports clk100]",
        "set_false_path -from [get_ports {rst_n uart_rx}]",
        "set_false_path -to [get_ports {uart_tx led}]",
        "set_property CFGBVS VCCO [current_design]",
        "set_property CONFIG_VOLTAGE 3.3 [current_design]",
    ]
    return "\n".join([*lines, ""])


def arty_script() -> str:
    """A bitstream for the Arty, by Vivado without a project."""
    return f"""\
# vivado -mode batch -source {ARTY}.tcl
read_verilog {ARTY}.v
read_xdc {ARTY}.xdc
synth_design -top {ARTY} -part {PART}
opt_design
place_design
route_design
report_utilization -file {ARTY}_utilization.txt
report_timing_summary -file {ARTY}_timing.txt
write_bitstream -force {ARTY}.bit
"""


def package_script() -> str:
    """The system as an IP of Vivado's catalogue, for a block design of a Zynq."""
    return f"""\
# vivado -mode batch -source package_ip.tcl
# Then add this folder to a project's IP repositories. Vivado finds the interfaces s_axil, s_axis
# and m_axis by the names of their signals.
create_project -in_memory -part xc7z020clg400-1
add_files {SYSTEM}.v
set_property top {SYSTEM} [current_fileset]
ipx::package_project -root_dir ip -vendor {VENDOR} -library {LIBRARY} -taxonomy /UserIP \\
  -import_files
set core [ipx::current_core]
set_property name {SYSTEM} $core
set_property version {VERSION} $core
ipx::associate_bus_interfaces -busif s_axil -clock clk $core
ipx::associate_bus_interfaces -busif s_axis -clock clk $core
ipx::associate_bus_interfaces -busif m_axis -clock clk $core
ipx::create_xgui_files $core
ipx::update_checksums $core
ipx::save_core $core
"""


def pynq_class() -> str:
    """A driver in the manner of PYNQ, which needs nothing of Pleach on the board."""
    state = {name: 1 << low for name, low, _ in BY_NAME["state"].fields()}
    registers = (f'    "{r.name}": {r.offset:#05x},' for r in REGISTERS)
    errors = (f'    {e.value}: "{e.name}, {e.meaning}",' for e in EngineError if e)
    values = {
        "VERSION": pleach.__version__,
        "REGISTERS": "\n".join(registers),
        "IDENTITY": f"{IDENTITY:#x}",
        "GATEWARE": str(GATEWARE_VERSION),
        "READY": f"{state['packet_ready']:#x}",
        "VALID": f"{state['answer_valid']:#x}",
        "LAST": f"{state['answer_last']:#x}",
        "LOAD": f"{command_word(Command.LOAD):#x}",
        "RUN": f"{command_word(Command.RUN):#x}",
        "STATUS": f"{command_word(Command.STATUS):#x}",
        "ERRORS": "\n".join(errors),
    }
    text = Path(__file__).with_name("pynq.txt").read_text("utf-8")
    return re.sub(r"@(\w+)@", lambda found: values[found[1]], text)


_SPIRIT = "http://www.accellera.org/XMLSchema/IPXACT/1685-2014"
#: interfaces: name, vendor, library and name of the bus, whether the system is its initiator
_INTERFACES = (
    ("s_axil", "amba.com", "AMBA4", "AXI4-Lite", False),
    ("s_axis", "amba.com", "AMBA4", "AXI4Stream", False),
    ("m_axis", "amba.com", "AMBA4", "AXI4Stream", True),
)


def ip_xact(verilog: str, config: EngineConfig) -> str:
    """A component of IP-XACT (IEEE 1685-2014): interfaces, registers, ports, the file."""
    ElementTree.register_namespace("ipxact", _SPIRIT)

    def add(parent: ElementTree.Element, tag: str, text: object = None, **attributes: str):
        made = ElementTree.SubElement(
            parent, f"{{{_SPIRIT}}}{tag}", {f"{{{_SPIRIT}}}{k}": v for k, v in attributes.items()}
        )
        made.text = None if text is None else str(text)
        return made

    root = ElementTree.Element(f"{{{_SPIRIT}}}component")
    for tag, text in (
        ("vendor", VENDOR), ("library", LIBRARY), ("name", SYSTEM), ("version", VERSION),
    ):  # fmt: skip
        add(root, tag, text)
    ports = ports_of(verilog, SYSTEM)
    interfaces = add(root, "busInterfaces")
    for name, vendor, library, bus, initiator in _INTERFACES:
        interface = add(interfaces, "busInterface")
        add(interface, "name", name)
        version = {"vendor": vendor, "library": library, "version": "r0p0_0"}
        add(interface, "busType", name=bus, **version)
        abstraction = add(add(interface, "abstractionTypes"), "abstractionType")
        add(abstraction, "abstractionRef", name=f"{bus}_rtl", **version)
        maps = add(abstraction, "portMaps")
        for port in ports:
            if port.startswith(f"{name}_"):
                pair = add(maps, "portMap")
                add(add(pair, "logicalPort"), "name", port.removeprefix(f"{name}_").upper())
                add(add(pair, "physicalPort"), "name", port)
        side = add(interface, "master" if initiator else "slave")
        if name == "s_axil":
            add(side, "memoryMapRef", memoryMapRef="registers")
    _add_registers(add, root, config)
    model = add(root, "model")
    view = add(add(model, "views"), "view")
    add(view, "name", "verilog")
    add(view, "componentInstantiationRef", "verilog")
    made = add(add(model, "instantiations"), "componentInstantiation")
    add(made, "name", "verilog")
    add(made, "language", "verilog")
    add(made, "moduleName", SYSTEM)
    add(add(made, "fileSetRef"), "localName", "verilog")
    described = add(model, "ports")
    for name, (flow, width) in ports.items():
        port = add(described, "port")
        add(port, "name", name)
        wire = add(port, "wire")
        add(wire, "direction", flow)
        if width > 1:
            vector = add(add(wire, "vectors"), "vector")
            add(vector, "left", width - 1)
            add(vector, "right", 0)
    files = add(add(root, "fileSets"), "fileSet")
    add(files, "name", "verilog")
    file = add(files, "file")
    add(file, "name", f"{SYSTEM}.v")
    add(file, "fileType", "verilogSource")
    ElementTree.indent(root)
    return ElementTree.tostring(root, "unicode", xml_declaration=True) + "\n"


_ACCESS = {
    Access.READ: "read-only",
    Access.WRITE: "write-only",
    Access.BOTH: "read-write",
    Access.CLEAR: "read-write",
}


def _add_registers(add, root: ElementTree.Element, config: EngineConfig) -> None:
    memory = add(add(root, "memoryMaps"), "memoryMap")
    add(memory, "name", "registers")
    block = add(memory, "addressBlock")
    add(block, "name", "registers")
    add(block, "baseAddress", "'h0")
    add(block, "range", 1 << ADDRESS_BITS)
    add(block, "width", 32)
    for register in REGISTERS:
        described = add(block, "register")
        add(described, "name", register.name)
        add(described, "description", register.meaning)
        if register.count > 1:
            add(described, "dim", config.layers)
        add(described, "addressOffset", f"'h{register.offset:x}")
        add(described, "size", 32)
        add(described, "access", _ACCESS[register.access])
        for name, low, width in register.fields():
            field = add(described, "field")
            add(field, "name", name)
            add(field, "description", register.meanings[name])
            add(field, "bitOffset", low)
            add(field, "bitWidth", width)
            if register.access is Access.CLEAR:
                add(field, "modifiedWriteValue", "oneToClear")
    add(memory, "addressUnitBits", 8)
