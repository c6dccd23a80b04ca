"""What the engine says of itself: parameters, codes and status words, and the pages' tables."""

import copy
import pickle
from dataclasses import fields
from pathlib import Path

import pytest

from pleach.engine import EngineConfig
from pleach.engine.config import PARAMETERS
from pleach.engine.protocol import (
    RESPONSE_WORD,
    STATUS_MEANINGS,
    STATUS_WORDS,
    Command,
    EngineError,
    Resource,
    Status,
)
from pleach.engine.tables import TABLES, filled, main
from pleach.errors import ConfigError

PAGES = sorted((Path(__file__).parents[2] / "docs").rglob("*.md"))


def test_the_pages_tables_are_the_code_s():
    texts = [page.read_text("utf-8") for page in PAGES]
    for page, text in zip(PAGES, texts, strict=True):
        assert filled(text) == text, f"python -m pleach.engine.tables {page}"
    for name in TABLES:
        assert sum(f"<!-- generated: {name} -->" in text for text in texts) == 1


def test_tables_are_filled_in(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- generated: errors -->\n<!-- end -->\nb\n", "utf-8")
    main([str(page)])
    lines = page.read_text("utf-8").splitlines()
    assert (lines[0], lines[1], lines[-1]) == ("a", "<!-- generated: errors -->", "b")
    assert lines[4].startswith("| 0 | OK |") and len(lines) == 6 + len(EngineError)
    assert not capsys.readouterr().out
    main([])
    assert capsys.readouterr().out == "\n\n".join(make() for make in TABLES.values()) + "\n"


def test_every_parameter_has_a_range_and_its_default_is_in_it():
    assert list(PARAMETERS) == [each.name for each in fields(EngineConfig)]
    for each in fields(EngineConfig):
        parameter = PARAMETERS[each.name]
        assert parameter.low <= each.default <= parameter.high
        assert not parameter.power_of_two or int(each.default).bit_count() <= 1


@pytest.mark.parametrize("name", [name for name in PARAMETERS if name != "serial_loader"])
def test_ranges_are_kept(name):
    low, high, _, power_of_two = PARAMETERS[name]
    # The largest engine in all else, so that what depends on another parameter does not bind.
    others = {"pes": 64, "lanes": 64, "maps": 4096}
    for value in (low, high):
        assert getattr(EngineConfig(**others | {name: value}), name) == value
    for value in (low - 1, high + 1, 2 * high):
        with pytest.raises(ConfigError, match=str(value)):
            EngineConfig(**others | {name: value})
    if power_of_two and high > 2:
        with pytest.raises(ConfigError, match="power of two"):
            EngineConfig(**others | {name: high - 1})


def test_codes_are_numbers_with_meanings():
    assert EngineError(13) is EngineError.CAPACITY and EngineError.CAPACITY == 13
    assert copy.deepcopy(EngineError.DATA) is pickle.loads(pickle.dumps(EngineError.DATA))
    for codes in (EngineError, Resource):
        assert [code.value for code in codes] == list(range(len(codes)))
        assert all(code.meaning for code in codes)
    assert all(resource.parameter in PARAMETERS for resource in Resource)
    fields_ = RESPONSE_WORD.fields
    assert max(EngineError) < 1 << fields_["error"] and max(Command) < 1 << fields_["command"]


def test_status_words_are_parameters_or_said_what_they_are():
    names = [name for word in STATUS_WORDS for name in word.fields if name != "_"]
    assert len(set(names)) == len(names)
    assert set(names) <= set(PARAMETERS) | set(STATUS_MEANINGS)
    assert set(STATUS_MEANINGS) <= set(names)


def test_status_unpacks_every_field():
    values = {}
    for word in STATUS_WORDS:
        for name, width in word.fields.items():
            if name != "_":
                values[name] = (1 << width) - len(values) % 2 - 1
    values["load_error"] = EngineError.DATA
    packed = [
        word.pack(**{name: values[name] for name in word.fields if name != "_"})
        for word in STATUS_WORDS
    ]
    status = Status.unpack([*packed, 3, 4, 5])
    for name, value in values.items():
        assert getattr(status, name) == value
    assert status.load_error is EngineError.DATA
    assert status.compute_cycles == (3, 4, 5)
    assert status == pickle.loads(pickle.dumps(status)) == copy.deepcopy(status)
    with pytest.raises(AttributeError, match="no field 'cycles'"):
        _ = status.cycles
