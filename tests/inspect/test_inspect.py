"""`taxlt inspect`: the facts against plain loops, and what a user sees."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from taxlt_mergekit.inspect.facts import OUTSIDE, Facts, by_layer, measure, summed
from taxlt_mergekit.merge import arithmetic
from tests.helpers.families import build
from tests.helpers.hosts import console, forked
from tests.helpers.merging import recipe, tensors

numbers = st.sampled_from([0.0, 0.5, -0.5, 1.0, -2.0, 3.0])


@st.composite
def models(draw):
    """θ₀ and up to three checkpoints of one small shape, and the axis of its vocabulary."""
    shape = draw(st.sampled_from([(4, 3), (5, 2), (1, 7)]))
    count = draw(st.integers(1, 3))
    size = math.prod(shape)
    lists = draw(
        st.lists(st.lists(numbers, min_size=size, max_size=size), min_size=count + 1, max_size=count + 1)
    )
    base, *checkpoints = (torch.tensor(values).reshape(shape) for values in lists)
    return base, checkpoints, draw(st.sampled_from([None, 0, 1]))


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(arithmetic, "_CPU_CHUNK", 3)
    monkeypatch.setattr(arithmetic, "_UNDIVIDED", 3)


@given(models())
@settings(deadline=None)
def test_facts_are_those_of_a_plain_loop(drawn):
    base, checkpoints, axis = drawn
    found = measure(base, checkpoints, axis)
    vectors = [(checkpoint - base).double().numpy() for checkpoint in checkpoints]
    first = vectors[0]
    assert found.base == pytest.approx((base.double().numpy() ** 2).sum())
    for i, one in enumerate(vectors):
        assert found.moved[i] == np.count_nonzero(one)
        pairs = [(a, b) for a, b in zip(one.flat, first.flat, strict=True) if a and b]
        assert found.both[i] == len(pairs)
        assert found.opposed[i] == sum(a * b < 0 for a, b in pairs)
        rows = [] if axis is None else list(np.moveaxis(one, axis, 0))
        assert (found.rows, found.moved_rows[i]) == (len(rows), sum(bool(row.any()) for row in rows))
        for j, other in enumerate(vectors):
            assert found.gram[i][j] == pytest.approx((one * other).sum())
            norms = np.linalg.norm(one) * np.linalg.norm(other)
            cosine = found.cosine(i, j)
            assert cosine is None if norms == 0 else cosine == pytest.approx((one * other).sum() / norms)


@given(models())
@settings(deadline=None, max_examples=30)
def test_facts_of_parts_add_up_to_those_of_the_whole(drawn):
    base, checkpoints, _ = drawn
    halves = [
        measure(base[rows], [c[rows] for c in checkpoints], 0) for rows in (slice(0, 1), slice(1, None))
    ]
    parts = dict(zip("ab", halves, strict=True))
    assert summed(parts, {"a": "all", "b": "all"})["all"] == measure(base, checkpoints, 0)


def test_half_precision_is_measured_in_float32():
    base, checkpoint = torch.full((3,), 300.0).half(), torch.full((3,), -300.0).half()
    found = measure(base, [checkpoint])
    assert found.gram == ((3 * 600.0**2,),)
    assert isinstance(found, Facts) and found.is_finite


def test_layers_and_kinds():
    one = by_layer(["m.embed.weight", "m.layer.0.q.weight", "m.layer.10.q.bias", "m.norm.bias"])
    assert list(one.values()) == [
        (OUTSIDE, "embed"),
        ("layer 0", "q"),
        ("layer 10", "q.bias"),
        (OUTSIDE, "norm.bias"),
    ]
    two = by_layer(["encoder.block.0.q.weight", "decoder.block.0.q.weight"])
    assert {layer for layer, _ in two.values()} == {"encoder.block layer 0", "decoder.block layer 0"}


@pytest.fixture(scope="module")
def xlmr(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("xlmr"), "xlm-roberta")


def written(document: dict, tmp_path: Path) -> Path:
    path = tmp_path / "quy_plus_tgt.yml"
    path.write_text(yaml.safe_dump(document))
    return path


def test_what_a_user_sees(xlmr, tmp_path):
    path = written(recipe(xlmr), tmp_path)
    done = console("taxlt", "inspect", path, "--output", tmp_path / "facts")
    assert done.code == 0, done.stderr
    page = (tmp_path / "facts" / "inspect.md").read_text(encoding="utf-8")
    assert page.startswith(done.stdout.rstrip())
    for name in ("vectors.png", "vectors.svg", "by_layer.csv", "by_kind.csv"):
        assert (tmp_path / "facts" / name).stat().st_size > 50
    with (tmp_path / "facts" / "vectors.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["vector"] for row in rows] == ["task task", "source src", "target tgt"]

    base = tensors(xlmr / "theta0")
    shared = sorted(base.keys() & tensors(xlmr / "task").keys())
    flat = {
        model: np.concatenate([tensors(xlmr / model)[name].double().numpy().ravel() for name in shared])
        for model in ("theta0", "task", "src", "tgt")
    }
    task, target = flat["task"] - flat["theta0"], flat["tgt"] - flat["theta0"]
    size = np.linalg.norm(target) / np.linalg.norm(flat["theta0"])
    cosine = task @ target / np.linalg.norm(task) / np.linalg.norm(target)
    assert float(rows[2]["‖τ‖/‖θ₀‖ (%)"]) == pytest.approx(100 * size, abs=1e-4)
    assert float(rows[2]["cosine with task task"]) == pytest.approx(cosine, abs=1e-5)
    assert f"{sum(base[name].numel() for name in shared):,} weights" in done.stdout


def test_vectors_that_stand_out_are_named(xlmr, tmp_path):
    """One that is zero, one hardly trained, one that undoes the task vector, and one that moved one row."""
    base, task = load_file(xlmr / "theta0" / "model.safetensors"), tensors(xlmr / "task")
    embedding = next(name for name in base if name.endswith("word_embeddings.weight"))

    def model(name: str, change) -> str:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_bytes((xlmr / "theta0" / "config.json").read_bytes())
        save_file(
            {key: change(key, value.clone()) for key, value in base.items()}, folder / "model.safetensors"
        )
        return str(folder)

    def one_row(key: str, value: torch.Tensor) -> torch.Tensor:
        if key == embedding:
            value[3] += 0.01
        return value

    away = model("away", lambda key, value: value - (task[key] - value) if key in task else value)
    row, same = model("row", one_row), model("same", lambda _, value: value)
    document = recipe(xlmr, {"task": {"role": "task"}})
    document["models"] += [
        {"model": folder, "parameters": {"role": "target", "weight": 1.0}} for folder in (away, row, same)
    ]
    done = forked("taxlt", "inspect", written(document, tmp_path), "--output", tmp_path / "facts")
    assert done.code == 0, done.stderr
    assert "target away: points away from the task vector (cosine -1.00)" in done.stdout
    assert "the task vector's size: hardly trained?" in done.stdout
    assert "target same: the vector is zero and changes nothing" in done.stdout
    with (tmp_path / "facts" / "vectors.csv").open(encoding="utf-8") as file:
        rows = {line["vector"]: line for line in csv.DictReader(file)}
    share = 100 / len(base[embedding])
    assert float(rows["target row"]["vocabulary rows that moved (%)"]) == pytest.approx(share, abs=1e-3)
    assert float(rows["target away"]["signs against the task's (%)"]) > 99


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d | {"merge_method": "linear"}, "merge_method is linear; taxlt inspect takes xlt_"),
        (lambda d: d | {"tokenizer": {"source": "union"}}, "leave out slices and tokenizer"),
        (lambda d: d | {"base_model": d["base_model"] + "-gone"}, "no such folder"),
        (
            lambda d: d | {"models": [d["models"][0], d["models"][1] | {"model": "vectors/mine/lang/quy"}]},
            "; taxlt train language MODEL --corpus quy.txt --lang quy makes it, or",
        ),
        (lambda d: d | {"models": d["models"][1:]}, "no model has role: task"),
    ],
)
def test_mistakes_are_one_line(xlmr, tmp_path, change, said):
    done = forked("taxlt", "inspect", written(change(recipe(xlmr)), tmp_path), "--output", tmp_path / "facts")
    assert done.code == 1
    assert said in done.last_line
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "facts").exists()


def test_a_value_that_is_not_finite_is_named(xlmr, tmp_path):
    weights = load_file(xlmr / "tgt" / "model.safetensors")
    name = next(key for key in weights if key.endswith("query.weight"))
    weights[name][0, 0] = math.nan
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "config.json").write_bytes((xlmr / "tgt" / "config.json").read_bytes())
    save_file(weights, bad / "model.safetensors")
    document = recipe(xlmr)
    document["models"][2]["model"] = str(bad)
    done = forked("taxlt", "inspect", written(document, tmp_path))
    assert done.code == 1
    assert f"tensor {name} has 1 values that are NaN or infinite" in done.last_line
