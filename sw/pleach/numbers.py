"""Limits of the numbers that a network, its file and the engine are made of, each stated once.

docs/numerics.md says why they are what they are, docs/bitstream.md which field holds each. Nothing
is imported here, so that everything can import it.
"""

#: an activation or a codebook value, least and most
INT16 = INT16_MIN, INT16_MAX = (-(1 << 15), (1 << 15) - 1)
#: an input of a network that takes bytes
UINT8_MAX = 255
#: fraction bits of such an input: a byte is seen as value / 256
UINT8_FRACTION = 8
#: inputs in a 32-bit word of a RUN packet, and activations in one of its answer
UINT8_PER_WORD, INT16_PER_WORD = 4, 2

#: fraction bits that a file can state, a signed byte
FRACTIONS = (-128, 127)
#: right shift of a requantisation
SHIFT_MAX = 47
#: the bias column's activation is a power of two that fits int16: so many times 2 at most
EXPONENT_MAX = 14
#: width of an accumulator; 65535 products of two int16 need 47
ACCUMULATOR_BITS_MIN, ACCUMULATOR_BITS_MAX = 24, 48
#: fraction bits of a row's scale; and the width of the accumulators that scales come after
SCALE_FRACTION, SCALED_BITS_MAX = 14, 32
#: width that a file can claim, a field of six bits
CLAIMED_BITS_MAX = 63

#: rows of a weight matrix, its columns with the bias column, channels, height and width of a map
SIZE_MAX = 65535
#: values in a layer's codebook: a code is a byte
CODEBOOK_MAX = 256
#: layers of a network, poolings included, as the file's header counts them
LAYERS_MAX = 255
#: weights and biases of the network that was compressed, a word of the file's header
ORIGINAL_MAX = 2**32 - 1

#: height, width, strides and paddings of a kernel or a window
SIDE_MAX = 255
#: side of the pooling window that is part of a convolution
POOL_MAX = 15
#: right shift of a window's sum, which has no more than 255 · 255 values
POOL_SHIFT_MAX = 16

#: processing elements of an engine, and the groups that they fall into
PES_MAX, PE_GROUPS_MAX = 64, 8

#: nodes of a network in real numbers, and sources of one
NODES_MAX, SOURCES_MAX = 1024, 255
