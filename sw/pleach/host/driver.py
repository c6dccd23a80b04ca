"""An engine as a host sees it: load a network, run inputs, read the status."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from pleach.arrays import as_array
from pleach.engine.protocol import STATUS_WORDS, Command, EngineError, Resource, Status
from pleach.errors import EngineRefused, LinkError, ModelError
from pleach.format import Interface, dumps, interface, naming
from pleach.host.packets import Answer, load_packet, run_packet, status_packet
from pleach.model import CompressedModel


class Link(Protocol):
    """What carries packets to an engine and its answers back, both as 32-bit words."""

    def exchange(self, packet: Sequence[int], timeout: float) -> list[int]:
        """Send a packet and return the answer's words.

        Args:
            packet: its words, one at least.
            timeout: seconds until the answer must be there; of a simulation, those of its clock.

        Raises:
            LinkError: there was no answer in that time.
        """
        ...


class Driver:
    """Drives the engine at the other end of a link: a simulated one and one on a board alike.

    Args:
        link: carries the packets.
        timeout: seconds for an answer, where a call gives none of its own.
    """

    def __init__(self, link: Link, *, timeout: float = 10.0):
        self._link = link
        self._timeout = timeout
        self._network: Interface | None = None

    def load(
        self, network: CompressedModel | bytes | str | Path, *, timeout: float | None = None
    ) -> Interface:
        """Load a network, and return what it takes and gives.

        The bytes of a file are sent as they are: it is the engine that checks them.

        Args:
            network: a model, the bytes of a ``.pleach`` file, or its path.
            timeout: seconds for the answer.

        Raises:
            FormatError: the file's headers are damaged; nothing was sent.
            EngineRefused: the engine did not take it, and holds no network now.
            LinkError: there was no answer, or none to a LOAD.
        """
        if isinstance(network, CompressedModel):
            data = dumps(network)
            found = interface(data)
        elif isinstance(network, bytes):
            data = network
            found = interface(data)
        else:
            data = Path(network).read_bytes()
            with naming(network):
                found = interface(data)
        self._network = None
        self._request(Command.LOAD, load_packet(data), timeout)
        self._network = found
        return found

    def run(self, inputs: np.ndarray, *, timeout: float | None = None) -> np.ndarray:
        """The outputs for one or many inputs.

        Args:
            inputs: ``[inputs]`` or ``[n, inputs]``, uint8 or int16 as the network has it
                (`CompressedModel.quantise`).
            timeout: seconds for the answer to each.

        Returns:
            int16, ``[outputs]`` or ``[n, outputs]``; `CompressedModel.dequantise` has the numbers
            that they stand for.

        Raises:
            ModelError: no network is loaded, or the inputs are not what it takes.
            EngineRefused: the engine refused one; its reason says why.
            LinkError: there was no answer, or none to a RUN.
        """
        network, inputs = self._network, as_array(inputs)
        if network is None:
            raise ModelError("no network is loaded on this link: call load first")
        dtype, shape = network.input_type.dtype, inputs.shape
        if inputs.dtype != dtype or inputs.ndim not in (1, 2) or shape[-1] != network.inputs:
            raise ModelError(
                f"inputs are {inputs.dtype} of shape {shape}; the network takes {dtype} of shape "
                f"({network.inputs},) or (n, {network.inputs})"
            )
        outputs = np.zeros((*shape[:-1], network.outputs), np.int16)
        rows = np.atleast_2d(outputs)
        for row, values in zip(rows, np.atleast_2d(inputs), strict=True):
            answer = self._request(Command.RUN, run_packet(values, network.input_type), timeout)
            if 2 * len(answer.words) != network.outputs + network.outputs % 2:
                raise LinkError(
                    f"the answer to a RUN has {len(answer.words)} words, not those of "
                    f"{network.outputs} outputs: has someone else loaded another network?"
                )
            row[:] = answer.outputs(network.outputs)
        return outputs

    def status(self, *, timeout: float | None = None) -> Status:
        """The status words.

        Raises:
            LinkError: there was no answer, or none to a STATUS.
        """
        answer = self._request(Command.STATUS, status_packet(), timeout)
        if len(answer.words) < len(STATUS_WORDS):
            raise LinkError(
                f"the answer to a STATUS has {len(answer.words)} status words, not "
                f"{len(STATUS_WORDS)} or more"
            )
        return answer.status()

    def _request(self, command: Command, packet: Sequence[int], timeout: float | None) -> Answer:
        words = self._link.exchange(packet, self._timeout if timeout is None else timeout)
        try:
            answer = Answer.unpack(words)
        except (IndexError, ValueError) as error:
            raise LinkError(f"what came back to {command.name} is no answer: {error}") from error
        if answer.error != EngineError.OK:
            raise EngineRefused(
                f"the engine refused {command.name}: {_reason(answer)}", answer.error, answer.detail
            )
        if answer.command != command:
            raise LinkError(
                f"the answer to {command.name} is one to command {answer.command}: reset the "
                "engine, its answers are out of step"
            )
        return answer


def _reason(answer: Answer) -> str:
    """Why the engine refused, and of what it is short."""
    text = f"{answer.error.name}, {answer.error.meaning}"
    if answer.error == EngineError.CAPACITY:
        short = Resource(answer.detail)
        return f"{text}: it is short of {short.meaning}; EngineConfig.{short.parameter} sets them"
    return text
