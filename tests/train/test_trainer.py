"""The trainer: scores, and the masked head, whose loss and gradients are those of the head everywhere."""

import numpy as np
import pytest
import torch
import transformers

from taxlt_mergekit.train.blocks import IGNORED
from taxlt_mergekit.train.trainer import MULTIPLE, MaskedHead, head_positions, loss_of_whole_batch, scores

SIZES = {
    "vocab_size": 60,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
}
FAMILIES = {
    "albert": SIZES | {"embedding_size": 8},
    "bert": SIZES,
    "camembert": SIZES,
    "deberta-v2": SIZES | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "distilbert": {"vocab_size": 60, "dim": 16, "n_layers": 2, "n_heads": 2, "hidden_dim": 24},
    "electra": SIZES | {"embedding_size": 8},
    "modernbert": SIZES | {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
    "mpnet": SIZES,
    "roberta": SIZES,
    "xlm": {"vocab_size": 60, "emb_dim": 16, "n_layers": 2, "n_heads": 2},
    "xlm-roberta": SIZES,
}


@pytest.mark.parametrize("labelled", [0, 1, 63, 64, 65, 100])
def test_positions_have_all_labels_and_a_round_number(labelled):
    labels = torch.full((100,), IGNORED)
    labels[torch.randperm(100)[:labelled]] = 7
    positions = head_positions(labels.view(5, 20))
    assert positions[labels.view(5, 20) != IGNORED].all()
    assert int(positions.sum()) == min(-(-labelled // MULTIPLE) * MULTIPLE, 100)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("share", [0.2, 0.0])
def test_loss_and_gradients_are_those_of_all_positions(family, share):
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(family, **FAMILIES[family])
    model = transformers.AutoModelForMaskedLM.from_config(config).eval()
    tokens = torch.randint(5, 60, (5, 20))
    labels = tokens.masked_fill(torch.rand(tokens.shape) >= share, IGNORED)
    head = MaskedHead(model)

    def loss_and_gradients(masked_only: bool):
        model.zero_grad()
        if masked_only:
            with head.at(head_positions(labels)):
                outputs = model(input_ids=tokens, attention_mask=torch.ones_like(tokens))
            assert outputs["logits"].shape[:2] == (1, MULTIPLE if share else 0)
        else:
            outputs = model(input_ids=tokens, attention_mask=torch.ones_like(tokens))
            assert outputs["logits"].shape[:2] == tokens.shape
        loss = loss_of_whole_batch(outputs, labels, 7, smoothing=0.1)
        loss.backward()
        return loss, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}

    expected, gradients = loss_and_gradients(masked_only=False)
    found, ours = loss_and_gradients(masked_only=True)
    torch.testing.assert_close(found, expected)
    assert ours.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(ours[name], gradient, atol=1e-6, rtol=1e-4, msg=name)


def test_scores_are_scikit_learns():
    rng = np.random.default_rng(0)
    logits, truth = rng.normal(size=(50, 3)), rng.integers(0, 3, 50)
    prediction = transformers.EvalPrediction(predictions=logits, label_ids=truth)
    found = scores(prediction)
    guesses = logits.argmax(1)
    assert found["accuracy"] == pytest.approx((guesses == truth).mean())
    by_class = []
    for label in range(3):
        hits = ((guesses == label) & (truth == label)).sum()
        by_class.append(2 * hits / ((guesses == label).sum() + (truth == label).sum()))
    assert found["f1"] == pytest.approx(np.mean(by_class))
