"""Settings from tables: kinds are not mixed up."""

import pytest

from pleach.errors import ConfigError
from pleach.reference import EngineConfig
from pleach.settings import from_dict


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
