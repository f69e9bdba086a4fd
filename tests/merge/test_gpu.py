"""`--cuda`, `--low-cpu-memory`, `--read-to-gpu`, `--multi-gpu` mean for our methods what they do for others.

Where there is no GPU, mergekit's engine for several of them runs on two devices that are one processor: what
it asks of a plan (tasks that may be split and run side by side) is tried, what a GPU computes is not.
"""

import contextlib
import queue
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mergekit import multigpu_executor
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions

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


class Heard(queue.Queue):
    """A queue that goes on when what was put into it is taken out."""

    def put(self, item, *_args, **_options):
        super().put(item)
        while not self.empty():
            time.sleep(0.001)


class Unheard(queue.Queue):
    """A queue out of which nothing comes."""

    def get(self, *_args, **_options):
        time.sleep(0.01)
        raise queue.Empty


@pytest.mark.parametrize("done", [Heard, Unheard])
@pytest.mark.parametrize("name", RECIPES)
def test_tasks_may_run_on_two_devices_at_once(xlmr, name, done, tmp_path, monkeypatch):
    """mergekit does again what it has not heard of when the last device ends; here of all tasks, or of none.

    Of a tensor without its saving it may hear as well, by chance: then it ends with `No value for required
    tensor`, with its own methods, too.
    """
    wanted = merge(document(xlmr, name), tmp_path, name="wanted")
    at_work = set()

    @contextlib.contextmanager
    def stream(_):
        at_work.add(threading.get_ident())
        yield

    monkeypatch.setattr(multigpu_executor, "get_torch_accelerator_type", lambda: "cpu")
    monkeypatch.setattr(multigpu_executor, "get_torch_accelerator_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: device)
    monkeypatch.setattr(torch.cuda, "stream", stream)
    monkeypatch.setattr(multigpu_executor, "queue", SimpleNamespace(Queue=done, Empty=queue.Empty))
    config = MergeConfiguration.model_validate(document(xlmr, name))
    run_merge(config, str(tmp_path / "found"), MergeOptions(multi_gpu=True, quiet=True))
    assert len(at_work) == 2
    assert_close(tmp_path / "found", wanted)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", RECIPES)
def test_a_gpu_gives_the_same(xlmr, name, tmp_path):
    wanted = merge(document(xlmr, name), tmp_path, name="wanted")
    for flags in ("--cuda", "--cuda --low-cpu-memory", "--cuda --read-to-gpu", "--multi-gpu", "--gpu-rich"):
        found = merge(document(xlmr, name), tmp_path, *flags.split(), name=flags.replace(" ", ""))
        assert_close(found, wanted)
