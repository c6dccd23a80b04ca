"""For those who verify hardware of their own: vectors of every layer, and the network in C."""

from pleach.vectors.c_model import c_tables
from pleach.vectors.write import write_all

__all__ = ["c_tables", "write_all"]
