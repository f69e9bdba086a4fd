"""Every mistake: exit code, one line that names the culprit, no folder that passes for a model."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from tests.helpers.families import build
from tests.helpers.hosts import console, mergekit_yaml
from tests.helpers.merging import recipe, tensors


@pytest.fixture(scope="module")
def xlmr(tmp_path_factory) -> Path:
    return build(tmp_path_factory.mktemp("models"), "xlm-roberta")


def with_parameters(document: dict, model: int, **parameters) -> dict:
    for key, value in parameters.items():
        if value is None:
            del document["models"][model]["parameters"][key]
        else:
            document["models"][model]["parameters"][key] = value
    return document


def without(document: dict, *models: int) -> dict:
    document["models"] = [entry for i, entry in enumerate(document["models"]) if i not in models]
    return document


def without_key(document: dict, key: str) -> dict:
    del document[key]
    return document


def misplaced_role(document: dict) -> dict:
    entry = document["models"][0]
    entry["role"] = entry.pop("parameters")["role"]
    return document


def renamed(document: dict, model: int, name: str) -> dict:
    document["models"][model]["model"] = name
    return document


# What the recipe says -> words that the last line on standard error must have.
MISTAKES = {
    "misspelt parameter": (
        lambda d: with_parameters(d, 2, wieght=0.3),
        ["tgt", "wieght", "did you mean 'weight'"],
    ),
    "misspelt shared parameter": (lambda d: d | {"parameters": {"scop": "tensor"}}, ["scop", "scope"]),
    "shared parameter on a model": (lambda d: with_parameters(d, 1, scope="tensor"), ["src", "scope"]),
    "misspelt key": (lambda d: d | {"base_modle": "x"}, ["base_modle", "base_model"]),
    "role beside parameters": (misplaced_role, ["task", "role", "parameters"]),
    "role missing": (lambda d: with_parameters(d, 2, role=None), ["tgt", "role", "task, source or target"]),
    "role unknown": (
        lambda d: with_parameters(d, 2, role="targett"),
        ["tgt", "targett", "did you mean 'target'"],
    ),
    "no task model": (lambda d: without(d, 0), ["role: task"]),
    "two task models": (lambda d: with_parameters(d, 1, role="task"), ["src", "second task model"]),
    "analogy without source": (
        lambda d: without(d, 1) | {"merge_method": "xlt_analogy"},
        ["xlt_analogy", "source"],
    ),
    "weight missing": (lambda d: with_parameters(d, 2, weight=None), ["tgt", "weight", "missing"]),
    "weight NaN": (lambda d: with_parameters(d, 2, weight=math.nan), ["tgt", "weight", "nan"]),
    "weight infinite": (lambda d: with_parameters(d, 2, weight=math.inf), ["tgt", "weight", "inf"]),
    "weight not a number": (lambda d: with_parameters(d, 2, weight="much"), ["tgt", "weight", "much"]),
    "weight only for some tensors": (
        lambda d: with_parameters(d, 2, weight=[{"filter": "layer.1", "value": 0.5}]),
        ["tgt", "weight", "missing"],
    ),
    "density 0": (lambda d: with_parameters(d, 2, density=0), ["tgt", "density", "above 0"]),
    "density above 1": (lambda d: with_parameters(d, 2, density=1.2), ["tgt", "density", "1.2"]),
    "density by layer, scope global": (
        lambda d: with_parameters(d, 2, density=[0.1, 0.5]),
        ["tgt", "density", "global", "scope: tensor"],
    ),
    "select unknown": (lambda d: d | {"parameters": {"select": "topp"}}, ["select", "topp", "top"]),
    "scope unknown": (
        lambda d: d | {"parameters": {"scope": "layer"}},
        ["scope", "layer", "global or tensor"],
    ),
    "no base model": (lambda d: without_key(d, "base_model"), ["base_model"]),
    "no such folder": (
        lambda d: renamed(d, 2, "vectors/xlm/lang/quy"),
        ["vectors/xlm/lang/quy", "no such folder", "taxlt train language MODEL --corpus quy.txt --lang quy"],
    ),
    "no such language vector of θ₀": (
        lambda d: renamed(d, 2, "vectors/theta0/lang/quy"),
        ["theta0 --corpus quy.txt --lang quy makes it", "taxlt import sft SOURCE --model /", "--lang quy"],
    ),
    "no such task vector": (
        lambda d: renamed(d, 0, "vectors/xlm-roberta-base/task/multinli"),
        ["; taxlt train task FacebookAI/xlm-roberta-base --task multinli makes it", "taxlt import sft"],
    ),
    "no such θ₀": (
        lambda d: d | {"base_model": "models/of/mine/xlm-roberta-base"},
        ["; hf download FacebookAI/xlm-roberta-base --local-dir models/of/mine/xlm-roberta-base gets it"],
    ),
    "θ₀ not on the disk, and no network": (
        lambda d: d | {"base_model": "someone/xlm"},
        ["no such folder", "if it is on the hub: hf download someone/xlm"],
    ),
    "base model with a role": (
        lambda d: (
            d | {"models": [*d["models"], {"model": d["base_model"], "parameters": {"role": "source"}}]}
        ),
        ["theta0", "takes no parameters"],
    ),
    "model listed twice": (lambda d: d | {"models": [*d["models"], d["models"][2]]}, ["Duplicate"]),
}


def assert_refused(outcome, out: Path, words: list[str]) -> None:
    assert outcome.code != 0
    assert "Traceback" not in outcome.stderr
    for word in words:
        assert word in outcome.last_line, outcome.stderr
    assert not (out / "config.json").exists()
    assert not list(out.parent.glob(".out-*")), "the staging folder was left behind"


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_in_a_recipe(mistake, xlmr, tmp_path):
    change, words = MISTAKES[mistake]
    (tmp_path / "r.yml").write_text(yaml.dump(change(recipe(xlmr))))
    assert_refused(mergekit_yaml(tmp_path / "r.yml", tmp_path / "out"), tmp_path / "out", words)


def test_through_the_console_script(xlmr, tmp_path):
    (tmp_path / "r.yml").write_text(yaml.dump(with_parameters(recipe(xlmr), 2, lamda=0.5)))
    outcome = console("mergekit-yaml", tmp_path / "r.yml", tmp_path / "out")
    assert_refused(outcome, tmp_path / "out", ["tgt", "lamda"])


def test_not_yaml_and_no_recipe(tmp_path):
    (tmp_path / "r.yml").write_text("merge_method: xlt_additive\n  models: [")
    outcome = mergekit_yaml(tmp_path / "r.yml", tmp_path / "out")
    assert_refused(outcome, tmp_path / "out", ["r.yml", "line 2", "not valid YAML"])
    outcome = mergekit_yaml(tmp_path / "none.yml", tmp_path / "out")
    assert_refused(outcome, tmp_path / "out", ["none.yml", "no such recipe"])
    assert "taxlt" not in outcome.last_line
    outcome = mergekit_yaml(tmp_path / "quy_plus_tgt.yml", tmp_path / "out")
    assert_refused(outcome, tmp_path / "out", [f"no such recipe; taxlt recipes --output {tmp_path} writes"])


def test_a_recipe_that_is_not_utf_8(xlmr, tmp_path):
    text = "# señal\n" + yaml.dump(recipe(xlmr))
    (tmp_path / "r.yml").write_bytes(text.encode("latin-1"))
    outcome = mergekit_yaml(tmp_path / "r.yml", tmp_path / "out")
    assert_refused(outcome, tmp_path / "out", ["r.yml", "not UTF-8"])


@pytest.mark.parametrize("where", ["parameters", "recipe"])
def test_a_key_that_stands_twice(where, xlmr, tmp_path):
    text = yaml.dump(recipe(xlmr), sort_keys=False)
    if where == "parameters":
        text = text.replace("weight: 0.9", "weight: 0.1\n    weight: 0.9")
    else:
        text += "dtype: float16\n"
    (tmp_path / "r.yml").write_text(text)
    key = "weight" if where == "parameters" else "dtype"
    assert_refused(
        mergekit_yaml(tmp_path / "r.yml", tmp_path / "out"), tmp_path / "out", [key, "line", "twice"]
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("flag", ["--cuda", "--multi-gpu"])
def test_a_gpu_that_is_not_there(flag, xlmr, tmp_path):
    (tmp_path / "r.yml").write_text(yaml.dump(recipe(xlmr)))
    outcome = mergekit_yaml(tmp_path / "r.yml", tmp_path / "out", flag)
    assert_refused(outcome, tmp_path / "out", ["cuda" if flag == "--cuda" else "--multi-gpu", "this machine"])


@pytest.mark.parametrize("where", ["roberta.encoder.layer.1.output.dense.weight", "classifier.dense.weight"])
def test_a_number_beyond_the_outputs_type(where, xlmr, tmp_path):
    """float16 ends at 65504: in a sum, and in the head, which is only converted."""
    document = damaged(xlmr, tmp_path, "task", set_value(70000.0, where)) | {"dtype": "float16"}
    (tmp_path / "r.yml").write_text(yaml.dump(document))
    outcome = mergekit_yaml(tmp_path / "r.yml", tmp_path / "out")
    assert_refused(outcome, tmp_path / "out", ["task", where, "float16", "bfloat16 or float32"])


def test_a_language_model_that_equals_the_base(xlmr, tmp_path):
    shutil.copytree(xlmr, tmp_path / "models")
    shutil.copy(tmp_path / "models/theta0/model.safetensors", tmp_path / "models/tgt/model.safetensors")
    (tmp_path / "r.yml").write_text(yaml.dump(recipe(tmp_path / "models")))
    outcome = mergekit_yaml(tmp_path / "r.yml", tmp_path / "out")
    warning = next(line for line in outcome.stderr.splitlines() if "vector is zero" in line)
    assert outcome.code == 0 and "tgt equals base_model" in warning


def damaged(xlmr: Path, tmp_path: Path, model: str, change) -> dict:
    """A recipe one of whose models was changed by change(folder)."""
    shutil.copytree(xlmr, tmp_path / "models")
    change(tmp_path / "models" / model)
    return recipe(tmp_path / "models")


def truncate(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def set_value(value: float, key: str = "roberta.encoder.layer.1.output.dense.weight"):
    def change(folder: Path) -> None:
        state = load_file(folder / "model.safetensors")
        state[key].view(-1)[-1] = value
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})

    return change


def grow_vocabulary(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    key = "roberta.embeddings.word_embeddings.weight"
    state[key] = torch.cat([state[key], state[key][:2]])
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def drop_tensor(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    del state["roberta.encoder.layer.0.output.dense.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


def two_architectures(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["A", "B"]}))


def remove_config(folder: Path) -> None:
    (folder / "config.json").unlink()


DAMAGE = {
    "truncated": ("tgt", truncate, ["tgt", "damaged or cut off"]),
    "NaN in the task model": ("task", set_value(math.nan), ["task", "output.dense.weight", "NaN"]),
    "infinity in a language model": (
        "tgt",
        set_value(math.inf),
        ["tgt", "output.dense.weight", "NaN or infinite"],
    ),
    "NaN in the base": ("theta0", set_value(math.nan), ["theta0", "output.dense.weight"]),
    "shapes differ": ("tgt", grow_vocabulary, ["tgt", "word_embeddings", "[66, 32]", "[64, 32]"]),
    "a body tensor missing in a vector": ("tgt", drop_tensor, ["tgt", "no tensor", "layer.0.output.dense"]),
    "a body tensor missing in the base": (
        "theta0",
        drop_tensor,
        ["theta0", "no tensor", "layer.0.output.dense"],
    ),
    "two architectures": ("src", two_architectures, ["src", "one architecture"]),
    "no config": ("src", remove_config, ["src", "cannot be opened"]),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_checkpoints(damage, xlmr, tmp_path):
    model, change, words = DAMAGE[damage]
    (tmp_path / "r.yml").write_text(yaml.dump(damaged(xlmr, tmp_path, model, change)))
    assert_refused(mergekit_yaml(tmp_path / "r.yml", tmp_path / "out"), tmp_path / "out", words)


@pytest.mark.parametrize("scope", ["global", "tensor"])
def test_nan_in_a_sparse_vector(scope, xlmr, tmp_path):
    document = damaged(xlmr, tmp_path, "tgt", set_value(math.nan)) | {"parameters": {"scope": scope}}
    (tmp_path / "r.yml").write_text(yaml.dump(with_parameters(document, 2, density=0.2)))
    outcome = mergekit_yaml(tmp_path / "r.yml", tmp_path / "out")
    assert_refused(outcome, tmp_path / "out", ["tgt", "output.dense.weight", "NaN"])


def test_families_that_share_no_body_are_refused(tmp_path):
    bert, electra = build(tmp_path / "bert", "bert"), build(tmp_path / "electra", "electra")
    document = recipe(bert)
    document["base_model"] = str(electra / "theta0")
    (tmp_path / "r.yml").write_text(yaml.dump(document))
    assert_refused(
        mergekit_yaml(tmp_path / "r.yml", tmp_path / "out"),
        tmp_path / "out",
        ["electra", "bert", "one family"],
    )


def test_a_failed_merge_leaves_an_earlier_model_as_it_was(xlmr, tmp_path):
    (tmp_path / "good.yml").write_text(yaml.dump(recipe(xlmr)))
    assert mergekit_yaml(tmp_path / "good.yml", tmp_path / "out").code == 0
    before = tensors(tmp_path / "out")
    (tmp_path / "bad.yml").write_text(yaml.dump(damaged(xlmr, tmp_path, "tgt", set_value(math.nan))))
    assert mergekit_yaml(tmp_path / "bad.yml", tmp_path / "out").code != 0
    after = tensors(tmp_path / "out")
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not list(tmp_path.glob(".out-*"))


def test_an_output_that_is_a_file(xlmr, tmp_path):
    (tmp_path / "r.yml").write_text(yaml.dump(recipe(xlmr)))
    (tmp_path / "out").write_text("mine")
    outcome = mergekit_yaml(tmp_path / "r.yml", tmp_path / "out")
    assert outcome.code != 0 and "is a file" in outcome.last_line
    assert (tmp_path / "out").read_text() == "mine"


def test_raw_pytorch_merges_refuse_a_global_scope(xlmr, tmp_path):
    """mergekit-pytorch never has a whole vector; per tensor it works."""
    for name in ("theta0", "src", "tgt"):
        save_file(tensors(xlmr / name), tmp_path / f"{name}.safetensors", metadata={"format": "pt"})
    document = {
        "merge_method": "xlt_additive",
        "base_model": str(tmp_path / "theta0.safetensors"),
        "models": [
            {"model": str(tmp_path / "src.safetensors"), "parameters": {"role": "task"}},
            {
                "model": str(tmp_path / "tgt.safetensors"),
                "parameters": {"role": "target", "weight": 1.0, "density": 0.5},
            },
        ],
    }
    (tmp_path / "r.yml").write_text(yaml.dump(document))
    outcome = console("mergekit-pytorch", tmp_path / "r.yml", tmp_path / "out")
    assert outcome.code != 0 and "scope: tensor" in outcome.last_line, outcome.stderr
    (tmp_path / "r.yml").write_text(yaml.dump(document | {"parameters": {"scope": "tensor"}}))
    outcome = console("mergekit-pytorch", tmp_path / "r.yml", tmp_path / "out")
    assert outcome.code == 0, outcome.stderr
