// The cells of an ECP5 at the edge of a board's top, as far as it uses them, from Lattice's
// FPGA-TN-02200 (PLL) and FPGA-TN-02039 (flash clock). The PLL's clock is here the one that it gets.

module IB(input I, output O);
  assign O = I;
endmodule

module OBZ(input I, T, output O);
  assign O = T ? 1'bz : I;
endmodule

module EHXPLLL(
  input CLKI, CLKFB, RST, STDBY, PHASESEL0, PHASESEL1, PHASEDIR, PHASESTEP, PHASELOADREG,
  input PLLWAKESYNC, ENCLKOP, output CLKOP, LOCK
);
  parameter CLKI_DIV = 1, CLKFB_DIV = 1, CLKOP_DIV = 1, CLKOP_CPHASE = 0, CLKOP_FPHASE = 0;
  parameter FEEDBK_PATH = "", CLKOP_ENABLE = "", PLLRST_ENA = "", INTFB_WAKE = "";
  parameter STDBY_ENABLE = "", DPHASE_SOURCE = "", OUTDIVIDER_MUXA = "", OUTDIVIDER_MUXB = "";
  parameter OUTDIVIDER_MUXC = "", OUTDIVIDER_MUXD = "";
  reg [3:0] count = 0;
  always @(posedge CLKI) if (!LOCK) count <= count + 1;
  assign LOCK = &count;
  assign CLKOP = CLKI;
endmodule

// The configuration's own clock pin, which no net of the design leads to.
module USRMCLK(input USRMCLKI /* verilator public_flat_rd */, input USRMCLKTS);
endmodule
