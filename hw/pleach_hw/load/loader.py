"""The loader: checks a bitstream word by word and fills the processing elements from it."""

from contextlib import contextmanager

from amaranth.hdl import Cat, Module, Mux, ResetInserter, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.crc.catalog import CRC32_ISO_HDLC
from amaranth.lib.wiring import In, Out

from pleach.engine import EngineConfig, words
from pleach.engine.protocol import EngineError, Resource
from pleach.format import gaps
from pleach.numbers import CODEBOOK_MAX, EXPONENT_MAX, SHIFT_MAX
from pleach_hw.buses import CodebookBus, LoadBus, ProgramBus
from pleach_hw.layouts import PACKET_WORD, Sink, Source, layout
from pleach_hw.load.entry_decoder import EntryDecoder
from pleach_hw.load.scatter import Scatter
from pleach_hw.load.serial_decoder import SerialDecoder
from pleach_hw.primitives.delay import delays
from pleach_hw.primitives.memory import LutRam
from pleach_hw.queue import Buffer

#: Cycles until a layer's fields are checked.
CHECK_CYCLES = 2


class TableBuilder(wiring.Component):
    """Counts of code lengths to the table of a `HuffmanDecoder`, six cycles a length.

    Ports:
        start: begin the table of an alphabet of `size` ≥ 2 symbols, longest code `longest` ≥ 1.
        count, step: the count of codes of the next length; for the longest it is ignored.
        at_longest: the next step is the last one; known two cycles after a start, one after `done`.
        write, write_length, write_upper, write_offset: write port of the decoder.
        done: strobe, the step was taken; `broken` says then that the Kraft equality cannot hold.
    """

    def __init__(self):
        length = range(words.MAX_CODE_LENGTH + 1)
        super().__init__(
            {
                "start": In(1),
                "size": In(9),
                "longest": In(length),
                "count": In(8),
                "step": In(1),
                "at_longest": Out(1),
                "write": Out(1),
                "write_length": Out(length),
                "write_upper": Out(words.MAX_CODE_LENGTH + 1),
                "write_offset": Out(8),
                "done": Out(1),
                "broken": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        upper = Signal(words.MAX_CODE_LENGTH + 1)
        below = Signal(10)  # codes shorter than the next length
        full = Signal(words.MAX_CODE_LENGTH + 1)  # 2^length
        length = Signal.like(self.write_length)

        # Carry chains a cycle apart: nothing here is in a hurry.
        left = Signal(signed(11))
        count = Signal(signed(11))
        total = Signal(words.MAX_CODE_LENGTH + 3)
        stepped = delays(m, self.step, 5, name="stepped", reset_less=False)
        m.d.comb += [
            self.write.eq(stepped[4]),
            self.write_length.eq(length),
            self.write_upper.eq(total),
            self.done.eq(stepped[5]),
        ]
        m.d.sync += [
            self.at_longest.eq(length == self.longest),
            left.eq(self.size - below),
            total.eq((upper << 1) + count),
            self.write_offset.eq(below - (upper << 1)),
        ]
        with m.If(self.step):
            m.d.sync += count.eq(self.count)
        with m.If(stepped[1] & self.at_longest):
            m.d.sync += count.eq(left)
        with m.If(stepped[3]):
            m.d.sync += self.broken.eq(
                Mux(self.at_longest, (total != full) | (left <= 0), (total >= full) | (left < 0))
            )
        with m.If(self.start):
            m.d.sync += [upper.eq(0), below.eq(0), length.eq(1), full.eq(2)]
        with m.Elif(stepped[4]):
            m.d.sync += [
                upper.eq(total),
                below.eq(below + count),
                length.eq(length + 1),
                full.eq(full << 1),
            ]
        return m


class Loader(wiring.Component):
    """Reads the file of a LOAD packet and fills the PEs, the codebook and the program.

    A word a cycle outside of the data words; data words as the entry decoder asks for them, an
    entry in two cycles, an empty column in one. With `serial_loader` a word takes 32 cycles, and an
    entry as many as `SerialDecoder` says. Whatever is wrong ends in `done` with
    an error, after the packet's last word was taken; no write goes past what the PEs and the
    program hold, whatever the file says.

    Ports:
        start: a packet begins; what was loaded is void.
        i: its words after the command word.
        done: strobe, the packet was taken; `error` and `detail` stand until the next start.
        input_type: of the header, once done without an error.
        convolutional: a layer that was loaded is a convolution.
        program: to the control unit, a pass for each layer.
        pes, codebook: to all PEs.
    """

    def __init__(self, config: EngineConfig):
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "i": In(stream.Signature(PACKET_WORD)),
                "done": Out(1),
                "error": Out(EngineError),
                "detail": Out(16),
                "input_type": Out(1),
                "convolutional": Out(1),
                "program": Out(ProgramBus(config)),
                "pes": Out(LoadBus(config, pes=config.pes)),
                "codebook": Out(CodebookBus(config)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self._config
        # What a refused layer leaves half-way in these two must not reach the next one.
        abandon = Signal()
        m.d.sync += abandon.eq(0)
        most_entries = config.most_columns * config.most_rows
        decoder = (SerialDecoder if config.serial_loader else EntryDecoder)(most_entries)
        scatter = Scatter(config)
        m.submodules.decoder = ResetInserter(abandon)(decoder)
        m.submodules.scatter = ResetInserter(abandon)(scatter)
        m.submodules.table = table = TableBuilder()
        # A word at once, or a bit at a time.
        crc_bits = 1 if config.serial_loader else 32
        m.submodules.crc = crc = CRC32_ISO_HDLC(data_width=crc_bits).create()
        wiring.connect(m, decoder.o, scatter.i)

        # --- words -------------------------------------------------------------------------------
        # A fast loader has a buffer, so that host link and loader have a cycle each. What comes
        # behind the packet stays outside.
        closed = Signal(init=1)
        if config.serial_loader:
            words_in = self.i
        else:
            m.submodules.buffer = buffer = Buffer(shape=PACKET_WORD)
            m.d.comb += [
                buffer.i.payload.eq(self.i.payload),
                buffer.i.valid.eq(self.i.valid & ~closed),
                self.i.ready.eq(buffer.i.ready & ~closed),
            ]
            with m.If(self.i.valid & self.i.ready):
                m.d.sync += closed.eq(self.i.p.last)
            words_in = buffer.o
        word = words_in.p.data
        take = Signal()
        ended = Signal(init=1)  # the packet's last word was taken
        known = Signal()  # `left` is known
        left = Signal(32)  # words of the file that are not taken yet
        one_left, none_left = Signal(), Signal()
        takes = Signal()  # a word may be taken
        in_crc = Signal()  # the word before it still goes through the CRC
        wrong_end = Signal()  # the packet ended before the file, or the file before the packet
        m.d.comb += [
            takes.eq(~ended & ~in_crc),
            take.eq(words_in.valid & words_in.ready),
        ]
        # What the word of the cycle before was not; of a CRC it is known a cycle later.
        wrong_magic, wrong_crc = Signal(), Signal()
        counts_for_crc, begins_crc = Signal(), Signal()
        word_before = Signal(32, reset_less=True)
        m.d.comb += crc.data.eq(word_before)
        m.d.sync += [
            crc.valid.eq(counts_for_crc),
            crc.start.eq(begins_crc),
            word_before.eq(word),
            wrong_magic.eq(word != words.MAGIC),
            wrong_crc.eq(word_before != crc.crc),
        ]
        if config.serial_loader:
            crc_left = Signal(range(32))
            m.d.comb += in_crc.eq(crc.valid)
            with m.If(crc.valid):
                m.d.sync += [
                    word_before.eq(word_before >> crc_bits),
                    crc_left.eq(crc_left - 1),
                    crc.valid.eq(crc_left != 1),
                ]
        with m.If(take):
            m.d.sync += [
                left.eq(left - 1),
                one_left.eq(known & (left == 2)),
                ended.eq(words_in.p.last),
                wrong_end.eq(wrong_end | (words_in.p.last != one_left)),
            ]
        m.d.sync += none_left.eq(left == 0)

        # --- the header, the section, the layer --------------------------------------------------
        info = Signal(layout(words.HEADER_INFO))
        bad_info = Signal()
        info_read = layout(words.HEADER_INFO)(word)
        head = layout(words.SECTION_HEAD)(word)
        kind = Signal(8)
        payload_left = Signal(24)  # words, the one of the cycle before still counted
        payload_taken = Signal()  # there was one
        payload_done = Signal()  # none is left
        last_of_payload = payload_left == Mux(payload_taken, 2, 1)
        payload_length = Signal(24)
        too_long, too_short = Signal(), Signal()
        layers_read = Signal(range(config.layers + 1))
        layer_words = words.LAYER_WORDS + words.CONV_WORDS
        fields = [Signal(layout(w), name=f"layer_{i}") for i, w in enumerate(words.LAYER_WORDS)]
        convolution = Signal()  # the layer is one, …
        convolution_before = Signal()  # … the one before was
        bad_geometry = Signal()
        word_count = Signal(range(len(layer_words) + 1))  # fields of the layer, in words
        shape, count, scale, tables = fields
        columns = Signal(17)
        local_columns = Signal(17)  # of a group, in whole blocks
        column_base = Signal(range(config.columns + 1))
        codebook_base = Signal(range(config.codebook + 1))
        outputs_before = Signal(range(config.most_rows + 1))
        local = Signal(17)
        local_before = Signal(range(config.accumulators + 1))
        # Checks follow the fields by a carry chain a cycle: nothing here is in a hurry.
        m.d.sync += [
            # With the CRC it is more than the words left.
            too_long.eq(~left[24:].any() & (left[:24] <= payload_length)),
            too_short.eq(~payload_length[3:].any() & (payload_length[:3] < word_count)),
            columns.eq(shape.inputs + scale.bias),
            local_columns.eq(
                (columns + (config.groups * config.block - 1))
                >> (config.groups * config.block - 1).bit_length()
                << (config.block - 1).bit_length()
            ),
            local.eq((shape.outputs + (config.row_pes - 1)) >> (config.row_pes - 1).bit_length()),
        ]
        m.d.comb += [
            word_count.eq(Mux(convolution, len(layer_words), len(fields))),
        ]
        reserved = [
            (field.as_value() & w.reserved()) != 0
            for field, w in zip(fields, words.LAYER_WORDS, strict=True)
        ]
        no_tables = (
            (tables.codebook_size == 0)
            & (tables.code_length == 0)
            & (tables.gap_classes == 0)
            & (tables.gap_length == 0)
            & ~tables.narrow
        )
        fits = {
            Resource.COLUMNS: column_base + local_columns <= config.columns,
            Resource.ROWS: local + local_before <= config.accumulators,
            Resource.CODEBOOK: codebook_base + tables.codebook_size <= config.codebook,
            Resource.ACCUMULATOR_BITS: scale.accumulator_bits <= config.accumulator_bits,
        }
        bad_fields = [
            *reserved,
            bad_geometry,
            shape.inputs == 0,
            shape.outputs == 0,
            columns[16],
            # No entry takes less than a bit: a payload's word pays for 32 of them.
            Cat(count.entries[:5].any(), count.entries[5:]) > payload_length << 1,
            scale.shift > SHIFT_MAX,
            scale.activation > 1,
            scale.bias_exponent > EXPONENT_MAX,
            tables.codebook_size > CODEBOOK_MAX,
            tables.code_length > words.MAX_CODE_LENGTH,
            tables.gap_classes > gaps.CLASSES,
            tables.gap_length > words.MAX_GAP_LENGTH,
            (count.entries == 0) & (~no_tables | (payload_length != word_count)),
            (count.entries != 0) & ((tables.codebook_size == 0) | (tables.gap_classes == 0)),
        ]
        bad_words = Signal(len(bad_fields))
        bad_field, bad_shape, bad_table = Signal(), Signal(), Signal()
        short_of = Signal(len(fits))
        too_many = Signal()  # entries, for any layer of this engine
        m.d.sync += [
            bad_words.eq(Cat(bad_fields)),
            bad_field.eq(bad_words.any()),
            too_many.eq(count.entries[len(decoder.entries) :].any()),
            bad_table.eq(
                (count.entries != 0) & ((tables.codebook_size == 1) != (tables.code_length == 0))
            ),
            bad_shape.eq(
                (layers_read != 0)
                & ~(convolution | convolution_before)
                & (shape.inputs != outputs_before)
            ),
            short_of.eq(Cat(~fit for fit in fits.values())),
        ]
        m.d.comb += self.input_type.eq(info.input_type)
        one_pass, last_layer = self.program.pass_, Signal()
        m.d.comb += last_layer.eq(layers_read + 1 == info.layers)
        m.d.sync += [
            self.pes.clear.eq(0),
            self.program.write.eq(0),
            self.program.index.eq(layers_read),
            # A layer is a pass. Neighbours begin at different ends of the accumulators.
            one_pass.source.eq(Mux(layers_read == 0, Source.INPUTS, Source.DRAINED)),
            one_pass.inputs.eq(shape.inputs),
            one_pass.bias.eq(scale.bias),
            one_pass.bias_exponent.eq(scale.bias_exponent),
            one_pass.column_base.eq(column_base),
            one_pass.codebook_base.eq(codebook_base),
            one_pass.parity.eq(layers_read[0]),
            one_pass.rows.eq(shape.outputs),
            one_pass.shift.eq(scale.shift),
            one_pass.relu.eq(scale.activation),
            one_pass.sink.eq(Mux(last_layer, Sink.OUTPUTS, Sink.NEXT)),
            one_pass.last.eq(last_layer),
        ]

        # --- the tables, a byte at a time --------------------------------------------------------
        bytes_ = Signal(32)
        bytes_left = Signal(range(5))
        byte = bytes_[:8]
        next_byte = Signal()
        coding_gaps = Signal()  # the table being read: weight codes first, then gap classes
        last_count = Signal()
        number = Signal(9)  # of a codebook value, or of a byte or symbol of the gap table
        # The lengths of the gap codes, two a byte. They are gone through once for each length, so
        # that the classes come out in the order of their codes.
        m.submodules.gap_lengths = gap_lengths = LutRam(shape=8, depth=16)
        gap_class = Signal(range(gaps.CLASSES))
        gap_length = Signal(range(words.MAX_GAP_LENGTH + 1))
        of_length = Signal(range(gaps.CLASSES + 1))
        coded = Signal(range(gaps.CLASSES + 1))  # lengths that are not zero
        last_class = Signal()
        length = gap_lengths.read_data.word_select(gap_class[0], 4)
        no_last_class = Signal()
        last = Signal(range(gaps.CLASSES))
        codebook_last = Signal(8)
        bad_gap_table = Signal()
        no_codes = Signal()  # of the weights: all are the one in the codebook
        m.d.comb += last_class.eq(gap_class == last)
        m.d.sync += [
            last.eq(tables.gap_classes - 1),
            codebook_last.eq(tables.codebook_size - 1),
            no_codes.eq(tables.code_length == 0),
            bad_gap_table.eq(
                (number != coded) | no_last_class | ((tables.gap_length == 0) & (coded != 1))
            ),
        ]
        low_byte = Signal(8)
        have_low = Signal()
        with m.If(next_byte):
            m.d.sync += [bytes_.eq(bytes_ >> 8), bytes_left.eq(bytes_left - 1)]
        m.d.comb += [
            table.size.eq(Mux(coding_gaps, coded, tables.codebook_size)),
            table.longest.eq(Mux(coding_gaps, tables.gap_length, tables.code_length)),
            table.count.eq(Mux(coding_gaps, of_length, byte)),
            decoder.code_length.eq(tables.code_length),
            decoder.gap_length.eq(tables.gap_length),
            decoder.code_write.eq(table.write & ~coding_gaps),
            decoder.gap_write.eq(table.write & coding_gaps),
            gap_lengths.write_addr.eq(number),
            gap_lengths.write_data.eq(byte),
            gap_lengths.read_addr.eq(gap_class[1:]),
        ]
        class_write = Signal()
        # These cross the chip or go to many registers, and are a cycle late where a cycle is short.
        soon = "comb" if config.serial_loader else "sync"
        m.d[soon] += [
            decoder.class_write.eq(class_write),
            decoder.class_addr.eq(number),
            decoder.class_data.eq(gap_class),
            decoder.clear.eq(0),
            table.start.eq(0),
            self.codebook.write.eq(0),
            self.codebook.address.eq(codebook_base + number),
            self.codebook.value.eq(
                Mux(tables.narrow, byte.as_signed(), Cat(low_byte, byte).as_signed())
            ),
        ]
        for prefix in ("gap", "code"):
            for name in ("write_length", "write_upper", "write_offset"):
                m.d.comb += getattr(decoder, f"{prefix}_{name}").eq(getattr(table, name))

        # --- the entries -------------------------------------------------------------------------
        out_of_data = Signal()
        m.d.sync += out_of_data.eq(decoder.starved & payload_done)
        m.d.comb += [
            decoder.entries.eq(count.entries),
            decoder.i.payload.eq(word),
            scatter.rows.eq(shape.outputs),
            scatter.columns.eq(columns),
            scatter.column_base.eq(column_base),
            self.pes.entry_valid.eq(scatter.entry_valid),
            self.pes.entry.eq(scatter.entry),
            self.pes.column_end.eq(scatter.column_end),
            self.pes.column.eq(scatter.column),
        ]

        def fail(error, detail=layers_read):
            m.d.sync += [self.error.eq(error), self.detail.eq(detail)]
            m.next = "discard"

        @contextmanager
        def state(name):
            """A state that is left for "discard" when packet and file do not end together."""
            with m.State(name):
                with m.If(wrong_end):
                    fail(EngineError.LENGTH)
                with m.Else():
                    yield

        @contextmanager
        def word_taken():
            """In a state: take a word of the packet as soon as there is one, and then …"""
            m.d.comb += words_in.ready.eq(takes)
            with m.If(take):
                yield

        @contextmanager
        def payload_word():
            with word_taken():
                m.d.sync += [payload_taken.eq(1), payload_done.eq(last_of_payload)]
                m.d.comb += counts_for_crc.eq(1)
                yield

        @contextmanager
        def byte_read():
            """In a state: read a byte of the tables, or fetch the next word for it."""
            with m.If(bytes_left != 0):
                m.d.comb += next_byte.eq(1)
                yield
            with m.Elif(payload_done):
                fail(EngineError.DATA)
            with m.Else():
                m.d.sync += bytes_.eq(word)
                with payload_word():
                    m.d.sync += bytes_left.eq(4)

        m.d.sync += payload_taken.eq(0)
        with m.If(payload_taken):
            m.d.sync += payload_left.eq(payload_left - 1)
        with m.FSM():
            with m.State("idle"):
                with m.If(self.start):
                    m.d.sync += self.pes.clear.eq(1)
                    m.d.sync += [
                        self.error.eq(EngineError.OK),
                        self.detail.eq(0),
                        closed.eq(0),
                        ended.eq(0),
                        known.eq(0),
                        one_left.eq(0),
                        wrong_end.eq(0),
                        layers_read.eq(0),
                        self.convolutional.eq(0),
                        column_base.eq(0),
                        codebook_base.eq(0),
                        local_before.eq(0),
                    ]
                    m.next = "magic"

            with state("magic"), word_taken():
                m.d.comb += [begins_crc.eq(1), counts_for_crc.eq(1)]
                m.next = "magic taken"
            with state("magic taken"):
                m.next = "info"
                with m.If(wrong_magic):
                    fail(EngineError.BAD_HEADER)
            # Words are kept whether one is there or not: the last that a state sees is taken.
            with state("info"):
                m.d.sync += [
                    info.eq(word),
                    bad_info.eq(
                        (info_read.version != words.VERSION)
                        | (info_read.layers == 0)
                        | ((word & words.HEADER_INFO.reserved()) != 0)
                    ),
                ]
                with word_taken():
                    m.d.comb += counts_for_crc.eq(1)
                    m.next = "size"
            with state("size"), word_taken():
                m.d.comb += counts_for_crc.eq(1)
                m.d.sync += [left.eq(word - 3), one_left.eq(word == 4), known.eq(1)]
                m.next = "original"
            with state("original"), word_taken():
                m.d.comb += counts_for_crc.eq(1)
                m.next = "header CRC"
            with state("header CRC"), word_taken():
                m.next = "header read"
            with state("header read"):
                m.next = "header"
            with state("header"):
                m.next = "head"
                with m.If(wrong_crc):
                    fail(EngineError.HEADER_CRC)
                with m.Elif(bad_info):
                    fail(EngineError.BAD_HEADER)
                with m.Elif(none_left):
                    fail(EngineError.SECTION_TYPE)
                with m.Elif(info.layers > config.layers):
                    fail(EngineError.CAPACITY, Resource.LAYERS)

            with state("head"):
                m.d.sync += [
                    kind.eq(head.type),
                    convolution.eq(head.type == words.SECTION_CONV),
                    payload_left.eq(head.length),
                    payload_done.eq(head.length == 0),
                    payload_length.eq(head.length),
                ]
                with word_taken():
                    m.d.comb += [begins_crc.eq(1), counts_for_crc.eq(1)]
                    m.next = "section"
            with state("section"):
                m.next = "section measured"
            with state("section measured"):
                with m.If(too_long):
                    fail(EngineError.LENGTH)
                with m.Elif(kind[7]):
                    m.next = "padding"
                with m.Elif(
                    ((kind != words.SECTION_LAYER) & ~convolution) | (layers_read == info.layers)
                ):
                    fail(EngineError.SECTION_TYPE)
                with m.Elif(too_short):
                    fail(EngineError.BAD_FIELD)
                with m.Else():
                    m.next = "field 0"
            for index, layer_word in enumerate(layer_words):
                with state(f"field {index}"):
                    if index < len(fields):
                        m.d.sync += [fields[index].eq(word), bad_geometry.eq(0)]
                    with payload_word():
                        m.next = f"field {index + 1}" if index + 1 < len(layer_words) else "check 0"
                        # Of a convolution's geometry the engine knows only that it must be sound.
                        if index >= len(fields):
                            bad = (word & layer_word.reserved()) != 0
                            m.d.sync += bad_geometry.eq(bad_geometry | bad)
                        if index + 1 == len(fields):
                            with m.If(~convolution):
                                m.next = "check 0"
            for index in range(CHECK_CYCLES):
                with state(f"check {index}"):
                    m.d[soon] += table.start.eq(1)
                    m.d.sync += coding_gaps.eq(0)
                    m.next = f"check {index + 1}" if index + 1 < CHECK_CYCLES else "judge"
            with state("judge"):
                m.d.sync += [bytes_left.eq(0), last_count.eq(0)]
                m.d[soon] += decoder.clear.eq(1)
                with m.If(bad_field):
                    fail(EngineError.BAD_FIELD)
                with m.Elif(bad_table):
                    fail(EngineError.BAD_TABLE)
                with m.Elif(bad_shape):
                    fail(EngineError.SHAPE)
                for index, resource in enumerate(fits):
                    with m.Elif(short_of[index]):
                        fail(EngineError.CAPACITY, resource)
                with m.Elif(too_many):
                    fail(EngineError.BAD_FIELD)
                with m.Elif(count.entries == 0):
                    m.next = "begin"
                with m.Else():
                    m.next = "counts"

            with state("counts"):
                with m.If(no_codes):
                    m.next = "next table"
                with m.Elif(table.at_longest):
                    m.d.comb += table.step.eq(1)
                    m.d.sync += last_count.eq(1)
                    m.next = "count"
                with m.Else():
                    m.next = "count byte"
            with state("count byte"), byte_read():
                m.d.comb += table.step.eq(1)
                m.next = "count"
            with state("count"):
                with m.If(table.done):
                    m.next = "counts"
                    with m.If(last_count):
                        m.next = "next table"
                    with m.If(table.broken):
                        fail(EngineError.BAD_TABLE)
            with state("next table"):
                m.d[soon] += table.start.eq(1)
                m.d.sync += [coding_gaps.eq(1), number.eq(0), coded.eq(0)]
                m.next = "gap lengths"
            with state("gap lengths"), byte_read():
                m.d.comb += gap_lengths.write_en.eq(1)
                m.d.sync += [
                    coded.eq(coded + byte[:4].any() + byte[4:].any()),
                    number.eq(number + 1),
                    gap_class.eq(0),
                    gap_length.eq(1),
                    of_length.eq(0),
                ]
                with m.If(number == last >> 1):
                    m.d.sync += number.eq(0)
                    m.next = "gap classes"
            with state("gap classes"):
                m.d.sync += gap_class.eq(gap_class + 1)
                with m.If(length == gap_length):
                    m.d.comb += class_write.eq(1)
                    m.d.sync += [number.eq(number + 1), of_length.eq(of_length + 1)]
                with m.If(last_class):
                    m.d.sync += [gap_class.eq(0), no_last_class.eq(length == 0)]
                    m.next = "gap classes of a length"
            with state("gap classes of a length"):
                m.d.sync += last_count.eq(table.at_longest)
                m.next = "gap count"
                with m.If(tables.gap_length == 0):
                    m.next = "gap table read"
                with m.Else():
                    m.d.comb += table.step.eq(1)
            with state("gap count"):
                with m.If(table.done):
                    m.d.sync += [gap_length.eq(gap_length + 1), of_length.eq(0)]
                    m.next = "gap classes"
                    with m.If(last_count):
                        m.next = "gap table read"
                    with m.If(table.broken):
                        fail(EngineError.BAD_TABLE)
            with state("gap table read"):
                m.d.sync += [number.eq(0), have_low.eq(tables.narrow)]
                m.next = "codebook"
                with m.If(bad_gap_table):
                    fail(EngineError.BAD_TABLE)
            with state("codebook"), byte_read():
                m.d.sync += [low_byte.eq(byte), have_low.eq(~have_low | tables.narrow)]
                with m.If(have_low):
                    m.d[soon] += self.codebook.write.eq(1)
                    m.d.sync += number.eq(number + 1)
                    with m.If(number == codebook_last):
                        m.next = "begin"

            with state("begin"):
                m.d.comb += [decoder.start.eq(1), scatter.start.eq(1)]
                m.next = "entries"
            with state("entries"):
                m.d.comb += scatter.finish.eq(decoder.done)
                with m.If(decoder.i.ready & ~payload_done), payload_word():
                    m.d.comb += decoder.i.valid.eq(1)
                with m.If(scatter.outside):
                    fail(EngineError.POSITION)
                with m.Elif(out_of_data):
                    fail(EngineError.DATA)
                with m.Elif(scatter.done):
                    m.next = "padding"

            with state("padding"):
                with m.If(payload_done):
                    m.next = "written"
                with m.Else(), payload_word():
                    pass
            with state("written"):  # by the commit it is known whether an entry had no room
                m.next = "section CRC"
            with state("section CRC"), word_taken():
                m.next = "section read"
            with state("section read"):
                m.next = "commit"
            with state("commit"):
                is_layer = ~kind[7]
                with m.If(wrong_crc):
                    fail(EngineError.SECTION_CRC)
                with m.Elif(is_layer & self.pes.overflow):
                    fail(EngineError.CAPACITY, Resource.ENTRIES)
                with m.Else():
                    m.next = "next"
                    with m.If(is_layer):
                        m.next = "layer"
            with state("layer"):
                m.d.sync += [
                    self.program.write.eq(1),
                    layers_read.eq(layers_read + 1),
                    column_base.eq(column_base + local_columns),
                    codebook_base.eq(codebook_base + tables.codebook_size),
                    outputs_before.eq(shape.outputs),
                    convolution_before.eq(convolution),
                    self.convolutional.eq(self.convolutional | convolution),
                    local_before.eq(local),
                ]
                m.next = "next"
            with state("next"):
                m.next = "head"
                with m.If(none_left):
                    m.next = "discard"
                    with m.If(layers_read != info.layers):
                        fail(EngineError.SECTION_TYPE)

            with m.State("discard"):
                m.d.comb += words_in.ready.eq(~ended)
                m.d.sync += abandon.eq(1)
                with m.If(ended):
                    m.d.comb += self.done.eq(1)
                    m.next = "idle"
        return m
