"""The page itself: one file of HTML that needs nothing else."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from pleach.cycles import BREAKDOWN
from pleach.files import write_whole
from pleach.metrics import BY_NAME
from pleach.page import svg
from pleach.page.facts import PICTURES, Facts

#: what the cycles of a layer are spent on, for a reader
SPENT = dict(
    zip(
        BREAKDOWN,
        (
            "a column is broadcast",
            "stalled: a queue is full",
            "starved: no activation is there",
            "finishing the last products",
            "draining sums",
        ),
        strict=True,
    )
)


@dataclass(frozen=True, eq=False)
class Page:
    """A network's facts as a page; it shows itself in a notebook.

    The page holds all that it shows, runs no code but the sorting of tables, and asks for nothing
    from elsewhere.
    """

    facts: Facts

    def html(self) -> str:
        """The whole page."""
        return _template("page.html").render(title=self.facts.file.file, body=self.body())

    def body(self) -> Markup:
        """What stands between the page's head and its end."""
        return Markup(
            _template("body.html").render(
                facts=self.facts,
                svg=svg,
                titles={name: metric.title for name, metric in BY_NAME.items()},
                spent=SPENT,
                kinds=tuple(SPENT.values()),
                longest=max(sum(layer.bits.values()) for layer in self.facts.layers),
                engine=self._engine(),
                changed=self._changed(),
                wrong=self._wrong(),
            )
        )

    def _engine(self) -> str:
        runs = self.facts.runs
        given = {} if runs is None else asdict(runs.engine)
        return " ".join(f"{name}={str(value).lower()}" for name, value in given.items())

    def _changed(self) -> list[tuple[int, str]]:
        """Numbers and words of the inputs that are shown because they changed class."""
        labels = self.facts.labels or {}
        found = []
        for number, before, said in self.facts.changed[:PICTURES]:
            is_ = f", is {labels[number]}" if number in labels else ""
            found.append((number, f"{before} → {said}{is_}"))
        return self._pictured(found)

    def _wrong(self) -> list[tuple[int, str]]:
        labels = self.facts.labels or {}
        return self._pictured(
            [(number, f"{labels[number]} as {said}") for number, said in self.facts.wrong]
        )[:PICTURES]

    def _pictured(self, found: list[tuple[int, str]]) -> list[tuple[int, str]]:
        pictures = self.facts.pictures or {}
        return [each for each in found if each[0] in pictures]

    def write(self, path: str | Path) -> None:
        """Write the page; the file appears whole or not at all."""
        write_whole(path, self.html().encode())

    def _repr_html_(self) -> str:
        style = _template("style.css").render()
        return f"<style>{style}</style><div class='pleach'>{self.body()}</div>"


@cache
def _template(name: str) -> Template:
    """One of the files beside this one; what it puts in is escaped."""
    here = Path(__file__).parent
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    style = Markup((here / "style.css").read_text("utf-8"))
    return environment.from_string((here / name).read_text("utf-8"), globals={"style": style})
