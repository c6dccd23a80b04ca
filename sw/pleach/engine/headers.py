"""The registers as other tools read them: a header for C, SystemRDL.

python -m pleach.engine.headers pleach.h    # write the header
"""

from __future__ import annotations

import sys
from pathlib import Path

from pleach.engine.protocol import GATEWARE_VERSION, Boot, Command, EngineError, command_word
from pleach.engine.registers import BANK_VERSION, BY_NAME, IDENTITY, REGISTERS, Access, Register


def c_header() -> str:
    """`REGISTERS`, the commands and the errors as macros.

    >>> [line for line in c_header().splitlines() if "PACKET_READY" in line]
    ['#define PLEACH_STATE_PACKET_READY_LSB 0', '#define PLEACH_STATE_PACKET_READY_MASK 0x1u']
    """
    lines = [
        "/* Registers of a Pleach engine on AXI4-Lite: bytes from the bank's start, lowest bits",
        "   and masks of fields, values. docs/registers.md of Pleach says what each is. */",
        "#ifndef PLEACH_H",
        "#define PLEACH_H",
        "",
        f"#define PLEACH_IDENTITY_VALUE {IDENTITY:#010x}u",
        f"#define PLEACH_GATEWARE_VERSION {GATEWARE_VERSION}",
        f"#define PLEACH_BANK_VERSION {BANK_VERSION}",
    ]
    for register in REGISTERS:
        name = f"PLEACH_{register.name.upper()}"
        lines += ["", f"/* {register.meaning} ({register.access}) */"]
        lines.append(f"#define {name} {register.offset:#05x}")
        if register.count > 1:
            lines.append(f"#define {name}_COUNT {register.count}")
        for field, low, width in register.fields():
            macro = f"{name}_{field.upper()}"
            lines.append(f"#define {macro}_LSB {low}")
            lines.append(f"#define {macro}_MASK {(1 << width) - 1 << low:#x}u")
    lines += ["", "/* First words of packets. */"]
    lines += [f"#define PLEACH_COMMAND_{c.name} {command_word(c):#010x}u" for c in Command]
    lines += ["", "/* last_answer.error, load_error: why the engine refused. */"]
    lines += [f"#define PLEACH_ERROR_{e.name} {e.value}" for e in EngineError]
    lines += ["", "/* boot: what became of a network in flash. */"]
    lines += [f"#define PLEACH_BOOT_{b.name} {b.value}" for b in Boot]
    return "\n".join([*lines, "", "#endif", ""])


#: SystemRDL's properties of a field, for software and for hardware
_PROPERTIES = {
    Access.READ: "sw = r; hw = w;",
    Access.WRITE: "sw = w; hw = r;",
    Access.BOTH: "sw = rw; hw = r; reset = 0;",
    Access.CLEAR: "sw = rw; hw = r; reset = 0; onwrite = woclr; hwset;",
}
#: an access to these does more than to read or write what is held
_EXTERNAL = ("packet_word", "packet_last", "answer_word")


def systemrdl() -> str:
    """`REGISTERS` as an address map ``pleach``."""
    lines = [
        "// Registers of a Pleach engine on AXI4-Lite; docs/registers.md.",
        "addrmap pleach {",
        '  name = "Pleach engine";',
        "  default regwidth = 32;",
        "  default accesswidth = 32;",
    ]
    for register in REGISTERS:
        lines += _rdl_register(register)
    return "\n".join([*lines, "};", ""])


def _rdl_register(register: Register) -> list[str]:
    external = "external " if register.name in _EXTERNAL else ""
    lines = [f"  {external}reg {{", f"    desc = {_quoted(register.meaning)};"]
    for name, low, width in register.fields():
        properties = _PROPERTIES[register.access]
        if register is BY_NAME["control"]:
            properties += " singlepulse; reset = 0;"
        desc = _quoted(register.meanings[name])
        lines.append(
            f"    field {{ {properties} desc = {desc}; }} {name}[{low + width - 1}:{low}];"
        )
    many = f"[{register.count}]" if register.count > 1 else ""
    step = " += 4" if register.count > 1 else ""
    return [*lines, f"  }} {register.name}{many} @ {register.offset:#05x}{step};"]


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(c_header(), "utf-8")
