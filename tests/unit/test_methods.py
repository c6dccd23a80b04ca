"""The list of methods: each is found, says its source and when to use it, and is on the page."""

import importlib
import json
import pkgutil
from pathlib import Path

import pytest

import pleach.compression
from pleach.compression.kinds import Kinds
from pleach.compression.methods import KINDS, families, methods, page

PAGE = Path(__file__).parents[2] / "docs/methods.md"
#: the survey's rows, each by the kinds that it is made of
SURVEY = {
    "prune and retrain": ("criterion magnitude", "allocation threshold", "schedule iterative"),
    "gradual magnitude": ("criterion magnitude", "schedule cubic"),
    "structured sparsity": (
        "regulariser group_lasso", "granularity channel", "granularity input", "granularity shape",
        "granularity layer",
    ),
    "filters by norm": ("criterion filter_norm", "granularity channel"),
    "zeros": ("criterion apoz",),
    "entropy": ("criterion entropy",),
    "energy": ("criterion least_squares", "allocation energy"),
    "masks by trying": ("criterion random_masks", "criterion genetic"),
    "discriminant": ("criterion lda",),
    "correlation": ("criterion correlation",),
    "taylor": ("criterion feature_taylor", "criterion taylor"),
    "damage and surgeon": ("criterion obd", "criterion obs", "criterion saliency"),
    "slimming": ("regulariser slimming", "criterion slimming"),
    "sparse decomposition": ("factoriser sparse",),
    "blocks and PEs": ("granularity block", "granularity pe", "granularity element"),
    "splicing": ("schedule surgery",),
    "at once": ("schedule one_shot", "schedule linear"),
    "k-means": ("quantiser kmeans",),
    "Ristretto": ("quantiser fixed_point", "quantiser minifloat", "quantiser powers_of_two"),
    "BinaryConnect": ("quantiser binary_connect",),
    "BNN": ("quantiser bnn", "activation sign"),
    "BWN, XNOR-Net": ("quantiser bwn", "activation sign"),
    "QNN": ("quantiser qnn", "activation qnn"),
    "ADMM": ("quantiser admm", "regulariser admm"),
    "BWNH": ("quantiser bwnh",),
    "TWN": ("quantiser twn",),
    "TTQ": ("quantiser ttq",),
    "TNN": ("activation ternary",),
    "ternary factorisation": ("factoriser ternary",),
    "ShiftCNN": ("quantiser shiftcnn",),
    "INQ": ("quantiser inq",),
    "DoReFa": ("quantiser dorefa", "activation dorefa"),
    "Q-CNN": ("factoriser product",),
    "HashedNets": ("quantiser hashed",),
    "SVD": ("factoriser svd",),
    "tensors": (
        "factoriser tucker2", "factoriser cp", "factoriser block_term", "factoriser tensor_train",
    ),
    "Flexpoint": ("regulariser flexpoint",),
    "ternary gradients": ("regulariser ternary_gradients",),
    "LBCNN": ("factoriser lbcnn",),
    "teachers": (
        "teacher model", "teacher attention", "teacher gradient_attention", "teacher hints",
    ),
}  # fmt: skip


def test_every_family_is_found():
    folders = [f.name for f in pkgutil.iter_modules(pleach.compression.__path__) if f.ispkg]
    there = [
        family
        for folder in folders
        for family in vars(importlib.import_module(f"pleach.compression.{folder}")).values()
        if isinstance(family, Kinds)
    ]
    assert len(there) >= 8 and {id(f) for f in there} == {id(f) for f in families().values()}
    assert set(families()) <= set(KINDS), (
        "a family that pleach.compression.methods has no place for"
    )


def test_every_method_says_what_it_is_from_and_when_to_use_it():
    found = methods()
    for method in found:
        assert method.source and method.title and method.text, method
        assert method.use, (
            f"{method.module}: the docstring of {method.name} has no paragraph that begins with "
            "'Use it'"
        )
    assert len({(method.kind, method.name) for method in found}) == len(found) > 40


@pytest.mark.parametrize("row", SURVEY)
def test_the_survey_is_there(row):
    assert set(SURVEY[row]) <= {f"{method.kind} {method.name}" for method in methods()}


def test_the_page_is_the_code_s():
    assert PAGE.read_text("utf-8") == page(), (
        "make it again: pleach methods --page > docs/methods.md"
    )


def test_the_command(pleach):
    found = json.loads(pleach("methods", "--json")[0])["methods"]
    assert [(each["kind"], each["name"]) for each in found] == [(m.kind, m.name) for m in methods()]
    assert {"name", "kind", "source", "needs", "settings"} <= set(found[0])
    (lda,) = [each for each in found if each["name"] == "lda"]
    assert lda["needs"] == ["samples", "classes", "granularity channel"]
    assert lda["settings"] == {"samples": 1024} and lda["setting"] == "prune.criterion"
    only = json.loads(pleach("methods", "schedule", "--json")[0])["methods"]
    assert {each["kind"] for each in only} == {"schedule"} and len(only) >= 4
    out, _ = pleach("methods", "obs")
    assert "Hassibi and Stork 1993" in out and "Use it where there is no time to retrain" in out
    assert pleach("methods", "--page")[0] == page()
    assert (
        "no kind or method is called 'ob': did you mean 'ob" in pleach("methods", "ob", code=2)[1]
    )
