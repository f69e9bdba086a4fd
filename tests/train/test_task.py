"""`taxlt train task`: classifiers with names for labels, the paper's defaults, the user's own rows."""

import json
import re
import shutil

import pytest
import sklearn.metrics
import torch
import transformers
import yaml
from tokenizers.processors import TemplateProcessing

from taxlt_mergekit.train.rows import load_corpus, tokenise
from tests.helpers.training import history, own_rows, refused, smsa_and_nusax, table_rows, train

FEW = ("--max-steps", 12, "--eval-steps", 4, "--batch-size", 8, "--learning-rate", "1e-3", "--max-length", 48)


def test_smsa_becomes_a_classifier_with_its_label_names(small_xlmr, tmp_path, monkeypatch):
    smsa_and_nusax(tmp_path / "data")
    monkeypatch.setenv("TAXLT_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    done = train(small_xlmr, "--task", "smsa", *FEW, kind="task")
    assert done.code == 0, done
    assert "12 of 60 rows are in NusaX" in done.stdout
    folder = tmp_path / "vectors" / "tiny-xlmr" / "task" / "smsa"
    config = transformers.AutoConfig.from_pretrained(folder)
    assert config.architectures == ["XLMRobertaForSequenceClassification"]
    assert config.id2label == {0: "negative", 1: "neutral", 2: "positive"}
    assert config.label2id == {"negative": 0, "neutral": 1, "positive": 2}

    # The kept checkpoint is the one with the best macro-F1, and has it when it is measured apart.
    curve = history(folder)
    best = max(curve, key=lambda entry: entry["eval_f1"])
    assert f"kept step {best['step']} of 12: validation f1 {best['eval_f1']:.4g}" in done.stdout
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    rows = load_corpus(own_rows(task="smsa")).validation
    guesses = []
    for start in range(0, len(rows), 64):
        batch = rows[start : start + 64]["text"]
        encoded = tokenizer(batch, truncation=True, max_length=48, padding=True, return_tensors="pt")
        with torch.no_grad():
            guesses += model(**encoded).logits.argmax(-1).tolist()
    measured = sklearn.metrics.f1_score(list(rows["label"]), guesses, average="macro", zero_division=0)
    assert measured == pytest.approx(best["eval_f1"])


def test_own_rows_in_pairs(small_xlmr, small_rows, tmp_path):
    done = train(small_xlmr, *small_rows, *FEW, "--output", tmp_path / "out", kind="task")
    assert done.code == 0, done
    assert "train.tsv, validation.tsv: premise + hypothesis → other, same" in done.stdout
    assert "best validation accuracy" in done.stdout
    config = transformers.AutoConfig.from_pretrained(tmp_path / "out")
    assert config.id2label == {0: "other", 1: "same"}
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert ["step", "loss", "accuracy", "macro-F1"] in table_rows(card)
    saved = yaml.safe_load((tmp_path / "out" / "training_settings.yaml").read_text(encoding="utf-8"))
    assert all(entry["sha256"] in card for entry in saved["record"]["inputs"]["data"])
    again = train(
        "--config", tmp_path / "out/training_settings.yaml", "--output", tmp_path / "two", kind="task"
    )
    assert again.code == 0, again
    assert (tmp_path / "out/model.safetensors").read_bytes() == (
        tmp_path / "two/model.safetensors"
    ).read_bytes()


def test_pairs_reach_the_model_as_pairs(small_xlmr, small_rows):
    _, train_file, _, validation_file, *_ = small_rows
    tokenizer = transformers.AutoTokenizer.from_pretrained(small_xlmr)
    files = {"train": str(train_file), "validation": str(validation_file)}
    corpus = load_corpus(own_rows(**files, columns=["premise", "hypothesis"]))
    encoded = tokenise(corpus, tokenizer, 256)[0]["train"]
    first = corpus.train[0]
    assert encoded[0]["input_ids"] == tokenizer(first["premise"], first["hypothesis"])["input_ids"]
    assert encoded[0]["labels"] == first["label"]
    cut = tokenise(corpus, tokenizer, 16)[0]["train"]
    assert max(len(ids) for ids in cut["input_ids"]) == 16


def test_segments_that_the_model_does_not_know(small_xlmr, small_rows, tmp_path):
    """A tokenizer that numbers the texts of a pair, as BERT's, for a model with one segment, as XLM-R is."""
    base = tmp_path / "base"
    shutil.copytree(small_xlmr, base)
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.save_pretrained(base)
    config = json.loads((base / "tokenizer_config.json").read_text(encoding="utf-8"))
    config["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    (base / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    done = train(base, *small_rows, *FEW, "--output", tmp_path / "out", kind="task")
    assert done.code == 0, done
    assert (
        "warning        the tokenizer tells the texts of a pair apart, the model does not (1)" in done.stdout
    )


def test_rows_that_the_tokenizer_does_not_know(small_xlmr, tmp_path):
    for name, texts in {"none": ["语言"], "half": ["语言", "ka lu"]}.items():
        lines = [f"{texts[at % len(texts)]}\t{'ab'[at // 2 % 2]}" for at in range(24)]
        (tmp_path / f"{name}.tsv").write_text("\n".join(["text\tlabel", *lines]), encoding="utf-8")

    def arguments(name: str) -> tuple:
        files = ("--train", tmp_path / f"{name}.tsv", "--validation", tmp_path / f"{name}.tsv")
        return (small_xlmr, *files, "--columns", "text", *FEW, "--output", tmp_path / "out")

    message = refused(*arguments("none"), kind="task")
    assert message.endswith(f"the tokenizer of {small_xlmr} knows none of it, neither word nor letter")
    done = train(*arguments("half"), kind="task")
    assert re.search(r"warning +\d+% of the tokens of half.tsv, half.tsv are unknown to the tok", done.stdout)


def test_a_loss_and_scores_do_not_depend_on_the_batch_they_are_measured_in(small_xlmr, small_rows, tmp_path):
    curves = []
    for size in (5, 32):
        few = (*FEW, "--per-device-eval-batch-size", size, "--metric-for-best-model", "loss")
        done = train(small_xlmr, *small_rows, *few, "--output", tmp_path / str(size), kind="task")
        assert done.code == 0, done
        keys = ("eval_loss", "eval_accuracy", "eval_f1")
        curves.append([entry[key] for entry in history(tmp_path / str(size)) for key in keys])
    assert curves[0] == pytest.approx(curves[1], rel=1e-5)


def test_early_stopping_keeps_the_best_checkpoint(small_xlmr, small_rows, tmp_path):
    arguments = (small_xlmr, *small_rows, "--batch-size", 8, "--max-length", 48, "--eval-steps", 2)
    arguments += ("--learning-rate", "1e-9", "--max-steps", 40, "--early-stopping-patience", 2)
    done = train(*arguments, "--output", tmp_path / "out", kind="task")
    assert done.code == 0, done
    # Nothing is learnt at this rate, so the first evaluation stays the best and the second after it ends it.
    assert "kept step 2 of 6" in done.stdout


def test_refusals_are_one_line(small_xlmr, small_rows, tmp_path):
    output = ("--output", tmp_path / "out")
    assert "task: Input should be 'multinli', 'marc' or 'smsa', not 'nli'" in refused(
        small_xlmr, "--task", "nli", *output, kind="task"
    )
    assert "--name is missing" in refused(small_xlmr, *small_rows, kind="task")
    assert "no column 'text'" in refused(
        small_xlmr, *small_rows[:4], "--columns", "text", *output, kind="task"
    )
    assert "metric_for_best_model must be one of accuracy, f1, loss" in refused(
        small_xlmr, *small_rows, *FEW, "--metric-for-best-model", "bleu", *output, kind="task"
    )
    assert not (tmp_path / "out" / "config.json").exists()
    done = train(small_xlmr, *small_rows, *FEW, "--output", tmp_path / "classifier", kind="task")
    assert done.code == 0
    message = refused(tmp_path / "classifier", *small_rows, *FEW, "--output", tmp_path / "again", kind="task")
    assert "is a classifier already" in message
