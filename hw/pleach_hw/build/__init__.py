"""What turns the engine into Verilog and Verilog into a chip: export, synthesis, estimates."""
