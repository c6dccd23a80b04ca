"""The engine's side of the link: packets, inputs, outputs."""
