"""Networks that nobody here wrote, from packages on PyPI: what runs of them, and how.

    pip install --no-deps torchvision==0.28.0 timm==1.0.31 pytorchcv==0.0.74 \\
        facenet-pytorch==2.6.0 tqdm openwakeword==0.4.0 basic-pitch==0.4.0 magika==1.0.3 \\
        silero-vad==6.2.3 rapidocr-onnxruntime==1.4.4
    python bench/strangers.py --json strangers.json

Each goes through `pleach check`. What is supported is pruned to a tenth of its weights and shared
by 16 values a layer, without any training, then made a file of integers; the reference runs it on
an input, and the cycle model on an engine of 16 PEs that is large enough. What is kept of a layer
is made larger first, so that its sum of squares stays: training would see to that. So the figures
say that a network arrives, and nothing about how well it would do after training. `--rtl` runs the
smallest two on Verilator, too. Weights are those in the package, where it has some, else the random
ones that its code makes. A package that is not installed is left out.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pleach.compile.plan import planned
from pleach.compression import PruneConfig, ShareConfig, finish, prune_, share_
from pleach.engine import EngineConfig
from pleach.engine.plan import base_engine, fitted
from pleach.errors import PleachError
from pleach.files import write_whole
from pleach.format import dumps, loads
from pleach.model import CompressedModel
from pleach.models import layers_of, network_of
from pleach.models.check import REFUSED, check, check_onnx
from pleach.page import Runs
from pleach.reference import Reference
from pleach_cli.output import print_table
from pleach_sim.simulate import Job, simulate_jobs

PES = 16
KEPT, CLUSTERS = 0.1, 16
#: what the outputs' fraction shows at best
FINEST = 2.0**-14
#: inputs for the choice of fractions, of which the first one runs on the engine
INPUTS = 4
#: the smallest two, which `--rtl` runs
IN_RTL = ("alexa", "test_resnet")


@dataclass(frozen=True)
class Stranger:
    """A network in a package.

    Args:
        package: its distribution's name.
        name: of the network.
        make: the module, or the path of an ONNX file in the package.
        shape: of an input; empty where the file says it.
        weights: ``trained`` where the package has them, else ``random``.
    """

    package: str
    name: str
    make: Callable[[], nn.Module] | str
    shape: tuple[int, ...] = ()
    weights: str = "random"


def _torchvision(name: str, **given: Any) -> nn.Module:
    _defined()
    from torchvision import models

    return getattr(models, name)(**given)


def _timm(name: str) -> nn.Module:
    _defined()
    import timm

    return timm.create_model(name, num_classes=10)


def _pytorchcv(name: str) -> nn.Module:
    _defined()
    from pytorchcv.model_provider import get_model

    return get_model(name, pretrained=False)


def _facenet() -> nn.Module:
    _defined()
    from facenet_pytorch.models.mtcnn import PNet

    return PNet()


def _defined() -> None:
    """Let torchvision be imported beside a torch of another build: its own operators, of which none
    of these networks has one, are then missing, and it stumbles over their names."""
    if _LIBRARY:
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    _LIBRARY.append(library)
    registered = torch.library.register_fake

    def named(name: str, *_: Any, **__: Any) -> Callable[[Any], Any]:
        library.define(f"{name.partition('::')[2]}(Tensor none) -> Tensor")
        return lambda function: function

    torch.library.register_fake = named
    try:
        import torchvision  # noqa: F401
    finally:
        torch.library.register_fake = registered


_LIBRARY: list[Any] = []

STRANGERS = (
    *(
        Stranger("torchvision", name, lambda name=name: _torchvision(name), (3, 32, 32))
        for name in ("resnet18", "squeezenet1_1", "shufflenet_v2_x0_5", "mobilenet_v3_small")
    ),
    *(
        Stranger("timm", name, lambda name=name: _timm(name), (3, size, size))
        for name, size in (
            ("mobilenetv2_035", 32), ("test_resnet", 32), ("test_byobnet", 32), ("test_vit", 160),
        )
    ),
    *(
        Stranger("pytorchcv", name, lambda name=name: _pytorchcv(name), (3, 32, 32))
        for name in ("resnet20_cifar10", "nin_cifar10")
    ),
    *(
        Stranger("openwakeword", name, f"openwakeword/resources/models/{file}.onnx", (), "trained")
        for name, file in (
            ("alexa", "alexa_v0.1"), ("timer", "timer_v0.1"), ("weather", "weather_v0.1"),
            ("embedding", "embedding_model"),
        )
    ),
    Stranger("facenet-pytorch", "PNet of MTCNN", _facenet, (3, 24, 24), "trained"),
    Stranger(
        "basic-pitch", "nmp", "basic_pitch/saved_models/icassp_2022/nmp.onnx", (), "trained"
    ),
    Stranger("magika", "standard_v3_3", "magika/models/standard_v3_3/model.onnx", (), "trained"),
    Stranger("silero-vad", "silero_vad_16k", "silero_vad/data/silero_vad_16k_sequence.onnx", (),
             "trained"),
    Stranger("rapidocr-onnxruntime", "cls",
             "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx", (), "trained"),
)  # fmt: skip


def taken(each: Stranger) -> tuple[nn.Module | None, dict[str, Any]]:
    """The network as it is read, or None, and what `pleach check` says of it."""
    start = time.process_time()
    model, why, path, rows = None, "", "", []
    try:
        if isinstance(each.make, str):
            path = str(importlib.metadata.distribution(each.package).locate_file(each.make))
            model, rows = check_onnx(Path(path))
        else:
            torch.manual_seed(0)
            own = each.make().eval()
            rows = check(own, each.shape)
            if all(row.runs != REFUSED for row in rows):
                model = network_of(own, each.shape)
    except PleachError as error:
        why = str(error).replace(path, Path(path).name) if path else str(error)
    refused = [row for row in rows if row.runs == REFUSED]
    kinds = dict.fromkeys(f"{row.computes}{f', {row.why}' if row.why else ''}" for row in refused)
    return model, {
        "package": each.package,
        "version": importlib.metadata.version(each.package),
        "name": each.name,
        "weights": each.weights,
        "nodes": len(rows),
        "refused": len(refused),
        "why": why or "; ".join(kinds),
        "check_seconds": time.process_time() - start,
    }


def arrived(model: nn.Module) -> tuple[CompressedModel, np.ndarray, float | None]:
    """The network as the integers of its file, an input, and how far outputs are from those of the
    same weights in floats, in the deviation of these; None where random weights leave so little of
    an input that no fraction shows it."""
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((INPUTS, *model.shape)).astype(np.float32)
    for layer in layers_of(model):
        weight = layer.module.weight.detach()
        largest = weight.square().flatten().topk(max(round(KEPT * weight.numel()), 1)).values
        if largest.sum():  # what was initialised as zero stays
            weight.mul_((weight.square().sum() / largest.sum()).sqrt())
    prune_(model, PruneConfig(density=KEPT))
    share_(model, ShareConfig(clusters=CLUSTERS), seed=0)
    with torch.no_grad():
        wanted = model(torch.from_numpy(inputs)).flatten(1).numpy()
    compressed = loads(dumps(finish(model, inputs)))
    integers = compressed.quantise(inputs)
    found = compressed.dequantise(Reference(compressed).run(integers))
    deviation = float(wanted.std())
    if deviation < FINEST:
        return compressed, integers[:1], None
    return compressed, integers[:1], float(np.sqrt(np.mean((found - wanted) ** 2))) / deviation


def on_engine(model: CompressedModel, inputs: np.ndarray, name: str, rtl: bool) -> dict[str, Any]:
    """Cycles of an input, by the cycle model and perhaps by the RTL, which must agree."""
    config = fitted(model, base_engine(model, PES))
    cycles = int(Runs.of(model, inputs, config).latency[0])
    row = {"maps": bool(config.maps), "cycles": cycles, "rtl": False}
    if rtl and name in IN_RTL:
        row["rtl"] = same(model, inputs, config, name, cycles)
    return row


def same(
    model: CompressedModel, inputs: np.ndarray, config: EngineConfig, name: str, cycles: int
) -> bool:
    plan = planned(model, config, inputs)
    (run,) = simulate_jobs([Job(name, model, inputs, plan=plan)], config)
    if not run.bit_exact or run.latency_cycles != [cycles]:
        raise SystemExit(f"{name}: {run.mismatch or run.latency_cycles}, not {cycles} cycles")
    return True


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="*", metavar="NAME")
    parser.add_argument("--rtl", action="store_true", help="the smallest two on Verilator, too")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rows = []
    for each in STRANGERS:
        if args.only and each.name not in args.only:
            continue
        try:
            importlib.metadata.version(each.package)
        except importlib.metadata.PackageNotFoundError:
            print(f"{each.name}: left out, {each.package} is not installed")
            continue
        model, row = taken(each)
        if model is not None:
            row["parameters"] = sum(parameter.numel() for parameter in model.parameters())
            try:
                compressed, inputs, distance = arrived(model)
                row |= {"bytes": len(dumps(compressed))}
                row |= {} if distance is None else {"distance": distance}
                row |= on_engine(compressed, inputs, each.name, args.rtl)
            except PleachError as error:
                row["why"] = str(error)
        print(row, flush=True)
        rows.append(row)
    heads = ("network", "package", "nodes", "refused", "file", "cycles", "why")
    print_table(
        f"Of others, {PES} PEs",
        heads,
        [
            (
                row["name"], row["package"], str(row["nodes"]), str(row["refused"]),
                f"{row.get('bytes', 0):,}", f"{row.get('cycles', 0):,}", row["why"][:60],
            )
            for row in rows
        ],
    )  # fmt: skip
    if args.json:
        write_whole(args.json, json.dumps({"strangers": rows}, indent=2))


if __name__ == "__main__":
    main()
