// A host for an exported engine, in plain Verilog: sends the packets of one file, compares every
// word of the answers with those of another, and says how many cycles it took.
//
//   $ verilator --binary --timing -Wall -CFLAGS -std=c++20 -o testbench \
//       verilog_testbench.v engine.v
//   $ obj_dir/testbench +sent=sent.hex +answers=answers.hex
//
//   $ iverilog -g2012 -o testbench verilog_testbench.v engine.v
//   $ vvp testbench +sent=sent.hex +answers=answers.hex
//
// A line of a file is a word in hexadecimal, 33 bits of it: tlast, then tdata. tests/golden has two
// files; pleach vectors makes them of a .pleach file and inputs.

`timescale 1ns / 1ps

module verilog_testbench;
  localparam WORDS = 1 << 20;     // of a file, at most
  localparam PATIENCE = 1000000;  // cycles without a word until something must be wrong

  reg clk;
  always #5 clk = ~clk;

  // What no file has in its words' bits 35:33 says where a file ends.
  localparam [35:0] END = 36'h800000000;
  reg rst;
  reg [35:0] sent [0:WORDS-1];
  reg [35:0] answers [0:WORDS-1];
  reg [8*1024-1:0] name;
  integer i;
  initial begin
    clk = 0;
    rst = 1;
    for (i = 0; i < WORDS; i = i + 1) begin
      sent[i] = END;
      answers[i] = END;
    end
    if (!$value$plusargs("sent=%s", name)) name = "sent.hex";
    $readmemh(name, sent);
    if (!$value$plusargs("answers=%s", name)) name = "answers.hex";
    $readmemh(name, answers);
    repeat (3) @(posedge clk);
    #1 rst = 0;
  end

  // Words go out one a cycle, as fast as the engine takes them.
  reg [19:0] next_sent;
  wire [35:0] word = sent[next_sent];
  wire all_sent = |word[35:33];
  wire s_axis_tvalid = !rst && !all_sent;
  wire s_axis_tready;
  always @(posedge clk)
    if (rst) next_sent <= 0;
    else if (s_axis_tvalid && s_axis_tready) next_sent <= next_sent + 1;

  // Answers are taken at once.
  reg [19:0] next_answer;
  wire [35:0] expected = answers[next_answer];
  wire [31:0] m_axis_tdata;
  wire m_axis_tvalid;
  wire m_axis_tlast;
  integer cycles;
  integer quiet;
  always @(posedge clk)
    if (rst) begin
      next_answer <= 0;
      cycles <= 0;
      quiet <= 0;
    end else begin
      cycles <= cycles + 1;
      quiet <= s_axis_tvalid && s_axis_tready || m_axis_tvalid ? 0 : quiet + 1;
      if (m_axis_tvalid) begin
        next_answer <= next_answer + 1;
        if ({3'b000, m_axis_tlast, m_axis_tdata} !== expected) begin
          $display("FAIL: word %0d of the answers is %b %h, expected is %b %h", next_answer,
                   m_axis_tlast, m_axis_tdata, expected[32], expected[31:0]);
          $fatal(1);
        end
      end
      // A while after the last word, so that one too many would be seen.
      if (all_sent && expected == END && quiet == 1000) begin
        if (next_answer == 0) begin
          $display("FAIL: there are no answers to compare with");
          $fatal(1);
        end
        $display("PASS: %0d words sent, %0d words of answers as expected, %0d cycles",
                 next_sent, next_answer, cycles - quiet);
        $finish;
      end
      if (quiet == PATIENCE) begin
        $display("FAIL: no word for %0d cycles, after %0d sent and %0d answered", quiet,
                 next_sent, next_answer);
        $fatal(1);
      end
    end

  engine engine (
    .clk(clk),
    .rst(rst),
    .s_axis_tdata(word[31:0]),
    .s_axis_tvalid(s_axis_tvalid),
    .s_axis_tlast(word[32]),
    .s_axis_tready(s_axis_tready),
    .m_axis_tdata(m_axis_tdata),
    .m_axis_tvalid(m_axis_tvalid),
    .m_axis_tlast(m_axis_tlast),
    .m_axis_tready(1'b1)
  );
endmodule
