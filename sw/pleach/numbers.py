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
#: width that a file can claim, a field of six bits
CLAIMED_BITS_MAX = 63

#: rows of a weight matrix, its columns with the bias column, channels, height and width of a map
SIZE_MAX = 65535
#: values in a layer's codebook: a code is a byte
CODEBOOK_MAX = 256
#: layers of a network, as the file's header counts them
LAYERS_MAX = 255
#: weights and biases of the network that was compressed, a word of the file's header
ORIGINAL_MAX = 2**32 - 1

#: height and width of a kernel, and groups of a convolution's channels
KERNEL_MAX = GROUPS_MAX = 255
#: stride and padding of a kernel; side and stride of a pooling window
STRIDE_MAX = PADDING_MAX = POOL_MAX = 15

#: processing elements of an engine, and the groups that they fall into
PES_MAX, PE_GROUPS_MAX = 64, 8

#: nodes of a network that is no chain, and sources of one
NODES_MAX, SOURCES_MAX = 1024, 255
#: left shift that brings an input of a sum to the finest fraction among them
LIFT_MAX = 31
