"""A compressed network on one page: what it weighs, what it computes, where its cycles go."""

from pleach.extras import need

need("jinja2", "markupsafe")

from pleach.page.facts import Facts, LayerFacts, Runs, macs_of_pes
from pleach.page.html import Page

__all__ = ["Facts", "LayerFacts", "Page", "Runs", "macs_of_pes"]
