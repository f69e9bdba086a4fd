"""The families of the matrix (`tests.matrix`) that users take or whose bodies differ, and its table."""

import os
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from mergekit import merge as host
from mergekit.config import MergeConfiguration
from mergekit.options import MergeOptions
from safetensors.torch import load_file, save_file

import taxlt_mergekit
from tests.helpers.hosts import mergekit_yaml
from tests.matrix.cases import all_cases
from tests.matrix.merging import WEIGHTS, Result, build_and_load, judge, recipe, run
from tests.matrix.pool import results
from tests.matrix.table import NAMES, page

PAGE = Path(__file__).parents[2] / "docs" / "families.md"
CASES = {case.name: case for case in all_cases()}
CHOSEN = [
    "xlm-roberta:XLMRobertaForMaskedLM>XLMRobertaForTokenClassification",
    "xlm-roberta:XLMRobertaForMaskedLM>XLMRobertaForMultipleChoice",
    "xlm-roberta-xl:XLMRobertaXLForMaskedLM>XLMRobertaXLForQuestionAnswering",
    "bert:BertForMaskedLM>BertForSequenceClassification",
    "bert:BertForMaskedLM+BertModel>BertForSequenceClassification",
    "bert:BertModel>BertForSequenceClassification",
    "deberta-v2:DebertaV2ForMaskedLM>DebertaV2ForSequenceClassification",
    "modernbert:ModernBertForMaskedLM>ModernBertForSequenceClassification",
    "modernbert:ModernBertModel>ModernBertForSequenceClassification",
    "eurobert:EuroBertForMaskedLM>EuroBertForTokenClassification",
    "rembert:RemBertForMaskedLM>RemBertForSequenceClassification",
    "xmod:XmodForMaskedLM>XmodForQuestionAnswering",
    "mt5:MT5ForConditionalGeneration>MT5ForSequenceClassification",
    "umt5:UMT5ForConditionalGeneration>UMT5ForTokenClassification",
    "bart:BartForConditionalGeneration>BartForQuestionAnswering",
    "m2m_100:M2M100ForConditionalGeneration>M2M100ForConditionalGeneration",
    "gemma3:Gemma3ForConditionalGeneration>Gemma3ForSequenceClassification",
    "gemma3_text:Gemma3ForCausalLM>Gemma3ForCausalLM",
    "qwen3:Qwen3ForCausalLM>Qwen3ForSequenceClassification",
    "llama:LlamaForCausalLM>LlamaForTokenClassification",
    "gpt_neox:GPTNeoXForCausalLM>GPTNeoXForCausalLM",
    "ernie4_5_moe:Ernie4_5_MoeForCausalLM>Ernie4_5_MoeForCausalLM",
    "deepseek_v3:DeepseekV3ForCausalLM>DeepseekV3ForSequenceClassification",
    "qwen2_vl:Qwen2VLForConditionalGeneration>Qwen2VLForConditionalGeneration",
]
BY_COMMAND = [
    "xlm-roberta:XLMRobertaForMaskedLM>XLMRobertaForQuestionAnswering",
    "canine:CanineModel>CanineForSequenceClassification",
    "t5:T5ForConditionalGeneration>T5ForTokenClassification",
    "gemma3:Gemma3ForConditionalGeneration>Gemma3ForConditionalGeneration",
]


@pytest.mark.parametrize("name", CHOSEN)
def test_a_merge_is_what_loaded_modules_say_that_it_must_be(name):
    taxlt_mergekit.register()
    result = run(CASES[name])
    assert result.verdict == "right", result


@pytest.mark.parametrize("name", BY_COMMAND)
def test_the_command_subtracts_what_it_should(name, tmp_path):
    (tmp_path / "recipe.yml").write_text(yaml.safe_dump(recipe(tmp_path, "xlt_analogy")), encoding="utf-8")
    with torch.no_grad():
        inputs = build_and_load(CASES[name], tmp_path)
        outcome = mergekit_yaml(tmp_path / "recipe.yml", tmp_path / "out")
        assert outcome.code == 0, outcome.stderr
        result = judge(CASES[name], tmp_path, inputs, WEIGHTS | {"src": -WEIGHTS["src"]})
    assert result.verdict == "right", result


def test_no_warning_where_a_tied_tensor_has_another_name(tmp_path, caplog):
    """T5's decoder, which a token classifier lacks, shares its embeddings with the encoder."""
    case = CASES["mt5:MT5ForConditionalGeneration>MT5ForTokenClassification"]
    build_and_load(case, tmp_path)
    taxlt_mergekit.register()
    merge = MergeConfiguration.model_validate(recipe(tmp_path))
    host.run_merge(merge, str(tmp_path / "out"), MergeOptions(copy_tokenizer=False, quiet=True))
    assert "no place in the task model" not in caplog.text


def test_the_reference_finds_what_is_unmerged_moved_or_lost(tmp_path):
    case = CASES["modernbert:ModernBertForMaskedLM>ModernBertForSequenceClassification"]
    inputs = build_and_load(case, tmp_path)
    shutil.copytree(tmp_path / "task", tmp_path / "out")
    assert "unmerged: model.embeddings" in judge(case, tmp_path, inputs).reason

    merge = MergeConfiguration.model_validate(recipe(tmp_path))
    taxlt_mergekit.register()
    host.run_merge(merge, str(tmp_path / "out"), MergeOptions(copy_tokenizer=False, quiet=True))
    assert judge(case, tmp_path, inputs).verdict == "right"

    file = tmp_path / "out" / "model.safetensors"
    whole = load_file(file)
    save_file(whole | {"head.dense.weight": whole["head.dense.weight"] + 1e-6}, file, {"format": "pt"})
    assert judge(case, tmp_path, inputs).verdict == "drift"
    save_file({k: v for k, v in whole.items() if k != "head.dense.weight"}, file, {"format": "pt"})
    assert "missing: head.dense.weight" in judge(case, tmp_path, inputs).reason
    moved = whole | {"model.final_norm.weight": whole["model.final_norm.weight"] + 1e-3}
    save_file(moved, file, {"format": "pt"})
    assert "other: model.final_norm.weight" in judge(case, tmp_path, inputs).reason


def test_the_page_says_for_every_name_what_comes_out():
    text = PAGE.read_text(encoding="utf-8")
    assert re.search(r"model type of transformers 5\.\d+\.\d+ ", text)
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in row] for row in rows]
    assert {row[0]: row[1] for row in cells if row[0] in NAMES} == NAMES
    known = r"right|–|not built|refused \(\d+\)"
    families = [row for row in cells if len(row) == 8 and not re.fullmatch("-+|models|model type", row[0])]
    assert len(families) > 300
    refused = {int(number) for number in re.findall(r"^(\d+)\. ", text, flags=re.M)}
    for row in families:
        for cell in row[2:]:
            assert all(re.fullmatch(known, part) for part in cell.split(", ")), row
            assert {int(number) for number in re.findall(r"\((\d+)\)", cell)} <= refused


def test_the_page_is_the_same_whatever_the_order_and_hides_nothing():
    cases = [case for case in CASES.values() if case.model_type in ("bert", "llama")]
    found = [Result(case.name, "right") for case in cases]
    found[0] = Result(found[0].case, "refused", "task: has no | tensor")
    found[1] = Result(found[1].case, "wrong", "missing: score.weight")
    found[2] = Result(found[2].case, "unbuildable", "ImportError")
    text = page(cases, found)
    assert text == page(cases[::-1], found[::-1])
    for part in (
        "1. task: has no | tensor",
        "refused (1)",
        "missing: score.weight",
        "ImportError",
        "not built",
    ):
        assert part in text
    assert f"{len(cases)} merges: {len(cases) - 3} right, 1 wrong, 1 refused, 1 not built" in text


def test_a_process_that_dies_costs_one_case_alone(monkeypatch):
    cases = [case for case in CASES.values() if case.model_type in ("bert", "llama")]

    def dies(case):
        if case == cases[1]:
            os._exit(7)
        return Result(case.name, "right")

    monkeypatch.setattr("tests.matrix.merging.run", dies)
    found = {result.case: result for result in results(cases, workers=2)}
    assert found.keys() == {case.name for case in cases}
    assert [name for name, result in found.items() if result.verdict != "right"] == [cases[1].name]
    assert "ended with 7" in found[cases[1].name].reason
