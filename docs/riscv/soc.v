// A processor (PicoRV32), memory and a Pleach engine on AXI4-Lite, for simulation: module `soc` of
// the example in docs/how-to/system.md. `pleach_system` is pleach_hw.system.System.
//
//   0x00000000  32 KB: firmware from 0, data from 0x4000 ($readmemh of +firmware and +data)
//   0x10000000  console: each word written goes out on m_axis
//   0x20000000  the engine's registers

module soc (
  input clk,
  input rst,
  output reg [31:0] m_axis_tdata,
  output reg m_axis_tvalid,
  output m_axis_trap
);
  wire awvalid, awready, wvalid, wready, bvalid, bready, arvalid, arready, rvalid, rready;
  wire [31:0] awaddr, wdata, araddr, rdata;
  wire [3:0] wstrb;
  wire [2:0] awprot, arprot;
  picorv32_axi #(
    .ENABLE_COUNTERS(0),
    .STACKADDR(32'h4000)
  ) cpu (
    .clk(clk), .resetn(!rst), .trap(m_axis_trap), .irq(32'd0),
    .mem_axi_awvalid(awvalid), .mem_axi_awready(awready), .mem_axi_awaddr(awaddr),
    .mem_axi_awprot(awprot), .mem_axi_wvalid(wvalid), .mem_axi_wready(wready),
    .mem_axi_wdata(wdata), .mem_axi_wstrb(wstrb), .mem_axi_bvalid(bvalid),
    .mem_axi_bready(bready), .mem_axi_arvalid(arvalid), .mem_axi_arready(arready),
    .mem_axi_araddr(araddr), .mem_axi_arprot(arprot), .mem_axi_rvalid(rvalid),
    .mem_axi_rready(rready), .mem_axi_rdata(rdata)
  );

  // The processor holds an address until it has the answer.
  wire write_engine = awaddr[31:28] == 2, read_engine = araddr[31:28] == 2;
  wire engine_awready, engine_wready, engine_bvalid, engine_arready, engine_rvalid;
  wire [31:0] engine_rdata;
  pleach_system engine (
    .clk(clk), .rst(rst),
    .s_axil_awaddr(awaddr[9:0]), .s_axil_awprot(awprot),
    .s_axil_awvalid(awvalid && write_engine), .s_axil_awready(engine_awready),
    .s_axil_wdata(wdata), .s_axil_wstrb(wstrb),
    .s_axil_wvalid(wvalid && write_engine), .s_axil_wready(engine_wready),
    .s_axil_bresp(), .s_axil_bvalid(engine_bvalid), .s_axil_bready(bready),
    .s_axil_araddr(araddr[9:0]), .s_axil_arprot(arprot),
    .s_axil_arvalid(arvalid && read_engine), .s_axil_arready(engine_arready),
    .s_axil_rdata(engine_rdata), .s_axil_rresp(), .s_axil_rvalid(engine_rvalid),
    .s_axil_rready(rready),
    .s_axis_tdata(32'd0), .s_axis_tvalid(1'b0), .s_axis_tlast(1'b0), .s_axis_tready(),
    .m_axis_tdata(), .m_axis_tvalid(), .m_axis_tlast(), .m_axis_tready(1'b1), .irq()
  );

  reg [31:0] memory [0:8191];
  reg [8*256-1:0] file;
  initial begin
    if ($value$plusargs("firmware=%s", file)) $readmemh(file, memory);
    if ($value$plusargs("data=%s", file)) $readmemh(file, memory, 4096);
  end

  // Memory and console: an access takes two cycles.
  reg written, answered;
  reg [31:0] word;
  wire write = awvalid && wvalid && !write_engine && !written;
  wire [31:0] mask = {{8{wstrb[3]}}, {8{wstrb[2]}}, {8{wstrb[1]}}, {8{wstrb[0]}}};
  always @(posedge clk) begin
    m_axis_tvalid <= 0;
    if (write) begin
      if (awaddr[31:28] == 1) begin
        m_axis_tdata <= wdata;
        m_axis_tvalid <= 1;
      end else
        memory[awaddr[14:2]] <= wdata & mask | memory[awaddr[14:2]] & ~mask;
    end
    written <= !rst && (write || written && !bready);
    if (arvalid && !read_engine) word <= memory[araddr[14:2]];
    answered <= !rst && (arvalid && !read_engine && !answered || answered && !rready);
  end
  assign awready = write_engine ? engine_awready : write;
  assign wready = write_engine ? engine_wready : write;
  assign bvalid = engine_bvalid || written;
  assign arready = read_engine ? engine_arready : !answered;
  assign rvalid = engine_rvalid || answered;
  assign rdata = read_engine ? engine_rdata : word;
endmodule
