"""The way of words and vectors: inputs in, drained vectors to the next pass or out as outputs."""

from __future__ import annotations

from typing import NamedTuple

from pleach.compiled import njit
from pleach.engine.program import Sink, Source

INPUTS, OUTPUTS = int(Source.INPUTS), int(Sink.OUTPUTS)
#: states of the answer
COMPUTING, ANSWER, WORDS, ENDED = range(4)


class Host(NamedTuple):
    """What has gone in and out."""

    #: inputs that have not come yet, and the number of the next one
    left: int
    column: int
    #: where the activations of the pass whose vectors come next begin, among those of all passes
    offset: int = 0
    state: int = COMPUTING
    #: of a vector of outputs, the pair that goes next
    pair: int = 0
    #: of single outputs, one waits for the other half of its word
    odd: bool = False


class Vector(NamedTuple):
    """Neighbouring activations of a pass, `width` of them from `column` on."""

    valid: bool
    column: int
    width: int
    last: bool


@njit(inline="always")
def new(inputs):
    """Before the first of a run's inputs."""
    return Host(inputs, 0, 0, COMPUTING, 0, False)


@njit(inline="always")
def step(host, drained, source, sink, room, per_word, stages):
    """A cycle: the vector that enters non-zero detection, and whether the one drained is taken.

    Args:
        drained: the vector that the drain offers.
        source, sink: of the pass that runs, and of the one that is drained.
        room: non-zero detection takes a vector.
        per_word: inputs in a word.
    """
    left, column, offset, state, pair, odd = host
    enters = taken = False
    entering = drained
    if source == INPUTS:
        enters = room and left > 0
        entering = Vector(enters, column, min(per_word, left), left <= per_word)
        if enters:
            left -= entering.width
            column += entering.width
    elif drained.valid and sink != OUTPUTS:
        enters = taken = room
    if enters and entering.last:
        offset += entering.column + entering.width

    if drained.valid and sink == OUTPUTS:
        word = True  # there is one for the answer
        if stages.lanes == 1:
            word = odd or drained.last
            taken = state == WORDS or not word
            odd = odd ^ taken and not drained.last
        elif state == WORDS:
            taken = 2 * pair + 2 >= drained.width
            pair = 0 if taken else pair + 1
        if state == ANSWER:  # its first word goes now
            state = WORDS
        elif state == COMPUTING and word:
            state = ANSWER
        if taken and drained.last:
            state = ENDED
    entering = Vector(enters, entering.column, entering.width, entering.last)
    return Host(left, column, offset, state, pair, odd), entering, taken
