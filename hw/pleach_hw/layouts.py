"""The software's word layouts as Amaranth structures: bit positions are stated once."""

from amaranth.lib import data

from pleach.engine.words import Word


def layout(word: Word) -> data.StructLayout:
    """A structure of 32 bits with the fields of `word`; what is left over is ``reserved``.

    >>> layout(Word(inputs=16, outputs=10))
    StructLayout({'inputs': 16, 'outputs': 10, 'reserved': 6})
    """
    left = 32 - sum(word.fields.values())
    return data.StructLayout(word.fields | ({"reserved": left} if left else {}))
