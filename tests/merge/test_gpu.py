"""`--cuda`, `--low-cpu-memory`, `--read-to-gpu`, `--multi-gpu`: our methods give what they give without."""

from pathlib import Path

import pytest
import torch

from tests.helpers.families import build
from tests.helpers.merging import ROLES, merge, recipe, tensors

# A plan is put together in several ways: dense sums, thresholds of whole vectors, stock methods, plain means.
RECIPES = {
    "dense": {"method": "xlt_analogy"},
    "global density": {"parameters": {"density": 0.2}},
    "density a tensor": {"parameters": {"density": 0.2, "scope": "tensor"}},
    "ties": {"method": "xlt_ties"},
    "linear": {"method": "xlt_linear"},
}


@pytest.fixture(scope="module")
def xlmr(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("models"), "xlm-roberta")


def document(folder: Path, name: str) -> dict:
    settings = dict(RECIPES[name])
    method = settings.pop("method", "xlt_additive")
    models = {role: dict(parameters) for role, parameters in ROLES.items()}
    if method in ("xlt_ties", "xlt_linear"):
        models["task"]["weight"] = 1.0
    return recipe(folder, models, method, **settings)


def assert_close(found: Path, wanted: Path) -> None:
    one, other = tensors(found), tensors(wanted)
    assert one.keys() == other.keys()
    for name, value in other.items():
        torch.testing.assert_close(one[name], value, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", RECIPES)
def test_a_gpu_gives_the_same(xlmr, name, tmp_path):
    wanted = merge(document(xlmr, name), tmp_path, name="wanted")
    for flags in ("--cuda", "--cuda --low-cpu-memory", "--cuda --read-to-gpu", "--multi-gpu", "--gpu-rich"):
        found = merge(document(xlmr, name), tmp_path, *flags.split(), name=flags.replace(" ", ""))
        assert_close(found, wanted)
