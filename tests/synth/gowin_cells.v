// The Gowin cell that pleach_hw.primitives.gowin instantiates and those that Yosys maps memories
// to, as far as it uses them, from Gowin's UG287 (DSP) and UG285 (BSRAM). Yosys has only their ports.

module MULT18X18(
  input [17:0] A, SIA, B, SIB, input ASIGN, BSIGN, ASEL, BSEL, CE, CLK, RESET,
  output [35:0] DOUT, output [17:0] SOA, SOB
);
  parameter AREG = 1'b0;
  parameter BREG = 1'b0;
  parameter OUT_REG = 1'b0;
  parameter PIPE_REG = 1'b0;
  parameter ASIGN_REG = 1'b0;
  parameter BSIGN_REG = 1'b0;
  parameter SOA_REG = 1'b0;
  parameter MULT_RESET_MODE = "SYNC";

  reg [17:0] a_register, b_register;
  reg [35:0] pipeline, out;
  wire [17:0] a_in = ASEL ? SIA : A;
  wire [17:0] b_in = BSEL ? SIB : B;
  wire [17:0] a = AREG ? a_register : a_in;
  wire [17:0] b = BREG ? b_register : b_in;
  wire signed [18:0] a_wide = {ASIGN & a[17], a};
  wire signed [18:0] b_wide = {BSIGN & b[17], b};
  wire signed [37:0] exact = a_wide * b_wide;
  wire [35:0] product = exact[35:0];
  wire [35:0] piped = PIPE_REG ? pipeline : product;
  always @(posedge CLK) begin
    if (RESET) {a_register, b_register, pipeline, out} <= 0;
    else if (CE) begin
      a_register <= a_in;
      b_register <= b_in;
      pipeline <= product;
      out <= piped;
    end
  end
  assign DOUT = OUT_REG ? out : piped;
  assign SOA = a;
  assign SOB = b;
endmodule

// Memories of two ports, each of which reads or writes in a cycle; without output registers.
module DPB(
  input CLKA, CEA, CLKB, CEB, OCEA, OCEB, RESETA, RESETB, WREA, WREB, input [13:0] ADA, ADB,
  input [2:0] BLKSELA, BLKSELB, input [15:0] DIA, DIB, output [15:0] DOA, DOB
);
  parameter READ_MODE0 = 1'b0;
  parameter READ_MODE1 = 1'b0;
  parameter WRITE_MODE0 = 2'b00;
  parameter WRITE_MODE1 = 2'b00;
  parameter BIT_WIDTH_0 = 16;
  parameter BIT_WIDTH_1 = 16;
  parameter BLK_SEL_0 = 3'b000;
  parameter BLK_SEL_1 = 3'b000;
  parameter RESET_MODE = "SYNC";
  // Contents at the start; here always zeros.
  parameter [255:0]
    INIT_RAM_00 = 0, INIT_RAM_01 = 0, INIT_RAM_02 = 0, INIT_RAM_03 = 0, INIT_RAM_04 = 0, INIT_RAM_05 = 0,
    INIT_RAM_06 = 0, INIT_RAM_07 = 0, INIT_RAM_08 = 0, INIT_RAM_09 = 0, INIT_RAM_0A = 0, INIT_RAM_0B = 0,
    INIT_RAM_0C = 0, INIT_RAM_0D = 0, INIT_RAM_0E = 0, INIT_RAM_0F = 0, INIT_RAM_10 = 0, INIT_RAM_11 = 0,
    INIT_RAM_12 = 0, INIT_RAM_13 = 0, INIT_RAM_14 = 0, INIT_RAM_15 = 0, INIT_RAM_16 = 0, INIT_RAM_17 = 0,
    INIT_RAM_18 = 0, INIT_RAM_19 = 0, INIT_RAM_1A = 0, INIT_RAM_1B = 0, INIT_RAM_1C = 0, INIT_RAM_1D = 0,
    INIT_RAM_1E = 0, INIT_RAM_1F = 0, INIT_RAM_20 = 0, INIT_RAM_21 = 0, INIT_RAM_22 = 0, INIT_RAM_23 = 0,
    INIT_RAM_24 = 0, INIT_RAM_25 = 0, INIT_RAM_26 = 0, INIT_RAM_27 = 0, INIT_RAM_28 = 0, INIT_RAM_29 = 0,
    INIT_RAM_2A = 0, INIT_RAM_2B = 0, INIT_RAM_2C = 0, INIT_RAM_2D = 0, INIT_RAM_2E = 0, INIT_RAM_2F = 0,
    INIT_RAM_30 = 0, INIT_RAM_31 = 0, INIT_RAM_32 = 0, INIT_RAM_33 = 0, INIT_RAM_34 = 0, INIT_RAM_35 = 0,
    INIT_RAM_36 = 0, INIT_RAM_37 = 0, INIT_RAM_38 = 0, INIT_RAM_39 = 0, INIT_RAM_3A = 0, INIT_RAM_3B = 0,
    INIT_RAM_3C = 0, INIT_RAM_3D = 0, INIT_RAM_3E = 0, INIT_RAM_3F = 0;

  wire a = CEA & BLKSELA == BLK_SEL_0;
  wire b = CEB & BLKSELB == BLK_SEL_1;
  gowin_ram #(BIT_WIDTH_0, BIT_WIDTH_1, 8) ram(
    CLKA, a & WREA, a & ~WREA, RESETA, ADA, DIA, DOA, CLKB, b & WREB, b & ~WREB, RESETB, ADB, DIB, DOB
  );
endmodule

module DPX9B(
  input CLKA, CEA, CLKB, CEB, OCEA, OCEB, RESETA, RESETB, WREA, WREB, input [13:0] ADA, ADB,
  input [2:0] BLKSELA, BLKSELB, input [17:0] DIA, DIB, output [17:0] DOA, DOB
);
  parameter READ_MODE0 = 1'b0;
  parameter READ_MODE1 = 1'b0;
  parameter WRITE_MODE0 = 2'b00;
  parameter WRITE_MODE1 = 2'b00;
  parameter BIT_WIDTH_0 = 18;
  parameter BIT_WIDTH_1 = 18;
  parameter BLK_SEL_0 = 3'b000;
  parameter BLK_SEL_1 = 3'b000;
  parameter RESET_MODE = "SYNC";
  // Contents at the start; here always zeros.
  parameter [287:0]
    INIT_RAM_00 = 0, INIT_RAM_01 = 0, INIT_RAM_02 = 0, INIT_RAM_03 = 0, INIT_RAM_04 = 0, INIT_RAM_05 = 0,
    INIT_RAM_06 = 0, INIT_RAM_07 = 0, INIT_RAM_08 = 0, INIT_RAM_09 = 0, INIT_RAM_0A = 0, INIT_RAM_0B = 0,
    INIT_RAM_0C = 0, INIT_RAM_0D = 0, INIT_RAM_0E = 0, INIT_RAM_0F = 0, INIT_RAM_10 = 0, INIT_RAM_11 = 0,
    INIT_RAM_12 = 0, INIT_RAM_13 = 0, INIT_RAM_14 = 0, INIT_RAM_15 = 0, INIT_RAM_16 = 0, INIT_RAM_17 = 0,
    INIT_RAM_18 = 0, INIT_RAM_19 = 0, INIT_RAM_1A = 0, INIT_RAM_1B = 0, INIT_RAM_1C = 0, INIT_RAM_1D = 0,
    INIT_RAM_1E = 0, INIT_RAM_1F = 0, INIT_RAM_20 = 0, INIT_RAM_21 = 0, INIT_RAM_22 = 0, INIT_RAM_23 = 0,
    INIT_RAM_24 = 0, INIT_RAM_25 = 0, INIT_RAM_26 = 0, INIT_RAM_27 = 0, INIT_RAM_28 = 0, INIT_RAM_29 = 0,
    INIT_RAM_2A = 0, INIT_RAM_2B = 0, INIT_RAM_2C = 0, INIT_RAM_2D = 0, INIT_RAM_2E = 0, INIT_RAM_2F = 0,
    INIT_RAM_30 = 0, INIT_RAM_31 = 0, INIT_RAM_32 = 0, INIT_RAM_33 = 0, INIT_RAM_34 = 0, INIT_RAM_35 = 0,
    INIT_RAM_36 = 0, INIT_RAM_37 = 0, INIT_RAM_38 = 0, INIT_RAM_39 = 0, INIT_RAM_3A = 0, INIT_RAM_3B = 0,
    INIT_RAM_3C = 0, INIT_RAM_3D = 0, INIT_RAM_3E = 0, INIT_RAM_3F = 0;

  wire a = CEA & BLKSELA == BLK_SEL_0;
  wire b = CEB & BLKSELB == BLK_SEL_1;
  gowin_ram #(BIT_WIDTH_0, BIT_WIDTH_1, 9) ram(
    CLKA, a & WREA, a & ~WREA, RESETA, ADA, DIA, DOA, CLKB, b & WREB, b & ~WREB, RESETB, ADB, DIB, DOB
  );
endmodule

// 2048 bytes of `BYTE` bits. Addresses are of bits, eight to a byte; of words of two bytes the lowest
// two are byte enables.
module gowin_ram #(parameter A = 16, B = 16, BYTE = 8)(
  input clk_a, write_a, read_a, reset_a, input [13:0] a, input [2*BYTE-1:0] in_a,
  output reg [2*BYTE-1:0] out_a,
  input clk_b, write_b, read_b, reset_b, input [13:0] b, input [2*BYTE-1:0] in_b,
  output reg [2*BYTE-1:0] out_b
);
  reg [BYTE-1:0] memory [0:2047];
  integer i;
  initial for (i = 0; i < 2048; i = i + 1) memory[i] = 0;

  `define PORT(clk, write, read, reset, at, in, out, WIDTH) \
    always @(posedge clk) begin \
      if (write) \
        case (WIDTH) \
          1: memory[at[13:3]][at[2:0]] <= in[0]; \
          2: memory[at[13:3]][{at[2:1], 1'b0} +: 2] <= in[1:0]; \
          4: memory[at[13:3]][{at[2], 2'b0} +: 4] <= in[3:0]; \
          BYTE: memory[at[13:3]] <= in[BYTE-1:0]; \
          2 * BYTE: begin \
            if (at[0]) memory[{at[13:4], 1'b0}] <= in[BYTE-1:0]; \
            if (at[1]) memory[{at[13:4], 1'b1}] <= in[2*BYTE-1:BYTE]; \
          end \
        endcase \
      if (reset) out <= 0; \
      else if (read) \
        case (WIDTH) \
          1: out <= memory[at[13:3]] >> at[2:0] & 1; \
          2: out <= memory[at[13:3]] >> {at[2:1], 1'b0} & 3; \
          4: out <= memory[at[13:3]] >> {at[2], 2'b0} & 15; \
          BYTE: out <= memory[at[13:3]]; \
          2 * BYTE: out <= {memory[{at[13:4], 1'b1}], memory[{at[13:4], 1'b0}]}; \
        endcase \
    end
  `PORT(clk_a, write_a, read_a, reset_a, a, in_a, out_a, A)
  `PORT(clk_b, write_b, read_b, reset_b, b, in_b, out_b, B)
endmodule
