"""Settings from tables: kinds are not mixed up."""

import pytest

from pleach.compression import CompressConfig
from pleach.engine import EngineConfig
from pleach.errors import ConfigError
from pleach.settings import from_dict, from_toml


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"pes": True}, "pes must be an integer, not True"),
        ({"pes": 4.0}, "pes must be an integer, not 4.0"),
        ({"serial_loader": 1}, "serial_loader must be true or false, not 1"),
    ],
)
def test_kinds(table, says):
    with pytest.raises(ConfigError, match=says):
        from_dict(EngineConfig(), table)


def test_what_is_no_text_is_not_toml(tmp_path):
    (tmp_path / "dig.pleach").write_bytes(b"PLEA\xff\xfe")
    for default in (EngineConfig(), CompressConfig()):
        with pytest.raises(ConfigError, match=r"dig\.pleach is not a TOML file"):
            from_toml(default, tmp_path / "dig.pleach")


def test_a_setting_that_with_does_not_have():
    with pytest.raises(ConfigError, match="no setting densty: did you mean 'density'"):
        CompressConfig().with_(densty=0.5)


def test_a_power_of_two_is_offered():
    for value, after in ((100, 128), (65, 128), (127, 128)):
        with pytest.raises(ConfigError, match=f"power of two, not {value}: {after} is the next"):
            EngineConfig(entries=value)
