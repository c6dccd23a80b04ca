"""Checkpoints, read without running any code that they may hold."""

from __future__ import annotations

import json
import pickle
import re
import warnings
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from pleach.errors import DataError, ModelError
from pleach.files import write_whole
from pleach.models.layers import layers_of
from pleach.models.networks import lenet_5


def load_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a ``.safetensors`` file, or in one of torch's without pickled code.

    Raises:
        DataError: no such file, a damaged one, or one that holds anything but named tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such checkpoint")
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                # The format sorts its keys; a file of ours has the layers' order in its metadata.
                keys = json.loads((file.metadata() or {}).get("order", "null"))
                if keys is None or sorted(keys) != sorted(file.keys()):
                    keys = sorted(file.keys(), key=_natural)
                return {key: file.get_tensor(key) for key in keys}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd pickle protocols: what matters is refused
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        with path.open("rb") as file:
            head = file.read(2)
            if head != b"PK" and head[:1] != b"\x80":  # no archive and no pickle
                raise DataError(f"{path} is not a checkpoint") from error
        raise DataError(
            f"{path} holds pickled objects, which are never run; save model.state_dict() instead"
        ) from error
    except Exception as error:  # whatever torch's reader trips over in a damaged file
        why = error if isinstance(error, SafetensorError | OSError) else type(error).__name__
        raise DataError(f"{path} is not a checkpoint or is damaged: {why}") from error
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(isinstance(t, Tensor) for t in state.values()):
        raise DataError(f"{path} holds no state dict; save model.state_dict()")
    return dict(state)


def save_checkpoint(model: nn.Module, path: str | Path) -> Path:
    """Write the weights and biases as safetensors; the file appears whole or not at all.

    Pruned and shared layers are written as the plain tensors that they amount to.
    """
    state = {}
    for layer in layers_of(model):
        for part in ("weight", "bias"):
            if (tensor := getattr(layer.module, part)) is not None:
                state[f"{layer.name}.{part}"] = tensor.detach().cpu().contiguous()
    return save_state_dict(state, path)


def save_state_dict(state: Mapping[str, Tensor], path: str | Path) -> Path:
    """Write named tensors as safetensors, their order in the metadata."""
    return write_whole(path, save(dict(state), metadata={"order": json.dumps(list(state))}))


def from_state_dict(state: Mapping[str, Tensor]) -> nn.Sequential:
    """The network of Linear layers in `state`, in its order, with ReLU between them; or LeNet-5.

    Keys are ``<layer>.weight``, ``(outputs, inputs)``, and optionally ``<layer>.bias``,
    ``(outputs,)``. Layers keep their names, dots become underscores. Tensors with the names and
    shapes of `lenet_5` are taken for that network. Of other convolutions a state dict does not say
    how they stride, pad and pool: make such a network yourself and load the state dict into it.

    Raises:
        ModelError: a tensor that is no part of such a network; names it.

    >>> from_state_dict({"0.weight": torch.zeros(3, 4), "2.weight": torch.zeros(2, 3)})
    Sequential(
      (0): Linear(in_features=4, out_features=3, bias=False)
      (relu0): ReLU()
      (2): Linear(in_features=3, out_features=2, bias=False)
    )
    """
    names = [key.removesuffix(".weight") for key in state if key.endswith(".weight")]
    lenet = lenet_5()
    known = {key: tensor.shape for key, tensor in lenet.state_dict().items()}
    convolutions = known == {key: tensor.shape for key, tensor in state.items()}
    for key, tensor in state.items():
        name, _, part = key.rpartition(".")
        if part not in ("weight", "bias") or name not in names:
            raise ModelError(f"{key!r} is neither weight nor bias of a Linear layer")
        if part == "weight" and tensor.ndim != 2 and not convolutions:
            why = {
                1: "; fold a normalisation into the layer before it",
                4: "; how a convolution strides, pads and pools is not in a state dict: make the "
                "network in Python, load_state_dict, then pleach.compress",
            }
            shape = tuple(tensor.shape)
            raise ModelError(f"layer {name!r}: weight of shape {shape}{why.get(tensor.ndim, '')}")
        if not tensor.is_floating_point() or not bool(torch.isfinite(tensor).all()):
            raise ModelError(f"{key!r} holds {tensor.dtype} values that are not all finite reals")
        outputs = state[f"{name}.weight"].shape[0]
        if part == "bias" and tuple(tensor.shape) != (outputs,):
            raise ModelError(f"layer {name!r}: bias {tuple(tensor.shape)} for {outputs} outputs")
    if not names:
        raise ModelError("the checkpoint holds no Linear weight")
    if convolutions:
        lenet.load_state_dict(state)
        return lenet
    for before, after in pairwise(names):
        gives, takes = state[f"{before}.weight"].shape[0], state[f"{after}.weight"].shape[1]
        if gives != takes:
            raise ModelError(
                f"layer {after!r} takes {takes} inputs, layer {before!r} before it gives {gives}"
            )
    model = nn.Sequential()
    for index, name in enumerate(names):
        weight, bias = state[f"{name}.weight"], state.get(f"{name}.bias")
        layer = nn.utils.skip_init(
            nn.Linear, weight.shape[1], weight.shape[0], bias=bias is not None
        )
        with torch.no_grad():
            layer.weight.copy_(weight)
            if bias is not None:
                layer.bias.copy_(bias)
        model.add_module(name.replace(".", "_"), layer)
        if index < len(names) - 1:
            model.add_module(f"relu{index}", nn.ReLU())
    return model


def _natural(key: str) -> list[tuple[str, int]]:
    """Sort key in which ``10.weight`` comes after ``2.weight``."""
    return [(text, int(part or 0)) for text, part in re.findall(r"(\D*)(\d*)", key)]
