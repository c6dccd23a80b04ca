"""What goes over a serial cable: frames, packets in streams, and the page's example."""

import re
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pleach.engine.protocol import Command, command_word
from pleach.host import answer_words
from pleach.host.frames import (
    DEFAULT_BAUD,
    DEPTH_BITS,
    LINK_VERSION,
    Deframer,
    DeviceFrame,
    HostFrame,
    Unpacker,
    frame,
    pack_packet,
)

PAGE = (Path(__file__).parents[2] / "docs/protocol.md").read_text("utf-8")


def test_the_example_of_the_page():
    (example,) = re.findall(r"```text\n(.*?)```", PAGE, re.S)
    lines = [line.split(maxsplit=1) for line in example.strip().splitlines()]
    assert [who for who, _ in lines] == ["host", "board", "host", "board", "host"]
    packet = pack_packet([command_word(Command.RUN), 1, 0, 0x7E000000])
    answer = b"".join(
        bytes([0x43 if last else 3]) + word.to_bytes(4, "little")
        for word, last in zip(
            answer_words(Command.RUN, outputs=[1, -1]), (False, True), strict=True
        )
    )
    contents = [
        HostFrame(session=9, hello=True),
        DeviceFrame(session=9, hello=True, depth_bits=11),
        HostFrame(session=9, data=packet),
        DeviceFrame(session=9, accepted=9, taken=9, depth_bits=11, data=answer),
        HostFrame(session=9, offset=9, acknowledged=10),
    ]
    assert [frame(each.pack()).hex(" ") for each in contents] == [wire for _, wire in lines]
    for (who, wire), content in zip(lines, contents, strict=True):
        kind = HostFrame if who == "host" else DeviceFrame
        assert [kind.unpack(each) for each in Deframer().feed(bytes.fromhex(wire))] == [content]


def test_the_page_has_the_numbers():
    assert f"version of this protocol, {LINK_VERSION} " in PAGE and f"{DEFAULT_BAUD:,}" in PAGE
    assert f"`d` {DEPTH_BITS[0]} to {DEPTH_BITS[-1]}." in PAGE


def test_too_short_for_a_header():
    assert HostFrame.unpack(b"\0" * 4) is None and DeviceFrame.unpack(b"\0" * 6) is None


awkward = st.lists(st.sampled_from([0x7E, 0x7D, 0x5E, 0x5D, 0, 1]), max_size=30).map(bytes)


@settings(max_examples=50)
@given(st.lists(awkward | st.binary(max_size=40), max_size=5), st.integers(1, 9))
def test_frames_come_whole_in_any_pieces(contents, size):
    wire = b"".join(map(frame, contents))
    deframer, found = Deframer(), []
    for place in range(0, len(wire), size):
        found += deframer.feed(wire[place : place + size])
    assert found == contents


def test_damage_is_noticed():
    random = Random(4)
    for _ in range(500):
        contents = [random.randbytes(random.randrange(1, 40)) for _ in range(3)]
        wires = [bytearray(frame(content)) for content in contents]
        bad = wires[1]
        place = random.randrange(1, len(bad) - 1)
        match random.randrange(3):
            case 0:
                del bad[place]
            case 1:
                bad.insert(place, bad[place])
            case _:
                bad[place] ^= 1 << random.randrange(8)
        found = list(Deframer().feed(b"".join(wires)))
        assert found[0] == contents[0] and found[-1] == contents[2]
        assert set(found[1:-1]) <= {None}


words = st.sampled_from([0, 0, 0, 1, 0x7E, 0xFF000000]) | st.integers(0, 2**32 - 1)


@settings(max_examples=50)
@given(st.lists(st.lists(words, min_size=1, max_size=80), max_size=4), st.integers(1, 70))
def test_packets_come_whole_in_any_pieces(packets, size):
    stream = b"".join(map(pack_packet, packets))
    unpacker, found = Unpacker(), []
    for place in range(0, len(stream), size):
        found += unpacker.feed(stream[place : place + size])
    assert found == packets


def test_zeros_take_little():
    image = np.zeros(196, np.uint32)
    assert len(pack_packet(image)) == -(-784 // 64)
    image[50:60] = 0x01020304
    assert len(pack_packet(image)) == 4 + 1 + 40 + -(-136 * 4 // 64)
    noise = np.random.default_rng(1).integers(1, 2**32, 1000, np.uint32)
    assert len(pack_packet(noise)) < 4000 * 1.03


def test_no_whole_number_of_words():
    with pytest.raises(ValueError):
        list(Unpacker().feed(b"\x42abc"))
