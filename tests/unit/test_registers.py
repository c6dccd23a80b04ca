"""The registers of an engine on a bus, and what other tools read of them."""

import re
from pathlib import Path

import pytest

from pleach.engine.flash import IMAGE_MAX, flash_image
from pleach.engine.headers import c_header, systemrdl
from pleach.engine.protocol import STATUS_WORDS, Boot, Command, EngineError, command_word
from pleach.engine.registers import ADDRESS_BITS, BY_NAME, IDENTITY, REGISTERS, Access
from pleach.errors import FormatError


def test_each_register_has_a_place_and_each_field_a_meaning():
    places = [register.offset + 4 * at for register in REGISTERS for at in range(register.count)]
    assert len(set(places)) == len(places) and not any(place % 4 for place in places)
    assert max(places) < 1 << ADDRESS_BITS
    for register in REGISTERS:
        assert register.fields()
        for name, low, width in register.fields():
            assert register.meanings[name] and low + width <= 32
    words = [register.word for register in REGISTERS if register.name.startswith("status_")]
    assert words == list(STATUS_WORDS)
    assert BY_NAME["interrupt"].word.fields == BY_NAME["interrupt_enable"].word.fields


def test_the_header_for_c_says_the_same():
    macros = dict(re.findall(r"^#define PLEACH_(\w+) (\w+?)u?$", c_header(), re.M))
    values = {name: int(value, 0) for name, value in macros.items()}
    assert values.pop("IDENTITY_VALUE") == IDENTITY
    for register in REGISTERS:
        name = register.name.upper()
        assert values.pop(name) == register.offset
        for field, low, width in register.fields():
            assert values.pop(f"{name}_{field.upper()}_LSB") == low
            assert values.pop(f"{name}_{field.upper()}_MASK") == ((1 << width) - 1) << low
    for prefix, codes in (("ERROR", EngineError), ("BOOT", Boot)):
        for code in codes:
            assert values.pop(f"{prefix}_{code.name}") == code
    for command in Command:
        assert values.pop(f"COMMAND_{command.name}") == command_word(command)
    assert values.keys() == {"GATEWARE_VERSION", "BANK_VERSION", "COMPUTE_CYCLES_COUNT"}


def test_systemrdl_says_the_same(tmp_path):
    """Read by its own compiler."""
    systemrdl_compiler = pytest.importorskip("systemrdl")
    file = tmp_path / "pleach.rdl"
    file.write_text(systemrdl(), "utf-8")
    compiler = systemrdl_compiler.RDLCompiler()
    compiler.compile_file(str(file))
    found = list(compiler.elaborate().top.registers())
    access = {Access.READ: "r", Access.WRITE: "w", Access.BOTH: "rw", Access.CLEAR: "rw"}
    for node, register in zip(found, REGISTERS, strict=True):
        assert (node.inst_name, node.raw_address_offset) == (register.name, register.offset)
        assert (node.array_dimensions or [1]) == [register.count]
        assert [(f.inst_name, f.low, f.width) for f in node.fields()] == register.fields()
        for field in node.fields():
            assert field.get_property("sw").name == access[register.access]
            assert field.get_property("desc") == register.meanings[field.inst_name]


def test_the_page_s_diagram_is_the_gateware_s():
    timing = pytest.importorskip("pleach_hw.system.timing")
    page = (Path(__file__).parents[2] / "docs/registers.md").read_text("utf-8")
    assert timing.BEGIN in page
    assert timing.filled(page) == page, "python -m pleach_hw.system.timing docs/registers.md"


@pytest.mark.parametrize("length", [0, 3, IMAGE_MAX - 8])
def test_what_is_no_file_for_a_flash(length):
    with pytest.raises(FormatError, match=f"a file of {length} bytes is no bitstream for a flash"):
        flash_image(bytes(length))
    assert len(flash_image(bytes(IMAGE_MAX - 12))) == IMAGE_MAX
