"""LeNet-300-100 by others, beside ours, in one run.

    pip install '.[bench,onnx]'
    python bench/peers.py --json build/peers.json

NNgen writes Verilog of the dense network, int16 activations and int8 weights that are in a memory
outside the chip. It is simulated on Verilator with that memory on an AXI bus without waits, its
outputs are compared with NNgen's own in software, and its netlist is counted by the script that
ours is. onnxruntime has the dense network in float32, one image at a time in one thread.
What hls4ml and FINN publish is quoted: they want Vivado. What is not installed here is left out
and said.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
from timing import CHIPS

from pleach import data
from pleach.cycles import CycleModel
from pleach.engine import EngineConfig
from pleach.files import write_whole
from pleach.format import load
from pleach_cli.output import print_table
from pleach_hw.build.synth import SynthResult, netlist_of, synth
from pleach_sim.runner import run_cocotb

HERE = Path(__file__).parent
MODEL = HERE / "models/lenet_300_100_small.pleach"
CHIP = CHIPS["LFE5U-85F-6"]
SIZES = 784, 300, 100, 10
RESOURCES = "lut4", "ff", "bram", "mult"
#: PEs of ours; of NNgen, the multipliers of a layer and the bits of its bus
PES = 16
NNGEN = (1, 32), (16, 128)

#: what there is to read, with its place; MLPs and the smallest networks on boards
PUBLISHED = (
    ("FINN, MNIST MLP, binary, 95.8 %", "ZC706", 12_300_000, "arXiv 1612.07119, abstract"),
    ("FINN, keyword MLP, 3 bits", "PYNQ-Z2", 57_268, "MLPerf Tiny 0.7, KWS-W3A3"),
    ("FINN, keyword MLP, 3 bits", "Arty A7-100T", 30_152, "MLPerf Tiny 0.7, KWS-W3A3"),
    ("FINN, CIFAR-10 CNN, binary", "PYNQ-Z2", 661, "MLPerf Tiny 0.7, CNV-W1A1"),
    ("hls4ml, CIFAR-10 ResNet", "PYNQ-Z2", 36.6, "MLPerf Tiny 0.7, RN07"),
    ("hls4ml, CIFAR-10 ResNet", "Arty A7-100T", 30.1, "MLPerf Tiny 0.7, RN07"),
)

# NNgen's module with the clock and the reset that the simulation has, and the bus's identifiers.
WRAPPER = """
module peer(
  input clk, rst, output irq, input [7:0] maxi_bid, maxi_rid, output [7:0] maxi_awid, maxi_arid,
  {ports}
);
  assign maxi_awid = 0;
  assign maxi_arid = 0;
  top engine(.CLK(clk), .RESETN(!rst), .irq(irq), {joined});
endmodule
"""


def ours(args: argparse.Namespace) -> list[dict]:
    """The file of `bench/models`, as the engine runs it."""
    model = load(MODEL)
    inputs = model.quantise(data.load("mnist").test_images[:10])
    config = EngineConfig(pes=PES)
    found = None if args.no_netlists else synth(config, CHIP, route=False)
    cycles = float(CycleModel(model, config).run(inputs).latency.mean())
    return [
        {"who": "pleach", "what": f"{PES} PEs, weights in the chip", "cycles": cycles}
        | _resources(found)
    ]


def _resources(found: SynthResult | None) -> dict:
    return {name: getattr(found, name) for name in RESOURCES} if found else {}


def nngen(args: argparse.Namespace) -> list[dict]:
    """The dense network in NNgen's Verilog, of random weights: its time is the same for all."""
    import nngen as ng
    from nngen import verilog as registers

    rows = []
    for parallel, width in NNGEN:
        if parallel not in args.multipliers:
            continue
        rng = np.random.default_rng(1)
        pixels = ng.placeholder(ng.int16, shape=(1, SIZES[0]), name="pixels")
        node = pixels
        for number, (inputs, outputs) in enumerate(pairwise(SIZES)):
            weights = ng.variable(ng.int8, shape=(outputs, inputs), name=f"weights_{number}")
            weights.set_value(rng.integers(-127, 128, (outputs, inputs)))
            bias = ng.variable(ng.int32, shape=(outputs,), name=f"bias_{number}")
            bias.set_value(rng.integers(-100, 100, outputs))
            last = outputs == SIZES[-1]
            node = ng.matmul(
                node, weights, bias=bias, transposed_b=True, act_func=None if last else ng.relu,
                sum_dtype=ng.int32, dtype=ng.int16, name=f"layer_{number}",
            )  # fmt: skip
            node.attribute(par_left_col=parallel, cshamt_out=9)
        image = rng.integers(0, 256, (1, SIZES[0]))
        wanted = ng.eval([node], pixels=image)[0].reshape(-1).tolist()
        text = ng.to_verilog([node], "top", silent=True, config={"maxi_datawidth": width})
        found = None if args.no_netlists else netlist_of(text, CHIP)
        weights = ng.export_ndarray([node], 64).astype(np.uint8).tobytes()
        memory = bytearray(pixels.addr) + image.astype("<i2").tobytes()
        memory += bytes(-len(memory) % 64)
        free = len(memory) + len(weights) + -len(weights) % 64
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "memory.bin")
            file.write_bytes(memory + weights)
            found_cycles = run_cocotb(
                text + _wrapper(text),
                "peer",
                "nngen_bench",
                parameters={
                    "memory": str(file),
                    "registers": [
                        (registers.control_reg_global_addr, free + 4096),
                        (registers.control_reg_interrupt_ier, 1),
                    ],
                    "start": registers.control_reg_start,
                    "output": node.addr,
                    "wanted": wanted,
                },
                python_path=HERE,
                ports=("irq", "maxi_*", "saxi_*"),
            )["cycles"]
        rows.append(
            {
                "who": f"NNgen {ng.__version__}",
                "what": f"{parallel} multipliers a layer, {width} bits of bus, weights outside",
                "cycles": found_cycles,
            }
            | _resources(found)
        )
    return rows


def _wrapper(verilog: str) -> str:
    head = verilog[verilog.index("module top\n") : verilog.index(");", verilog.index("module top"))]
    ports = [line.strip().rstrip(",").replace(" reg ", " ") for line in head.splitlines()]
    ports = [port for port in ports if "axi_" in port]
    names = [port.split()[-1] for port in ports]
    joined = ", ".join(f".{name}({name})" for name in names)
    return WRAPPER.format(ports=",\n  ".join(ports), joined=joined)


def onnxruntime(args: argparse.Namespace) -> list[dict]:
    """The dense network on this machine's processor."""
    import onnx
    import onnxruntime as ort

    rng, nodes, values, name = np.random.default_rng(1), [], [], "pixels"
    for number, (inputs, outputs) in enumerate(pairwise(SIZES)):
        for what, shape in ((f"w{number}", (outputs, inputs)), (f"b{number}", (outputs,))):
            value = rng.normal(size=shape).astype(np.float32)
            values.append(onnx.numpy_helper.from_array(value, what))
        nodes.append(
            onnx.helper.make_node(
                "Gemm", [name, f"w{number}", f"b{number}"], [f"s{number}"], transB=1
            )
        )
        name = f"s{number}"
        if outputs != SIZES[-1]:
            nodes.append(onnx.helper.make_node("Relu", [name], [f"a{number}"]))
            name = f"a{number}"
    ends = [
        onnx.helper.make_tensor_value_info(each, onnx.TensorProto.FLOAT, [1, size])
        for each, size in (("pixels", SIZES[0]), (name, SIZES[-1]))
    ]
    graph = onnx.helper.make_graph(nodes, "lenet_300_100", ends[:1], ends[1:], values)
    opset = [onnx.helper.make_opsetid("", 17)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=9)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options)
    given = {"pixels": rng.normal(size=(1, SIZES[0])).astype(np.float32)}
    taken = []
    for _ in range(3000):
        begun = time.perf_counter()
        session.run(None, given)
        taken.append(time.perf_counter() - begun)
    return [
        {
            "who": f"onnxruntime {ort.__version__}",
            "what": "float32 on this processor, one thread",
            "microseconds": 1e6 * float(np.median(taken)),
            "best_microseconds": 1e6 * min(taken),
        }
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--multipliers", type=int, nargs="+", default=[1, 16], help="of NNgen's")
    parser.add_argument("--no-netlists", action="store_true", help="cycles and times only")
    args = parser.parse_args()
    runs: tuple[Callable[[argparse.Namespace], list[dict]], ...] = (ours, nngen, onnxruntime)
    rows, missing = [], []
    for run in runs:
        try:
            rows += run(args)
        except ModuleNotFoundError as error:
            missing.append(run.__name__)
            print(f"{run.__name__} is left out: {error}; pip install '.[bench,onnx]' has it")
    columns = ("who", "what", "cycles", *RESOURCES, "microseconds", "best_microseconds")
    print_table(
        "LeNet-300-100",
        columns,
        [
            [
                f"{row[name]:,.0f}" if isinstance(row.get(name), int | float)
                else row.get(name, "") for name in columns
            ]
            for row in rows
        ],
    )  # fmt: skip
    print_table(
        "published", ("what", "board", "a second", "where"),
        [(what, where, f"{rate:,}", source) for what, where, rate, source in PUBLISHED],
    )  # fmt: skip
    if args.json:
        found = {"chip": CHIP.device, "rows": rows, "missing": missing, "published": PUBLISHED}
        write_whole(args.json, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
