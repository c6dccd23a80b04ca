"""`pleach convert`: the layout in which Deep Compression's AlexNet was published, in and out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pleach.cli.common import DatasetOption, Json, dataset_for, output_option
from pleach.cli.output import print_json, print_table, say


def command(
    source: Annotated[
        Path,
        typer.Argument(help="A .net, .pleach or checkpoint file.", exists=True, dir_okay=False),
    ],
    output: Annotated[
        Path,
        output_option("File to write: .net, .safetensors, or from a .net .pleach."),
    ],
    layers: Annotated[
        str | None,
        typer.Option(
            help="What a .net file does not say: alexnet, or name:shape[:bits] of every layer with "
            "commas between, for instance fc1:300x784:4,fc2:10x300:4."
        ),
    ] = None,
    dataset: DatasetOption = None,
    json: Json = False,
) -> None:
    """Convert to and from the layout of the published compressed AlexNet (.net).

    A .net file holds float32 codebooks and biases, codes of 4 or 8 bits and gaps of 4; no shapes.
    One can be made of a bitstream, or of a checkpoint that is pruned and shared. From one comes a
    checkpoint, or a bitstream, whose number formats the training images of the data set decide.

    Example: [bold]pleach convert alexnet.net --layers alexnet -o a.safetensors[/bold]
    """
    from pleach.errors import ConfigError
    from pleach.files import write_whole
    from pleach.format import write_published

    made = {".net", ".safetensors"} | ({".pleach"} if source.suffix == ".net" else set())
    if output.suffix not in made:
        raise ConfigError(
            f"{output}: write a .net or .safetensors file, or, from a .net one, a .pleach file; "
            "pleach compress makes a .pleach file of a checkpoint"
        )
    published = _read(source, layers)
    if output.suffix == ".net":
        write_whole(output, write_published(published))
    elif output.suffix == ".safetensors":
        from pleach.models import save_state_dict

        save_state_dict(_state(published), output)
    else:
        _bitstream(published, dataset).save(output)
    rows = [
        {
            "layer": str(layer.shape),
            "kept": int((layer.codes != 0).sum()),
            "density": float((layer.codes != 0).mean()),
            "values": len(set(layer.codebook.tolist()) - {0.0}),
        }
        for layer in published
    ]
    size = output.stat().st_size
    if json:
        print_json({"file": str(output), "file_bytes": size, "layers": rows})
        return
    print_table(
        "What it holds",
        ("layer", "shape", "bits", "kept", "%", "values"),
        [
            (
                layer.shape.name,
                "×".join(map(str, layer.shape.shape)),
                str(layer.shape.bits),
                f"{row['kept']:,}",
                f"{100 * row['density']:.1f}",
                str(row["values"]),
            )
            for layer, row in zip(published, rows, strict=True)
        ],
    )
    say((output, "bold"), f": {size:,} bytes")
    if output.suffix == ".net":
        say(f"To read it: --layers {','.join(row['layer'] for row in rows)}")


def _read(source: Path, layers: str | None) -> list:
    """The layers of a file of any of the three kinds."""
    from pleach.errors import ConfigError
    from pleach.format import ALEXNET, LayerShape, load, published_layers, read_published

    if source.suffix == ".net":
        if layers is None:
            raise ConfigError(f"{source}: a .net file needs --layers: it does not hold its shapes")
        shapes = ALEXNET if layers == "alexnet" else map(LayerShape.parse, layers.split(","))
        return read_published(source.read_bytes(), tuple(shapes))
    if layers is not None:
        raise ConfigError(f"--layers is for .net files, {source} holds its shapes")
    if source.suffix == ".pleach":
        return published_layers(load(source))
    return _from_checkpoint(source)


def _from_checkpoint(source: Path) -> list:
    from pleach.format import PublishedLayer
    from pleach.models import layer_tensors, load_checkpoint

    return [
        PublishedLayer.of(
            name, parts["weight"].numpy(), parts["bias"].numpy() if "bias" in parts else None
        )
        for name, parts in layer_tensors(load_checkpoint(source)).items()
    ]


def _state(published) -> dict:
    import torch

    from pleach.errors import ModelError

    names = [layer.shape.name for layer in published]
    for name in names:
        if names.count(name) > 1:
            raise ModelError(
                f"two layers are called {name!r}: a checkpoint wants names that differ"
            )
    state = {}
    for layer in published:
        state[f"{layer.shape.name}.weight"] = torch.from_numpy(layer.weights)
        state[f"{layer.shape.name}.bias"] = torch.from_numpy(layer.bias)
    return state


def _bitstream(published, dataset: str | None):
    """In fixed point. A bitstream's biases share the codebook with the weights; where those are
    more than 256 values they are clustered."""
    from pleach.compression import ShareConfig, calibrate, share_
    from pleach.compression.pipeline import real_layers
    from pleach.models import from_state_dict, layers_of

    model = from_state_dict(_state(published))
    layers = layers_of(model)
    found = dataset_for(dataset, layers[0].values_in, layers[-1].values_out)
    share_(model, ShareConfig(clusters=256, initialisation="optimal"))
    return calibrate(real_layers(model), found.train_images)
