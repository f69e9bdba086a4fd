"""`--cut-vocabulary`: a cut model's scores, what becomes of the other rows, and where nothing changes."""

import datasets
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from taxlt_mergekit.errors import UserError
from taxlt_mergekit.train.vocabulary.cut import cut_vocabulary, pieces_of
from tests.helpers.language_models import DECODERS, FAMILIES
from tests.helpers.training import SHORT, assert_same_weights, refused, signal_at, train
from tests.helpers.training import small_cache as small_cache
from tests.helpers.training import small_text as small_text
from tests.helpers.training import small_xlmr as small_xlmr

KEPT = np.array([0, 1, 2, 3, 7, 8, 20, 31, 58])
WORDS = "roberta.embeddings.word_embeddings.weight"


@pytest.mark.parametrize("family", [*FAMILIES, *DECODERS])
def test_a_cut_model_has_the_scores_of_the_kept_pieces_and_becomes_whole_again(family):
    torch.manual_seed(0)
    settings = FAMILIES.get(family) or DECODERS[family]
    config = transformers.AutoConfig.for_model(family.split()[0], **settings)
    kind = transformers.AutoModelForMaskedLM if family in FAMILIES else transformers.AutoModelForCausalLM
    model = kind.from_config(config).eval()
    inputs = {"input_ids": torch.from_numpy(KEPT[None].copy())}
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    whole = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    scores = model(**inputs)["logits"]
    if family == "deberta-v2 as published":  # whose output embeddings transformers takes for another layer
        with pytest.raises(UserError, match="cannot resize the vocabulary of DebertaV2ForMaskedLM"):
            cut_vocabulary(model, KEPT)
        return
    cut = cut_vocabulary(model, KEPT)
    torch.testing.assert_close(model(**inputs)["logits"], scores[..., KEPT])
    with torch.no_grad():
        model.get_input_embeddings().weight.add_(1)
    cut.restore(model)
    restored = model.state_dict()
    assert restored.keys() == whole.keys() and model.config.get_text_config().vocab_size == 60
    embeddings = model.get_input_embeddings().weight
    for name, tensor in whole.items():
        if restored[name].data_ptr() == embeddings.data_ptr():
            tensor[KEPT] += 1
        assert restored[name].equal(tensor), name
    assert model(**inputs)["logits"].shape == scores.shape


@pytest.fixture(scope="module")
def few_pieces(tmp_path_factory, small_text):
    """Lines, and rows of them, that use some of the pieces of `small_xlmr` only."""
    lines = small_text.read_text(encoding="utf-8").splitlines()[:2]
    folder = tmp_path_factory.mktemp("few")
    (folder / "text.txt").write_text("\n".join(f"{line} {line[:at]}" for at in range(60) for line in lines))
    rows = [f"{lines[at % 2][: 10 + at]}\t{'ab'[at % 2]}" for at in range(24)]
    for name in ("train", "validation"):
        (folder / f"{name}.tsv").write_text("\n".join(["text\tlabel", *rows]) + "\n")
    return folder


def moved(first, second, name=WORDS) -> np.ndarray:
    """Which rows differ."""
    one, two = (load_file(folder / "model.safetensors")[name] for folder in (first, second))
    assert one.shape == two.shape
    return (one != two).any(dim=1).numpy()


def test_a_task_vector_is_the_same(few_pieces, small_xlmr, tmp_path):
    rows = ("--train", few_pieces / "train.tsv", "--validation", few_pieces / "validation.tsv")
    steps = ("--columns", "text", "--batch-size", 8, "--max-steps", 6, "--learning-rate", "1e-3", "--use-cpu")
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder, more in ((whole, ()), (cut, ("--cut-vocabulary",))):
        outcome = train(small_xlmr, *rows, *steps, "--output", folder, *more, kind="task")
        assert outcome.code == 0, outcome
    one, two = (load_file(folder / "model.safetensors") for folder in (whole, cut))
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], atol=1e-6, rtol=1e-5, msg=name)
    there, here = moved(small_xlmr, whole), moved(small_xlmr, cut)
    assert (there == here).all() and 0 < here.sum() < len(here) - 10
    assert "cut to the" in (cut / "README.md").read_text(encoding="utf-8")


def test_a_language_vector_moves_the_rows_of_its_text_alone(few_pieces, small_xlmr, tmp_path, monkeypatch):
    whole_run, stopped = tmp_path / "one", tmp_path / "two"
    flags = (small_xlmr, "--corpus", few_pieces / "text.txt", *SHORT, "--max-steps", 6, "--eval-steps", 3)
    flags = (*flags, "--use-cpu", "--cut-vocabulary", "--output")
    assert train(*flags, whole_run).code == 0
    with monkeypatch.context() as patch:
        signal_at(patch, 4)
        assert train(*flags, stopped).code == 130
    assert train(*flags, stopped, "--resume").code == 0
    assert_same_weights(whole_run, stopped)
    tokenizer = transformers.AutoTokenizer.from_pretrained(small_xlmr)
    ids = [tokenizer((few_pieces / "text.txt").read_text(encoding="utf-8"))["input_ids"]]
    pieces = pieces_of([datasets.Dataset.from_dict({"input_ids": ids})], tokenizer)
    rows = moved(small_xlmr, whole_run)
    assert rows.any() and not np.delete(rows, pieces).any()
    model = transformers.AutoModelForMaskedLM.from_pretrained(whole_run)
    assert model.config.vocab_size == len(rows) == model.lm_head.bias.shape[0]


@pytest.mark.parametrize("flag", [("--sparse", "0.1"), ("--lora-rank", "4"), ("--fisher", "10")])
def test_it_is_refused_beside_what_needs_the_whole_vocabulary(flag, small_xlmr, small_text, tmp_path):
    said = refused(
        small_xlmr, "--corpus", small_text, "--cut-vocabulary", *flag, "--output", tmp_path / "out"
    )
    assert flag[0] in said and not (tmp_path / "out").exists()
