"""What hf-seq-cls and the tasks refuse, each in one line."""

import re
import shutil

import pytest

from tests.helpers.evaluation import CLASSIFIER, make_classifier, make_tokenizer
from tests.helpers.hosts import console

REFUSALS = {
    "another number of labels": (
        ["two"],
        ["americas_nli_quy"],
        "the head has 2 labels (neg, pos), the task 3",
    ),
    "unrelated names": (["unrelated"], ["americas_nli_quy"], "(sport, politics, arts) are not the task's"),
    "few-shot": (["nli"], ["americas_nli_quy", "--num_fewshot", "2"], "run with --num_fewshot 0"),
    "chat template": (
        ["nli"],
        ["americas_nli_quy", "--apply_chat_template"],
        "run without --apply_chat_template",
    ),
    "generation": (["nli"], ["copy_write"], "copy_write: asks for generated text"),
    "rolling likelihood": (["nli"], ["copy_read"], "copy_read: asks for the likelihood of a text"),
    "no head": (["headless"], ["americas_nli_quy"], "has no weights for bert.pooler.dense.bias"),
    "choices that say nothing": (
        ["two"],
        ["copy_mrpc"],
        "can't tell which label each choice stands for (no, yes)",
    ),
    "no such folder": (["nowhere/"], ["americas_nli_quy"], "; mergekit-yaml RECIPE OUT writes"),
    "no such task vector": (
        ["vectors/xlm-roberta-base/task/mine"],
        ["americas_nli_quy"],
        "; taxlt train task FacebookAI/xlm-roberta-base --name mine --train FILE --validation FILE makes it",
    ),
    "a folder seen from elsewhere": (
        ["models/of/mine"],
        ["americas_nli_quy"],
        "pretrained=models/of/mine: no such folder, seen from /",
    ),
    "neither a folder nor on the hub": (
        ["mine/nli"],
        ["americas_nli_quy"],
        "(there is no such folder in /",
    ),
    "not a checkpoint": (
        [""],
        ["americas_nli_quy"],
        "has no weights (model.safetensors or pytorch_model.bin)",
    ),
    "weights that were not fetched": (["pointer"], ["americas_nli_quy"], "is a Git-LFS pointer"),
    "an adapter that is none": (["nli,peft={models}/two"], ["americas_nli_quy"], "not an adapter"),
    "few tokens": (
        ["nli,max_length=3"],
        ["americas_nli_quy"],
        "has no room for text beside 3 special tokens",
    ),
    "a misspelt argument": (
        ["nli,dtpye=float32"],
        ["americas_nli_quy"],
        "unexpected keyword argument 'dtpye'",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_are_one_line(command, models, built_in_tasks, small_data, tmp_path, case):
    from transformers import BertConfig, BertForMaskedLM

    (model,), (task, *options), message = REFUSALS[case]
    if model == "headless":
        BertForMaskedLM(BertConfig(vocab_size=300, hidden_size=12, num_hidden_layers=1)).save_pretrained(
            models / model
        )
        make_tokenizer().save_pretrained(models / model)
    if model == "pointer":
        make_classifier(models / model)
        (models / model / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    # "mine" stands for a path that the user gives relative to some other folder.
    pretrained = model if "mine" in model.split("/") else f"{models}/{model}".replace("{models}", str(models))
    run = [*CLASSIFIER, f"pretrained={pretrained}", "--tasks", task, *options]
    run += ["--include_path", built_in_tasks]
    done = command(*run, "--output_path", tmp_path / "out", cwd=tmp_path, TAXLT_DATA=small_data)
    assert done.code == 1
    assert done.last_line.startswith("Error: ")
    assert message in done.last_line
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_missing_data_is_one_line(command, models, small_data, tmp_path):
    broken = tmp_path / "data"
    shutil.copytree(small_data, broken)
    (broken / "americasnli/dev/quy.tsv").unlink()
    (broken / "americasnli/test/aym.tsv").unlink()
    run = [*CLASSIFIER, f"pretrained={models / 'nli'}", "--tasks"]
    done = command(*run, "americas_nli", TAXLT_DATA=broken)
    assert (done.code, "Traceback" in done.stderr) == (1, False)
    expected = f"Error: AmericasNLI, Aymara, test: TAXLT_DATA={broken} has no americasnli/test/aym.tsv"
    assert done.last_line.startswith(expected)
    assert done.last_line.endswith("taxlt info lists what is missing; unset TAXLT_DATA takes the hub's")
    done = command(*run, "marc_de")
    assert done.last_line.startswith(
        "Error: MARC, German, test: set TAXLT_DATA=DIR, with marc/dataset_de_test.json"
    )
    done = command(*run, "xnli_xlt_de")  # the server of the test is offline
    assert (done.code, "Traceback" in done.stderr) == (1, False)
    assert re.search(
        r"Error: XNLI, German, test: the hub did not give it.*go online, or set TAXLT_DATA=DIR",
        done.last_line,
    )
    # Examples come from the validation split, so a run without examples does without it.
    done = command(*run, "americas_nli_quy", TAXLT_DATA=broken)
    assert done.code == 0, done.stderr


WITHOUT_THE_HOOK = """
import sys, lm_eval
from lm_eval.tasks import TaskManager
from taxlt_mergekit.evaluate.classifier import SequenceClassifierLM
tasks = TaskManager(include_path=sys.argv[2], include_defaults=False)
model = SequenceClassifierLM(pretrained=sys.argv[1], device="cpu")
lm_eval.simple_evaluate(model, tasks=["copy_xnli_en"], task_manager=tasks)
"""


def test_without_the_start_up_file_the_model_says_what_to_call(models, built_in_tasks):
    done = console("python", "-c", WITHOUT_THE_HOOK, models / "nli", built_in_tasks, TAXLT_NO_AUTOLOAD="1")
    assert done.code == 1
    assert "copy_xnli_en: " in done.last_line and "call taxlt_mergekit.register()" in done.last_line
