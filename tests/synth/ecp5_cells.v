// The ECP5 cells that pleach_hw.primitives.ecp5 instantiates, as far as it uses them, from Lattice's
// FPGA-TN-02204 (memory) and FPGA-TN-02205 (sysDSP). Yosys has only their ports. What Yosys itself
// maps memories and products to is checked with the same models.

module DP16KD(
  input DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2, DIA1, DIA0,
  input ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0,
  input CEA, OCEA, CLKA, WEA, RSTA, CSA2, CSA1, CSA0,
  output DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2, DOA1, DOA0,
  input DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2, DIB1, DIB0,
  input ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0,
  input CEB, OCEB, CLKB, WEB, RSTB, CSB2, CSB1, CSB0,
  output DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2, DOB1, DOB0
);
  parameter DATA_WIDTH_A = 18;
  parameter DATA_WIDTH_B = 18;
  parameter REGMODE_A = "NOREG";
  parameter REGMODE_B = "NOREG";
  parameter RESETMODE = "SYNC";
  parameter ASYNC_RESET_RELEASE = "SYNC";
  parameter CSDECODE_A = "0b000";
  parameter CSDECODE_B = "0b000";
  parameter WRITEMODE_A = "NORMAL";
  parameter WRITEMODE_B = "NORMAL";
  // Contents at the start; here always zeros.
  parameter [319:0]
    INITVAL_00 = 0, INITVAL_01 = 0, INITVAL_02 = 0, INITVAL_03 = 0, INITVAL_04 = 0, INITVAL_05 = 0,
    INITVAL_06 = 0, INITVAL_07 = 0, INITVAL_08 = 0, INITVAL_09 = 0, INITVAL_0A = 0, INITVAL_0B = 0,
    INITVAL_0C = 0, INITVAL_0D = 0, INITVAL_0E = 0, INITVAL_0F = 0, INITVAL_10 = 0, INITVAL_11 = 0,
    INITVAL_12 = 0, INITVAL_13 = 0, INITVAL_14 = 0, INITVAL_15 = 0, INITVAL_16 = 0, INITVAL_17 = 0,
    INITVAL_18 = 0, INITVAL_19 = 0, INITVAL_1A = 0, INITVAL_1B = 0, INITVAL_1C = 0, INITVAL_1D = 0,
    INITVAL_1E = 0, INITVAL_1F = 0, INITVAL_20 = 0, INITVAL_21 = 0, INITVAL_22 = 0, INITVAL_23 = 0,
    INITVAL_24 = 0, INITVAL_25 = 0, INITVAL_26 = 0, INITVAL_27 = 0, INITVAL_28 = 0, INITVAL_29 = 0,
    INITVAL_2A = 0, INITVAL_2B = 0, INITVAL_2C = 0, INITVAL_2D = 0, INITVAL_2E = 0, INITVAL_2F = 0,
    INITVAL_30 = 0, INITVAL_31 = 0, INITVAL_32 = 0, INITVAL_33 = 0, INITVAL_34 = 0, INITVAL_35 = 0,
    INITVAL_36 = 0, INITVAL_37 = 0, INITVAL_38 = 0, INITVAL_39 = 0, INITVAL_3A = 0, INITVAL_3B = 0,
    INITVAL_3C = 0, INITVAL_3D = 0, INITVAL_3E = 0, INITVAL_3F = 0;
  parameter CLKAMUX = "CLKA";
  parameter CLKBMUX = "CLKB";
  parameter GSR = "ENABLED";

  wire [13:0] ada = {ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2, ADA1, ADA0};
  wire [13:0] adb = {ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2, ADB1, ADB0};
  wire [35:0] di = {DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6, DIB5, DIB4, DIB3, DIB2, DIB1, DIB0,
                    DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2, DIA1, DIA0};

  // 2048 bytes of nine bits; words below nine bits use eight of them.
  reg [8:0] memory [0:2047];
  integer i;
  initial for (i = 0; i < 2048; i = i + 1) memory[i] = 0;

  wire a_selected = CEA & WEA & ~CSA2 & ~CSA1 & ~CSA0;
  wire [10:0] byte_a = ada[13:3];
  wire [10:0] byte_b = adb[13:3];
  always @(posedge CLKA)
    if (a_selected)
      case (DATA_WIDTH_A)
        1: memory[byte_a][ada[2:0]] <= di[0];
        2: memory[byte_a][{ada[2:1], 1'b0} +: 2] <= di[1:0];
        4: memory[byte_a][{ada[2], 2'b0} +: 4] <= di[3:0];
        9: memory[byte_a] <= di[8:0];
        18: begin
          if (ada[0]) memory[{byte_a[10:1], 1'b0}] <= di[8:0];
          if (ada[1]) memory[{byte_a[10:1], 1'b1}] <= di[17:9];
        end
        36: begin
          if (ada[0]) memory[{byte_a[10:2], 2'd0}] <= di[8:0];
          if (ada[1]) memory[{byte_a[10:2], 2'd1}] <= di[17:9];
          if (ada[2]) memory[{byte_a[10:2], 2'd2}] <= di[26:18];
          if (ada[3]) memory[{byte_a[10:2], 2'd3}] <= di[35:27];
        end
      endcase

  reg [35:0] read;
  wire b_selected = CEB & ~WEB & ~CSB2 & ~CSB1 & ~CSB0;
  always @(posedge CLKB)
    if (b_selected)
      case (DATA_WIDTH_B)
        1: read <= memory[byte_b][adb[2:0]];
        2: read <= memory[byte_b][{adb[2:1], 1'b0} +: 2];
        4: read <= memory[byte_b][{adb[2], 2'b0} +: 4];
        9: read <= memory[byte_b];
        18: read <= {memory[{byte_b[10:1], 1'b1}], memory[{byte_b[10:1], 1'b0}]};
        36: read <= {memory[{byte_b[10:2], 2'd3}], memory[{byte_b[10:2], 2'd2}],
                     memory[{byte_b[10:2], 2'd1}], memory[{byte_b[10:2], 2'd0}]};
      endcase

  // A word of 36 bits has its lower half at port A's outputs.
  reg [35:0] registered;
  always @(posedge CLKB) if (OCEB) registered <= read;
  wire [17:0] doa = DATA_WIDTH_B != 36 ? 18'bx : REGMODE_A == "OUTREG" ? registered[17:0] : read[17:0];
  wire [35:0] b = REGMODE_B == "OUTREG" ? registered : read;
  wire [17:0] dob = DATA_WIDTH_B == 36 ? b[35:18] : b[17:0];
  assign {DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5, DOA4, DOA3, DOA2, DOA1, DOA0} = doa;
  assign {DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5, DOB4, DOB3, DOB2, DOB1, DOB0} = dob;
endmodule

module MULT18X18D(
  input A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0,
  input B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0,
  input C17, C16, C15, C14, C13, C12, C11, C10, C9, C8, C7, C6, C5, C4, C3, C2, C1, C0,
  input SIGNEDA, SIGNEDB, SOURCEA, SOURCEB, CLK0, CE0, RST0,
  output P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18,
  output P17, P16, P15, P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0
);
  parameter REG_INPUTA_CLK = "NONE";
  parameter REG_INPUTB_CLK = "NONE";
  parameter REG_PIPELINE_CLK = "NONE";
  parameter REG_OUTPUT_CLK = "NONE";
  parameter GSR = "ENABLED";

  wire signed [18:0] a_in = {SIGNEDA & A17, A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0};
  wire signed [18:0] b_in = {SIGNEDB & B17, B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0};
  reg signed [18:0] a_register, b_register;
  wire signed [18:0] a = REG_INPUTA_CLK == "CLK0" ? a_register : a_in;
  wire signed [18:0] b = REG_INPUTB_CLK == "CLK0" ? b_register : b_in;
  reg [35:0] pipeline, out;
  wire signed [37:0] exact = a * b;
  wire [35:0] product = exact[35:0];
  wire [35:0] piped = REG_PIPELINE_CLK == "CLK0" ? pipeline : product;
  always @(posedge CLK0) begin
    if (RST0) {a_register, b_register, pipeline, out} <= 0;
    else if (CE0) begin
      a_register <= a_in;
      b_register <= b_in;
      pipeline <= product;
      out <= piped;
    end
  end
  assign {P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19, P18,
          P17, P16, P15, P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0} =
    REG_OUTPUT_CLK == "CLK0" ? out : piped;
endmodule
