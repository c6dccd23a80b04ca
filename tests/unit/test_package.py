"""What `import pleach` gives."""

import inspect
import pkgutil
import subprocess
import sys

import pytest

import pleach
from pleach.compression import compress


def test_no_module_hides_what_the_package_exports():
    """Importing a module binds its name in the package."""
    modules = {module.name for module in pkgutil.iter_modules(pleach.__path__)}
    assert not modules & set(pleach.__all__)
    for name in pleach.__all__:
        assert not inspect.ismodule(getattr(pleach, name))
    assert pleach.compress is compress


def test_the_stub_names_every_package():
    """As `pleach.compile`, without an import of it: to users as to type checkers."""
    packages = {module.name for module in pkgutil.iter_modules(pleach.__path__) if module.ispkg}
    assert packages <= set(dir(pleach))
    for name in packages:
        assert inspect.ismodule(getattr(pleach, name))


def test_what_the_docs_write_is_there_after_import_pleach():
    for name in ("TrainConfig", "finish", "train", "TrainingError", "PleachWarning"):
        assert name in pleach.__all__ and name in dir(pleach)
    for name in ("compression", "metrics", "models", "data", "format", "reference"):
        assert inspect.ismodule(pleach.__getattr__(name)) and name in dir(pleach)
    assert pleach.compression.TrainConfig is pleach.TrainConfig
    with pytest.raises(AttributeError, match="no attribute 'compres'"):
        pleach.compres  # noqa: B018


def test_import_pleach_is_light():
    code = "import sys, pleach; pleach.metrics.ERROR; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
