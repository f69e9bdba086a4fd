"""`taxlt import sft` and `taxlt export sft`: files by the format's description."""

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from tests.helpers.hosts import forked
from tests.helpers.sparse_files import save, sparse
from tests.helpers.tiny_models import tiny_xlmr

EMBEDDINGS = "roberta.embeddings.word_embeddings.weight"
QUERY = "roberta.encoder.layer.0.attention.self.query.weight"
LABELS = ["negative", "neutral", "positive"]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """θ₀ as `base`, a language's file and a task's file."""
    folder = tmp_path_factory.mktemp("sft")
    base = load_file(
        tiny_xlmr(folder / "base", ["ka lu mi to ren sa", "po ni ka"] * 9, 40) / "model.safetensors"
    )
    diffs = {name: sparse(base[name], 0.1, seed) for seed, name in enumerate((EMBEDDINGS, QUERY))}
    head = {"lm_head.dense.bias": torch.randn(32), "adapter.weight": torch.randn(2, 2)}
    save(folder / "quy", diffs, head)
    config = XLMRobertaConfig.from_pretrained(folder / "base", num_labels=3)
    model = XLMRobertaForSequenceClassification(config)
    head = {name: value for name, value in model.state_dict().items() if name.startswith("classifier.")}
    save(folder / "senti", {QUERY: sparse(base[QUERY], 0.2, 5)}, head)
    return folder, base, diffs, head


def sft(cwd, *arguments):
    return forked("taxlt", "import", "sft", *arguments, cwd=cwd)


def refused(cwd, *arguments):
    done = sft(cwd, *arguments)
    assert done.code == 1 and "Traceback" not in done.stderr, done
    assert done.last_line.startswith("Error: ")
    return done.last_line


def test_language_and_task_merge_from_where_the_recipe_looks(world, tmp_path):
    folder, base, diffs, head = world
    (tmp_path / "base").symlink_to(folder / "base")
    done = sft(tmp_path, folder / "quy", "--model", "base", "--lang", "quy")
    assert done.code == 0, done.stderr
    assert "adapter.weight" in done.stdout.splitlines()[-1]  # named, because it is left out
    out = tmp_path / "vectors" / "base" / "lang" / "quy"
    found = load_file(out / "model.safetensors")
    assert found.keys() == base.keys()
    for name, value in base.items():
        if name == "lm_head.dense.bias":
            assert not found[name].equal(value)
        else:
            assert found[name].equal(value + diffs[name] if name in diffs else value), name
    assert str(folder / "quy") in (out / "README.md").read_text() and (out / "tokenizer.json").exists()

    done = sft(tmp_path, folder / "senti", "--model", "base", "--task", "smsa")
    assert done.code == 0, done.stderr
    out = tmp_path / "vectors" / "base" / "task" / "smsa"
    model = AutoModelForSequenceClassification.from_pretrained(out)
    assert [model.config.id2label[number] for number in range(3)] == LABELS
    assert all(model.state_dict()[name].equal(value) for name, value in head.items())

    done = forked("taxlt", "recipes", "--model", "base", "--output", "recipes", cwd=tmp_path)
    recipe = (tmp_path / "recipes" / "ace_plus_tgt.yml").read_text().replace("lang/ace", "lang/quy")
    (tmp_path / "recipe.yml").write_text(recipe)
    done = forked("mergekit-yaml", "recipe.yml", "out", cwd=tmp_path)
    assert done.code == 0, done.stderr
    merged = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").state_dict()
    assert not merged[EMBEDDINGS].equal(base[EMBEDDINGS])
    assert all(merged[name].equal(value) for name, value in head.items())


@pytest.mark.parametrize("kind", ["lang", "task"])
def test_what_is_exported_is_imported_bit_for_bit(world, tmp_path, kind):
    folder, *_ = world
    flags = ("--lang", "quy") if kind == "lang" else ("--task", "own", "--labels", "a,b,c")
    first = sft(tmp_path, folder / ("quy" if kind == "lang" else "senti"), "--model", folder / "base", *flags)
    assert first.code == 0, first.stderr
    checkpoint = tmp_path / "vectors" / "base" / kind / flags[1]
    tensors = load_file(checkpoint / "model.safetensors")
    done = forked("taxlt", "export", "sft", checkpoint, tmp_path / "file", "--model", folder / "base")
    assert done.code == 0 and " MB in " in done.stdout, done
    again = sft(
        tmp_path, tmp_path / "file", "--model", folder / "base", *flags, "--output", tmp_path / "again"
    )
    assert again.code == 0, again.stderr
    found = load_file(tmp_path / "again" / "model.safetensors")
    assert found.keys() == tensors.keys()
    assert all(
        found[name].view(torch.int32).equal(value.view(torch.int32)) for name, value in tensors.items()
    )
    content = torch.load(tmp_path / "file" / "pytorch_diff.bin", weights_only=True)
    assert all(type(step) is int for entry in content["diffs"].values() for step in entry["index_steps"])
    assert QUERY in content["diffs"] and not [name for name in content["diffs"] if "head" in name]


def test_old_names_reach_the_parameters_of_today(tmp_path):
    config = BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    model = BertForMaskedLM(config)
    model.save_pretrained(tmp_path / "base")
    old = "bert.embeddings.LayerNorm.gamma"
    save(tmp_path / "file", {old: torch.arange(8.0)})
    done = sft(tmp_path, "file", "--model", "base", "--lang", "xx", "--output", "out")
    assert done.code == 0, done.stderr
    found = load_file(tmp_path / "out" / "model.safetensors")["bert.embeddings.LayerNorm.weight"]
    assert found.equal(model.state_dict()["bert.embeddings.LayerNorm.weight"] + torch.arange(8.0))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"index_steps": [5, 0]}, f"{QUERY}: its positions do not rise"),
        ({"index_steps": [5, 5000]}, f"{QUERY}: position 5005 is beyond its 1024 entries"),
        ({"index_steps": [5]}, f"{QUERY}: 1 positions for 2 values"),
        ({"index_steps": ["\0run 0", 3]}, f"{QUERY}: index_steps must be a list of whole numbers"),
        ({"values": torch.tensor([1.0, float("nan")])}, f"{QUERY}: has values that are NaN or infinite"),
        ({"size": torch.Size([16, 64])}, "[16, 64], but"),
    ],
)
def test_an_entry_that_does_not_fit_is_refused_by_name(world, tmp_path, changes, said):
    difference = torch.zeros(32, 32)
    difference[3, 4] = difference[5, 6] = 1
    save(tmp_path / "file", {QUERY: difference}, **changes)
    line = refused(tmp_path, "file", "--model", world[0] / "base", "--lang", "xx", "--output", "out")
    assert said in line and not (tmp_path / "out").exists(), line


class Dangerous:
    def __reduce__(self):
        return print, ("it ran",)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"diffs": {}, "abs": {"a": Dangerous()}}, "is not a pytorch_diff.bin of tensors, numbers and names"),
        ({"weights": {}}, "has neither diffs nor abs"),
        ({"diffs": {"a": torch.ones(2)}, "abs": {}}, "a must have size, index_steps and values"),
        ({"diffs": {}, "abs": {"a": 1}}, "a in abs is int, not a tensor"),
        ({"diffs": {}, "abs": {}}, "changes no parameter"),
    ],
)
def test_a_file_of_anything_else_is_refused(world, tmp_path, content, said):
    torch.save(content, tmp_path / "pytorch_diff.bin", pickle_module=pickle)
    done = sft(tmp_path, tmp_path, "--model", world[0] / "base", "--lang", "xx", "--output", "out")
    assert done.code == 1 and said in done.last_line and "it ran" not in done.stdout, done


def test_misfits_of_name_head_and_labels_are_one_line(world, tmp_path):
    folder = world[0]
    base = ("--model", folder / "base")
    save(tmp_path / "other", {"roberta.encoder.layer.7.output.dense.bias": torch.ones(32)})
    assert "layer.7.output.dense.bias (size [32])" in refused(tmp_path, "other", *base, "--lang", "xx")
    line = refused(tmp_path, folder / "senti", *base, "--task", "own", "--labels", "a,b")
    assert "--labels names 2 (a, b), but the head in" in line and line.endswith("has 3")
    assert "has no head" in refused(tmp_path, "other", *base, "--task", "own")
    save(tmp_path / "odd", {}, {"classifier.strange": torch.ones(3)})
    assert "classifier.strange [3]" in refused(tmp_path, "odd", *base, "--task", "own")
    assert "no such folder, and pytorch_diff.bin is not to be had from the hub" in refused(
        tmp_path, "some/where", *base, "--lang", "xx"
    )
    assert "give --lang CODE" in refused(tmp_path, "other", *base)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "work.txt").write_text("mine")
    assert "is not empty" in refused(tmp_path, folder / "quy", *base, "--lang", "xx", "--output", "full")
    assert not (tmp_path / "vectors").exists()
    assert json.loads((folder / "base" / "config.json").read_text())["architectures"] == [
        "XLMRobertaForMaskedLM"
    ]


def test_all_shows_what_exists_and_downloads_nothing_without_yes(tmp_path):
    model = "FacebookAI/xlm-roberta-base"
    there = tmp_path / "vectors" / "xlm-roberta-base" / "lang" / "ace"
    there.mkdir(parents=True)
    (there / "config.json").write_text("{}")
    done = sft(tmp_path, "--all", "nusax", "--model", model)
    assert done.code == 1 and done.last_line == "Error: nothing was downloaded; add --yes to go on", done
    rows = {line.split("|")[1].strip(): line for line in done.stdout.splitlines() if line.startswith("| ")}
    assert "none published" in rows["bbc"] and "none published" in rows["bug"]
    assert "already there" in rows["ace"]
    assert "cambridgeltl/xlmr-lang-sft-sun-small" in rows["sun"]
    assert "8 files to download, about 410 MB: 41 s" in done.stdout
    done = sft(tmp_path, "--all", "nusax", "--model", model, "--yes")
    assert done.code == 1 and "is not to be had from the hub" in done.last_line, done
    assert "xlm-roberta-large" in refused(
        tmp_path, "--all", "xnli", "--model", "FacebookAI/xlm-roberta-large"
    )
