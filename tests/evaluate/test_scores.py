"""Scores of hf-seq-cls in `lm_eval`: those of a plain loop, with the usual options."""

import json

import lm_eval
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score

from taxlt_mergekit.evaluate.classifier import SequenceClassifierLM
from taxlt_mergekit.paper import catalog
from taxlt_mergekit.paper.rows import benchmark_rows
from taxlt_mergekit.paper.tasks import task_folder
from tests.helpers.evaluation import (
    CLASSIFIER,
    NLI_LABELS,
    log_probabilities,
    make_classifier,
    make_tokenizer,
    plain_scores,
    results,
    samples,
)
from tests.helpers.hosts import console


@pytest.mark.parametrize(
    "source", ["many_rows", pytest.param("real_data", marks=pytest.mark.real_data)], ids=["made up", "real"]
)
def test_scores_equal_a_plain_loop(command, models, source, tmp_path, monkeypatch, request):
    tasks = {
        "americas_nli_quy": ("americas_nli", "quy", "nli"),
        "nusax_senti_jav": ("nusax", "jav", "sentiment"),
    }
    data = request.getfixturevalue(source)
    monkeypatch.setenv("TAXLT_DATA", str(data))
    for task, (benchmark, language, model) in tasks.items():
        done = command(
            *[*CLASSIFIER, f"pretrained={models / model}", "--tasks", task, "--batch_size", "32"],
            *["--log_samples", "--output_path", tmp_path / task],
            TAXLT_DATA=data,
        )
        assert done.code == 0, done.stderr
        rows = benchmark_rows(benchmark, language, "test")
        inputs = catalog.load().benchmarks[benchmark].inputs
        scores, id2label = plain_scores(
            models / model, list(zip(*(rows[name] for name in inputs), strict=True))
        )
        names = {"pos": "positive", "neu": "neutral", "neg": "negative"}
        columns = {names.get(name.lower(), name.lower()): column for column, name in id2label.items()}
        labels = rows.features["label"].names
        scores = scores[:, [columns[label] for label in labels]]
        predicted = scores.argmax(dim=1).tolist()
        assert len(set(predicted)) == 3

        scored = results(tmp_path / task)["results"][task]
        assert scored["acc,none"] == accuracy_score(rows["label"], predicted)
        if benchmark == "nusax":
            assert scored["f1_macro,none"] == f1_score(rows["label"], predicted, average="macro")
            assert 0.005 < scored["f1_macro_stderr,none"] < 0.05
        logged = samples(tmp_path / task, task)
        torch.testing.assert_close(log_probabilities(logged), scores, atol=1e-5, rtol=1e-5)
        assert [[best for [[_, best]] in sample["resps"]].index("True") for sample in logged] == predicted


def test_a_document_is_one_forward_pass_and_batches_are_of_like_length(models, small_data, monkeypatch):
    from lm_eval.tasks import TaskManager

    monkeypatch.setenv("TAXLT_DATA", str(small_data))
    model = SequenceClassifierLM(pretrained=str(models / "nli"), device="cpu", batch_size=4)
    shapes = []
    model.model.register_forward_pre_hook(
        lambda _module, _args, inputs: shapes.append(tuple(inputs["input_ids"].shape)), with_kwargs=True
    )
    tasks = TaskManager(include_path=str(task_folder()), include_defaults=False)
    found = lm_eval.simple_evaluate(model, tasks=["americas_nli"], task_manager=tasks, bootstrap_iters=0)
    documents = sum(count["effective"] for count in found["n-samples"].values())
    assert sum(rows for rows, _ in shapes) == documents
    assert len(shapes) == -(-documents // 4)
    assert [length for _, length in shapes] == sorted((length for _, length in shapes), reverse=True)


def test_the_usual_options(command, models, many_rows, tmp_path):
    run = [*CLASSIFIER, f"pretrained={models / 'nli'}", "--tasks", "americas_nli_quy", "--device", "cpu"]
    run += ["--limit", "21", "--use_cache", tmp_path / "cache"]
    first = command(*run, "--batch_size", "auto:3", "--output_path", tmp_path / "1", TAXLT_DATA=many_rows)
    again = command(*run, "--batch_size", "7", "--output_path", tmp_path / "2", TAXLT_DATA=many_rows)
    assert (first.code, again.code) == (0, 0), again.stderr
    assert "Requests remaining: 63" in first.stderr
    assert "Cached requests: 63, Requests remaining: 0" in again.stderr
    one, two = (results(tmp_path / run)["results"]["americas_nli_quy"] for run in "12")
    assert one == two
    assert one["sample_len"] == 21


def test_half_precision_and_adapters(command, models, many_rows, tmp_path):
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers import AutoModelForSequenceClassification, BertModel

    torch.manual_seed(1)
    model = AutoModelForSequenceClassification.from_pretrained(models / "nli")
    config = LoraConfig(
        task_type=TaskType.SEQ_CLS, target_modules=["query", "value"], init_lora_weights=False
    )
    adapted = get_peft_model(model, config)
    adapted.save_pretrained(tmp_path / "adapter")
    adapted.merge_and_unload().save_pretrained(tmp_path / "merged")
    make_tokenizer().save_pretrained(tmp_path / "merged")
    # An adapter brings its head with it, so it may stand on a checkpoint that has none.
    BertModel.from_pretrained(models / "nli").save_pretrained(tmp_path / "headless")
    make_tokenizer().save_pretrained(tmp_path / "headless")

    def evaluate(arguments):
        out = tmp_path / f"out-{hash(arguments)}"
        run = [*CLASSIFIER, arguments, "--tasks", "americas_nli_quy", "--limit", "60", "--batch_size", "8"]
        done = command(*run, "--log_samples", "--output_path", out, TAXLT_DATA=many_rows)
        assert done.code == 0, done.stderr
        return log_probabilities(samples(out, "americas_nli_quy"))

    merged = evaluate(f"pretrained={tmp_path / 'merged'}")
    plain = evaluate(f"pretrained={models / 'nli'}")
    assert (merged - plain).abs().max() > 0.01
    close = {"atol": 1e-4, "rtol": 1e-4}
    with_adapter = evaluate(f"pretrained={models / 'nli'},peft={tmp_path / 'adapter'}")
    torch.testing.assert_close(with_adapter, merged, **close)
    names = {name: i for i, name in enumerate(NLI_LABELS)}
    id2label = {i: name for name, i in names.items()}
    arguments = {
        "pretrained": str(tmp_path / "headless"),
        "peft": str(tmp_path / "adapter"),
        "id2label": id2label,
    }
    torch.testing.assert_close(evaluate(json.dumps(arguments | {"label2id": names})), merged, **close)
    half = evaluate(f"pretrained={models / 'nli'},dtype=bfloat16")
    assert 1e-4 < (half - plain).abs().max() < 0.5


def test_two_processes_share_the_documents(models, small_data, tmp_path, command):
    run = [
        *CLASSIFIER,
        f"pretrained={models / 'sentiment'}",
        "--tasks",
        "nusax_senti",
        "--batch_size",
        "auto",
    ]
    alone = command(*run, "--output_path", tmp_path / "1", TAXLT_DATA=small_data)
    assert alone.code == 0, alone.stderr
    launch = ["torchrun", "--standalone", "--nproc_per_node", "2", "-m", "lm_eval", *run]
    environment = {"TAXLT_DATA": str(small_data), "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    both = console(*launch, "--output_path", tmp_path / "2", "--log_samples", **environment)
    assert both.code == 0, both.stderr
    assert "nusax_senti_ace on rank 1" in both.stderr
    assert results(tmp_path / "1")["results"] == results(tmp_path / "2")["results"]
    assert len(samples(tmp_path / "2", "nusax_senti_ace")) == 5


def test_too_long_documents_are_truncated_counted_and_reported(command, many_rows, tmp_path):
    make_classifier(tmp_path / "short", NLI_LABELS, max_length=120)
    run = [*CLASSIFIER, f"pretrained={tmp_path / 'short'}", "--tasks", "americas_nli_quy", "--limit", "30"]
    done = command(*run, "--output_path", tmp_path / "out", TAXLT_DATA=many_rows)
    assert done.code == 0, done.stderr
    lines = (many_rows / "americasnli/test/quy.tsv").read_text().splitlines()
    rows = [line.split("\t") for line in lines[1:31]]
    tokenizer = make_tokenizer()
    expected = sum(len(tokenizer(row[2], row[3])["input_ids"]) > 120 for row in rows)
    assert 0 < expected < 30
    assert f"{expected} of 30 documents are longer than 120 tokens and were truncated" in done.stderr
    assert results(tmp_path / "out")["config"]["truncated_documents"] == {"americas_nli_quy": expected}


def test_roberta_positions_hold_two_tokens_fewer_than_they_say(tmp_path):
    from transformers import XLMRobertaConfig, XLMRobertaForSequenceClassification

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = XLMRobertaConfig(vocab_size=300, max_position_embeddings=66, pad_token_id=1, **sizes)
    XLMRobertaForSequenceClassification(config).save_pretrained(tmp_path)
    make_tokenizer(max_length=10**30).save_pretrained(tmp_path)
    assert SequenceClassifierLM(pretrained=str(tmp_path), device="cpu").max_length == 64
