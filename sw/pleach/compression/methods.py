"""Every method that there is, found in the families of kinds: what it is from, needs and is for."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, cast

from torch import nn

from pleach.compression.kinds import Kinds
from pleach.models import networks

#: a kind's setting, where settings name it; others are arguments of steps, or functions
SETTINGS = {
    "criterion": "prune.criterion",
    "granularity": "prune.granularity",
    "allocation": "prune.scope",
    "schedule": "prune.schedule",
    "quantiser": "share.quantiser",
    "activation": "share.activations",
    "regulariser": "prune.train.regularisers",
    "factoriser": "Factorise(factoriser)",
    "teacher": "compress(teacher=)",
    "network": "pleach.models",
}
#: the order of the page
KINDS = tuple(SETTINGS)
#: of the page's lines
WIDTH = 120
#: how a paragraph begins that says when to use a method
USE = "Use it"


@dataclass(frozen=True)
class Method:
    """One method.

    Args:
        name: in settings; of a network the function's.
        kind: the family, as its decorator is called: ``criterion``, ``granularity``,
            ``allocation``, ``schedule``, ``quantiser``, ``activation``, ``regulariser``,
            ``factoriser``, ``teacher``, or ``network``.
        source: the paper that it is from.
        title: one line.
        text: what it does, from its docstring.
        use: when to use it, from its docstring.
        needs: what it has to see or be given, and what it goes with alone.
        settings: by name, its default; None where it has to be given.
        module: where its code is.
    """

    name: str
    kind: str
    source: str
    title: str
    text: str
    use: str
    needs: tuple[str, ...]
    settings: dict[str, Any]
    module: str

    def as_json(self) -> dict[str, Any]:
        """For a command's answer."""
        settings = {
            key: value if isinstance(value, int | float | str | None) else str(value)
            for key, value in self.settings.items()
        }
        return {
            "name": self.name,
            "kind": self.kind,
            "source": self.source,
            "title": self.title,
            "use": self.use,
            "needs": list(self.needs),
            "settings": settings,
            "setting": SETTINGS.get(self.kind),
        }


def families() -> dict[str, Kinds]:
    """The families of `pleach.compression`, by the name of their decorator."""
    package = importlib.import_module("pleach.compression")
    found = {}
    for folder in pkgutil.iter_modules(package.__path__):
        if folder.ispkg:
            module = importlib.import_module(f"{package.__name__}.{folder.name}")
            for family in [value for value in vars(module).values() if isinstance(value, Kinds)]:
                for name, value in vars(module).items():
                    if inspect.ismethod(value) and value.__self__ is family:
                        found[name] = family
    rank = {kind: number for number, kind in enumerate(KINDS)}
    return dict(sorted(found.items(), key=lambda item: rank.get(item[0], len(rank))))


def methods() -> list[Method]:
    """All that Pleach has, by kind and name.

    >>> {"magnitude", "obs", "kmeans", "svd", "lenet_5"} <= {method.name for method in methods()}
    True
    """
    found = [
        _of_class(kind, name, family.classes[name])
        for kind, family in families().items()
        for name in family.names()
        if family.classes[name].__module__.startswith("pleach.")  # none of a user's own
    ]
    return found + list(_networks())


def _of_class(kind: str, name: str, given: type) -> Method:
    module = inspect.getdoc(importlib.import_module(given.__module__)) or ""
    title = module.split("\n\n")[0].replace("\n", " ").rstrip(".")
    text, use = _parts(inspect.getdoc(given) or "")
    settings = {}
    if is_dataclass(given):
        for field in fields(cast(Any, given)):
            if field.init:
                value = None if field.default is MISSING else field.default
                settings[field.name] = getattr(value, "kind", value)
    source = getattr(given, "source", "")
    return Method(
        name,
        kind,
        source if isinstance(source, str) and source else _bracketed(title),
        _unbracketed(title),
        text,
        use,
        tuple(_needs(given, settings)),
        settings,
        given.__module__,
    )


def _networks() -> Iterator[Method]:
    """The functions of `pleach.models.networks` that make one."""
    for name, function in sorted(vars(networks).items()):
        if name.startswith("_") or not inspect.isfunction(function):
            continue
        if function.__module__ != networks.__name__:
            continue
        made = inspect.signature(function, eval_str=True)
        if isinstance(made.return_annotation, type) and issubclass(
            made.return_annotation, nn.Module
        ):
            title, *_ = (inspect.getdoc(function) or "").split("\n\n")
            title = " ".join(title.split()).rstrip(".")
            text, use = _parts(inspect.getdoc(function) or "")
            settings = {
                key: None if value.default is value.empty else value.default
                for key, value in made.parameters.items()
            }
            yield Method(
                name,
                "network",
                _bracketed(title),
                _unbracketed(title),
                text,
                use,
                tuple(f"{key} (given)" for key, value in settings.items() if value is None),
                settings,
                networks.__name__,
            )


def _needs(given: type, settings: dict[str, Any]) -> Iterator[str]:
    """What a class has to see or be given."""
    for each in sorted(getattr(given, "needs", ()), key=lambda need: need.value):
        yield each.name.lower()
    if getattr(given, "looks", False):
        yield "samples"
    if granularities := getattr(given, "granularities", ()):
        yield "granularity " + " or ".join(granularities)
    for name, value in settings.items():
        if value is None and _required(given, name):
            yield f"{name} (given)"


def _required(given: type, name: str) -> bool:
    field = next(field for field in fields(cast(Any, given)) if field.name == name)
    return field.default is MISSING and field.default_factory is MISSING


def _parts(doc: str) -> tuple[str, str]:
    """What a docstring says before its arguments, without and of its use; one line a paragraph."""
    before = re.split(r"\n\n(?:Args|Attributes|Raises|Returns):|\n\n>>>", doc)[0]
    paragraphs = [" ".join(each.split()) for each in before.split("\n\n")]
    use = [each for each in paragraphs if each.startswith(USE)]
    return "\n\n".join(p for p in paragraphs if p not in use), " ".join(use)


def _bracketed(title: str) -> str:
    """The source in a title: ``Gradual pruning (Zhu and Gupta 2017)``."""
    found = re.search(r"\(([^()]*\d{4}[^()]*)\)", title)
    return found[1] if found else ""


def _unbracketed(title: str) -> str:
    return title.replace(f" ({_bracketed(title)})", "").strip() if _bracketed(title) else title


def page() -> str:
    """docs/methods.md."""
    found = methods()
    lines = [
        "# Methods",
        "",
        "Every method that Pleach knows, what it is from, what it needs and when to use it. "
        "`pleach methods` lists them, and",
        "`pleach methods --page` made this page from the code, where each is one file. "
        "[Compression](compression.md) says how they fit",
        "together, [how to add a criterion](how-to/criterion.md) and "
        "[a quantiser](how-to/quantiser.md) how to add one.",
        "",
    ]
    for kind in dict.fromkeys(method.kind for method in found):
        own = [method for method in found if method.kind == kind]
        lines += [f"## {kind.capitalize()}", ""]
        if where := SETTINGS.get(kind):
            lines += [f"Set by `{where}`.", ""]
        lines += ["| name | what | source | needs |", "|---|---|---|---|"]
        for method in own:
            cells = (f"`{method.name}`", method.title, method.source, ", ".join(method.needs))
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
        for method in own:
            lines += [f"### {kind} `{method.name}`", "", _markdown(method.text), ""]
            if method.use:
                lines += [_markdown(f"**When.** {method.use}"), ""]
            if method.settings:
                shown = ", ".join(_setting(method, name) for name in method.settings)
                lines += [_markdown(f"Settings: {shown}."), ""]
    return "\n".join(lines).rstrip() + "\n"


def _setting(method: Method, name: str) -> str:
    value = method.settings[name]
    if f"{name} (given)" in method.needs:
        return f"`{name}`"
    shown = "none" if value is None else value if isinstance(value, str) else repr(value).lower()
    return f"`{name} = {shown}`"


def _markdown(text: str) -> str:
    """A docstring's text: what stands in two backquotes there stands in one here."""
    paragraphs = text.replace("``", "`").split("\n\n")
    return "\n\n".join(
        textwrap.fill(each, WIDTH, break_long_words=False, break_on_hyphens=False)
        for each in paragraphs
    )
