"""The load path: from the words of a bitstream to the PEs' memories."""
