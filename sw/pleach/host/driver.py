"""An engine as a host sees it: load a network, run inputs, read the status."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, overload, runtime_checkable

import numpy as np

from pleach.arrays import as_array
from pleach.engine.config import EngineConfig
from pleach.engine.plan import LayerPlan, lower
from pleach.engine.protocol import STATUS_WORDS, Boot, Command, EngineError, Resource, Status
from pleach.errors import EngineRefused, LinkError, ModelError
from pleach.format import Interface, dumps, interface, loads, naming
from pleach.host.packets import (
    Answer,
    load_packet,
    plan_packet,
    run_packet,
    status_packet,
)
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


@runtime_checkable
class PipelinedLink(Link, Protocol):
    """A link that sends packets before those ahead of them are answered."""

    def stream(self, packets: Iterable[Sequence[int]], timeout: float) -> Iterator[list[int]]:
        """The answers to packets, in their order.

        Args:
            packets: taken as there is room for them.
            timeout: seconds for each answer, as of `exchange`.

        Raises:
            LinkError: there was no answer in time, or the link failed.
        """
        ...


class Driver:
    """Drives the engine at the other end of a link: a simulated one and one on a board alike.

    Args:
        link: carries the packets.
        engine: what is there; needed where it has a map memory, as it takes a plan then
            (`Status.engine` has it from the engine itself).
        timeout: seconds for an answer, where a call gives none of its own.
    """

    def __init__(self, link: Link, *, engine: EngineConfig | None = None, timeout: float = 10.0):
        self._link = link
        self._engine = engine
        self._timeout = timeout
        self._network: Interface | None = None
        self._data = b""
        self._model: CompressedModel | None = None

    def load(
        self,
        network: CompressedModel | bytes | str | Path,
        *,
        plan: Sequence[LayerPlan] | None = None,
        timeout: float | None = None,
    ) -> Interface:
        """Load a network, and return what it takes and gives.

        The bytes of a file are sent as they are: it is the engine that checks them.

        Args:
            network: a model, the bytes of a ``.pleach`` file, or its path.
            plan: how each layer runs on an engine with a map memory; `default_plan` by default.
            timeout: seconds for the answer.

        Raises:
            CapacityError: the engine does not hold it; nothing was sent.
            FormatError: the file's headers are damaged; nothing was sent.
            EngineRefused: the engine did not take it, and holds no network now.
            LinkError: there was no answer, or none to a LOAD.
        """
        data, found = _file(network)
        self._network = None
        if self._engine is not None and self._engine.maps:
            model = network if isinstance(network, CompressedModel) else loads(data)
            program = lower(model, self._engine, plan)
            self._request(Command.PLAN, plan_packet(program, self._engine), timeout)
        self._request(Command.LOAD, load_packet(data), timeout)
        self._network, self._data, self._model = found, data, None
        return found

    def adopt(
        self, network: CompressedModel | bytes | str | Path, *, timeout: float | None = None
    ) -> Interface:
        """Take it that the engine holds this network: from its flash, or from before.

        Nothing is loaded, and an engine does not say which network it holds: only that it has one
        is asked. Returns what the network takes and gives.

        Args:
            network: as `load` takes it.
            timeout: seconds for the answer.

        Raises:
            ModelError: the engine holds none; says what became of one in its flash.
            FormatError: the file's headers are damaged.
            LinkError: there was no answer, or none to a STATUS.
        """
        data, found = _file(network)
        status = self.status(timeout=timeout)
        if not status.model_held:
            boot = Boot(status.boot)
            raise ModelError(f"the engine holds no network; of its flash it says: {boot.meaning}")
        self._network, self._data, self._model = found, data, None
        return found

    @property
    def network(self) -> CompressedModel:
        """The network that was loaded, decoded: it knows what inputs and outputs stand for.

        Raises:
            ModelError: none is loaded.
        """
        self._loaded()
        if self._model is None:
            self._model = loads(self._data)
        return self._model

    @overload
    def run(
        self, inputs: np.ndarray, *, floats: bool = False, timeout: float | None = None
    ) -> np.ndarray: ...
    @overload
    def run(
        self, inputs: Iterator[np.ndarray], *, floats: bool = False, timeout: float | None = None
    ) -> Iterator[np.ndarray]: ...
    def run(self, inputs, *, floats=False, timeout=None):
        """The outputs for one or many inputs.

        A link that can has several of them under way at once.

        Args:
            inputs: ``[inputs]`` or ``[n, inputs]``, uint8 or int16 as the network has it; where it
                has int16, floats are quantised as `CompressedModel.quantise` does. Or an iterator
                of such arrays, which is asked for the next when there is room for it.
            floats: give outputs as the real numbers that they stand for, float64.
            timeout: seconds for the answer to each.

        Returns:
            int16, ``[outputs]`` or ``[n, outputs]``; of an iterator, an iterator of such arrays.

        Raises:
            ModelError: no network is loaded, or the inputs are not what it takes.
            EngineRefused: the engine refused one; its reason says why.
            LinkError: there was no answer, or none to a RUN. The network has to be loaded anew.
        """
        network = self._loaded()
        if isinstance(inputs, Iterator):
            return self._run(inputs, floats, timeout)
        (outputs,) = self._run(iter([self._as_taken(network, inputs)]), floats, timeout)
        return outputs

    def _run(
        self, batches: Iterator[np.ndarray], floats: bool, timeout: float | None
    ) -> Iterator[np.ndarray]:
        network, shapes = self._loaded(), deque()

        def packets() -> Iterator[Sequence[int]]:
            for batch in batches:
                inputs = self._as_taken(network, batch)
                shapes.append(inputs.shape)
                for values in np.atleast_2d(inputs):
                    yield run_packet(values, network.input_type)

        def outputs(shape: tuple[int, ...], rows: list[np.ndarray]) -> np.ndarray:
            found = np.array(rows, np.int16).reshape(-1, network.outputs)
            real = self.network.dequantise(found) if floats else found
            return real.reshape(*shape[:-1], network.outputs)

        rows: list[np.ndarray] = []
        for answer in self._answers(Command.RUN, packets(), timeout):
            if 2 * len(answer.words) != network.outputs + network.outputs % 2:
                self._network = None
                raise LinkError(
                    f"the answer to a RUN has {len(answer.words)} words, not those of "
                    f"{network.outputs} outputs: has someone else loaded another network?"
                )
            while not _inputs(shapes[0]):  # of a batch of none
                yield outputs(shapes.popleft(), [])
            rows.append(answer.outputs(network.outputs))
            if len(rows) == _inputs(shapes[0]):
                yield outputs(shapes.popleft(), rows)
                rows = []
        while shapes:
            yield outputs(shapes.popleft(), [])

    def _loaded(self) -> Interface:
        if self._network is None:
            raise ModelError("no network is loaded on this link: call load first")
        return self._network

    def _as_taken(self, network: Interface, given: np.ndarray) -> np.ndarray:
        """Inputs as the network has them."""
        inputs = as_array(given)
        dtype, shape = network.input_type.dtype, inputs.shape
        if inputs.dtype.kind == "f" and dtype == np.int16 and shape[-1:] == (network.inputs,):
            inputs = self.network.quantise(np.atleast_2d(inputs)).reshape(shape)
        if inputs.dtype != dtype or inputs.ndim not in (1, 2) or shape[-1] != network.inputs:
            raise ModelError(
                f"inputs are {inputs.dtype} of shape {shape}; the network takes {dtype} of shape "
                f"({network.inputs},) or (n, {network.inputs})"
            )
        return inputs

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
        (answer,) = self._answers(command, iter([packet]), timeout)
        return answer

    def _answers(
        self, command: Command, packets: Iterator[Sequence[int]], timeout: float | None
    ) -> Iterator[Answer]:
        """The answers to packets of a command, which the engine did not refuse."""
        seconds, link = self._timeout if timeout is None else timeout, self._link
        if isinstance(link, PipelinedLink):
            found = link.stream(packets, seconds)
        else:
            found = (link.exchange(packet, seconds) for packet in packets)
        try:
            for words in found:
                yield _answer(command, words)
        except LinkError:
            # Who knows what the engine holds, or whether it is the same.
            self._network = None
            raise


def _file(network: CompressedModel | bytes | str | Path) -> tuple[bytes, Interface]:
    """A network's file, and what its headers say."""
    if isinstance(network, CompressedModel):
        network = dumps(network)
    if isinstance(network, bytes):
        return network, interface(network)
    data = Path(network).read_bytes()
    with naming(network):
        return data, interface(data)


def _answer(command: Command, words: Sequence[int]) -> Answer:
    """An answer to a command; raises what is said in `Driver`."""
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


def _inputs(shape: tuple[int, ...]) -> int:
    """How many inputs an array of that shape has."""
    return shape[0] if len(shape) == 2 else 1


def _reason(answer: Answer) -> str:
    """Why the engine refused, and of what it is short."""
    text = f"{answer.error.name}, {answer.error.meaning}"
    if answer.error == EngineError.CAPACITY:
        short = Resource(answer.detail)
        return f"{text}: it is short of {short.meaning}; EngineConfig.{short.parameter} sets them"
    return text
