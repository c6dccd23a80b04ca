"""What `import pleach` gives."""

import inspect
import pkgutil

import pleach
from pleach.compression import compress


def test_no_module_hides_what_the_package_exports():
    """Importing a module binds its name in the package."""
    modules = {module.name for module in pkgutil.iter_modules(pleach.__path__)}
    assert not modules & set(pleach.__all__)
    for name in pleach.__all__:
        assert not inspect.ismodule(getattr(pleach, name))
    assert pleach.compress is compress
