"""The paper's recipes: in step with the catalog, complete, and parsed by mergekit as they stand."""

from pathlib import Path

import pytest
import torch
import transformers
import yaml
from mergekit.config import MergeConfiguration

from taxlt_mergekit.merge.recipe import check_recipe
from taxlt_mergekit.paper import catalog
from taxlt_mergekit.paper.recipes import recipe_files
from tests.helpers.hosts import console, mergekit_yaml
from tests.helpers.merging import tensors

FOLDER = Path(__file__).parents[2] / "merge_configs"


def test_the_folder_is_what_the_catalog_says(tmp_path):
    assert console("taxlt", "recipes", "--check", "--output", FOLDER).code == 0
    done = console("taxlt", "recipes", cwd=tmp_path)
    assert done.code == 0 and "177 recipes" in done.stdout
    (tmp_path / "merge_configs" / "quy_plus_tgt.yml").write_text("merge_method: linear\n")
    outcome = console("taxlt", "recipes", "--check", cwd=tmp_path)
    assert outcome.code != 0 and "quy_plus_tgt.yml" in outcome.last_line


def test_recipes_for_another_model_name_it_and_its_vectors(tmp_path):
    arguments = ("--model", "runs/minilm", "--benchmark", "nusax", "--output", "mine")
    done = console("taxlt", "recipes", *arguments, cwd=tmp_path)
    assert done.code == 0 and "28 recipes written to mine" in done.stdout
    text = (tmp_path / "mine/mad_plus_tgt.yml").read_text("utf-8")
    recipe = yaml.safe_load(text)
    assert recipe["base_model"] == "runs/minilm"
    assert [entry["model"] for entry in recipe["models"]] == [
        "vectors/minilm/task/smsa",
        "vectors/minilm/lang/mad",
    ]
    assert "mergekit-yaml mine/mad_plus_tgt.yml out/" in text
    check_recipe(MergeConfiguration.model_validate(recipe), text)


def test_a_decoders_chat_vector_and_plus_tgt_are_merged_as_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shape = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2}
    config = transformers.LlamaConfig(**shape, num_hidden_layers=2, num_labels=3, dtype="bfloat16")
    kinds = {
        "base": (transformers.LlamaForCausalLM, "base"),
        "chat": (transformers.LlamaForCausalLM, "chat"),
        "lang": (transformers.LlamaForCausalLM, "vectors/base/lang/quy"),
        "task": (transformers.LlamaForSequenceClassification, "vectors/base/task/multinli"),
    }
    for kind, folder in kinds.values():
        kind(config).bfloat16().save_pretrained(folder)
    start, chat, lang, task = (tensors(Path(folder)) for _, folder in kinds.values())
    arguments = ("--model", "base", "--output", "recipes")
    done = console("taxlt", "recipes", *arguments, "--chat", "chat", "--lang", "quy", cwd=tmp_path)
    assert done.code == 0 and "1 recipe written to recipes" in done.stdout, done
    done = console("taxlt", "recipes", *arguments, "--benchmark", "americas_nli", cwd=tmp_path)
    assert done.code == 0, done
    for name, other, weight in (("quy_chat_vector", chat, 1), ("quy_plus_tgt", task, 0.9)):
        outcome = mergekit_yaml(f"recipes/{name}.yml", f"out-{name}", cwd=tmp_path)
        assert outcome.code == 0, outcome.stderr
        merged = tensors(Path(f"out-{name}"))
        assert merged.keys() == other.keys()
        for at, tensor in other.items():
            if at not in start:
                assert at == "score.weight" and merged[at].equal(tensor.to(merged[at].dtype))
                continue
            wanted = tensor.double() + weight * (lang[at].double() - start[at].double())
            torch.testing.assert_close(merged[at], wanted.to(merged[at].dtype), msg=f"{name}: {at}")


@pytest.mark.parametrize("given", [("--chat", "c", "--lang", "quy"), ("--model", "m", "--chat", "c")])
def test_a_chat_vector_needs_all_three(given, tmp_path):
    outcome = console("taxlt", "recipes", *given, cwd=tmp_path)
    assert outcome.code == 1 and "--chat, --lang and --model go together" in outcome.last_line
    assert not list(tmp_path.iterdir())


def test_every_language_of_the_paper_has_its_recipes():
    names = {name for name, _ in recipe_files()}
    # Tables 5 and 6: 14, 10 and 9 languages with three variants, MARC's 5, and +SRC once a benchmark.
    assert len([n for n in names if "/" not in n]) == (14 + 10 + 9 + 5) * 3 + 4
    assert len([n for n in names if n.startswith("xlm-roberta-large/")]) == (10 + 9) * 3 + 2
    assert {"quy_plus_tgt.yml", "sw_minus_src_plus_tgt.yml", "marc_ja_plus_src_plus_tgt.yml"} <= names


def test_every_recipe_is_valid_and_opens_with_a_comment():
    for name, text in recipe_files():
        config = MergeConfiguration.model_validate(yaml.safe_load(text))
        cast = check_recipe(config, text)
        assert str(cast.base) in {model.id for model in catalog.load().models.values()}, name
        assert str(cast.task).startswith("vectors/"), name
        assert text.startswith("# "), name


def test_scaling_factors_are_those_of_table_9():
    text = dict(recipe_files())
    for name, weight in (
        ("quy_plus_tgt.yml", 0.9),
        ("sw_plus_tgt.yml", 0.8),
        ("mad_minus_src_plus_tgt.yml", 0.6),
        ("marc_de_plus_src_plus_tgt.yml", 0.2),
        ("xlm-roberta-large/mad_plus_tgt.yml", 0.6),
        ("xlm-roberta-large/americas_nli_plus_src.yml", 0.1),
    ):
        languages = yaml.safe_load(text[name])["models"][1:]
        assert {entry["parameters"]["weight"] for entry in languages} == {weight}, name
