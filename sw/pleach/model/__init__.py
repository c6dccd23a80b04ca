"""The compressed network: integers, codebooks and how they are joined, nothing else.

Everything upstream (training, pruning, sharing) ends in a `CompressedModel`; everything downstream
(file, reference, engine) starts from one and is exact.
"""

from pleach.model.graph import Graph, Node, takers
from pleach.model.network import CompressedModel, network_line
from pleach.model.ops import Add, AveragePool, Clip, Concat, MaxPool, Op, Pool
from pleach.model.weights import (
    Activation,
    CompressedLayer,
    Convolution,
    InputType,
    Skip,
    accumulator_bits,
)
from pleach.model.window import Shape, Window

__all__ = [
    "Activation",
    "Add",
    "AveragePool",
    "Clip",
    "CompressedLayer",
    "CompressedModel",
    "Concat",
    "Convolution",
    "Graph",
    "InputType",
    "MaxPool",
    "Node",
    "Op",
    "Pool",
    "Shape",
    "Skip",
    "Window",
    "accumulator_bits",
    "network_line",
    "takers",
]
