"""`taxlt train task`: classifiers with names for labels, the paper's defaults, the user's own rows."""

import pytest
import sklearn.metrics
import torch
import transformers
import yaml

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
    encoded = tokenise(corpus, tokenizer, 256)["train"]
    first = corpus.train[0]
    assert encoded[0]["input_ids"] == tokenizer(first["premise"], first["hypothesis"])["input_ids"]
    assert encoded[0]["labels"] == first["label"]
    cut = tokenise(corpus, tokenizer, 16)["train"]
    assert max(len(ids) for ids in cut["input_ids"]) == 16


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
