"""`pleach convert`: the layout in which Deep Compression's AlexNet was published, in and out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pleach_cli.common import ActivationOption, GivenDataset, Json, Order, output_option
from pleach_cli.output import print_json, print_table, progress, say


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
    dataset: GivenDataset = None,
    order: Order = None,
    activation: ActivationOption = None,
    json: Json = False,
) -> None:
    """Convert to and from the layout of the published compressed AlexNet (.net).

    A .net file holds float32 codebooks and biases, codes of 4 or 8 bits and gaps of 4; no shapes.
    One can be made of a bitstream, or of a checkpoint that is pruned and shared. From one comes a
    checkpoint, or a bitstream: --dataset has the training inputs that decide its number formats,
    --activation what stands between the layers.

    Example: [bold]pleach convert alexnet.net --layers alexnet -o a.safetensors[/bold]
    """
    from pleach.errors import ConfigError
    from pleach.files import write_whole
    from pleach.format import save, write_published

    made = {".net", ".safetensors"} | ({".pleach"} if source.suffix == ".net" else set())
    if output.suffix not in made:
        raise ConfigError(
            f"{output}: write a .net or .safetensors file, or, from a .net one, a .pleach file; "
            "pleach compress makes a .pleach file of a checkpoint"
        )
    published = _read(source, layers, order)
    about, lines = {}, []
    if output.suffix == ".net":
        write_whole(output, write_published(published))
    elif output.suffix == ".safetensors":
        from pleach.models import save_state_dict

        save_state_dict(_state(published), output)
    else:
        with progress("choosing number formats"):
            compressed, found = _bitstream(published, dataset, activation)
        save(compressed, output)
        about = {"network": compressed.line, "data": found.as_json()}
        lines = [f"network: {compressed.line}", f"data: {found.describe()}"]
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
        print_json({"file": str(output), "file_bytes": size, "layers": rows} | about)
        return
    for line in lines:
        say(line)
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


def _read(source: Path, layers: str | None, order: str | None) -> list:
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
    return _from_checkpoint(source, None if order is None else order.split(","))


def _from_checkpoint(source: Path, order: list[str] | None) -> list:
    from pleach.format import PublishedLayer
    from pleach.models import read_layers

    return [
        PublishedLayer.of(
            name, parts["weight"].numpy(), parts["bias"].numpy() if "bias" in parts else None
        )
        for name, parts in read_layers(source, order=order).items()
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


def _bitstream(published, dataset: str | None, activation: str | None):
    """In fixed point, and the data set. A bitstream's biases share the codebook with the weights;
    where those are more than 256 values they are clustered."""
    from pleach import data
    from pleach.compression import ShareConfig, finish, share_
    from pleach.errors import ConfigError
    from pleach.models import from_state_dict, layers_of
    from pleach_cli.common import check_fits

    if dataset is None:
        raise ConfigError(
            "give --dataset: the training inputs decide the number formats of a bitstream"
        )
    if activation is None and len(published) > 1:
        raise ConfigError(
            "give --activation relu or none: a .net file does not say what stands between its "
            "layers"
        )
    model = from_state_dict(_state(published), activation=activation or "none")
    found = data.load(dataset, labels=False)
    layers = layers_of(model, found.shape)
    check_fits(found, layers[0].values_in, layers[-1].values_out)
    share_(model, ShareConfig(clusters=256, initialisation="optimal"))
    return finish(model, found.train_images, order=False), found
