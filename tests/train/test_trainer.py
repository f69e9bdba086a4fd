"""The trainer: scores, and the masked head, whose loss and gradients are those of the head everywhere."""

import numpy as np
import pytest
import scipy.special
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from taxlt_mergekit.train.blocks import IGNORED
from taxlt_mergekit.train.trainer import (
    MULTIPLE,
    MaskedHead,
    add_touched_rows,
    head_positions,
    loss_of_whole_batch,
    losses_of_rows,
    mean_loss,
    scores,
)
from tests.helpers.language_models import DECODERS, FAMILIES


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
    config = transformers.AutoConfig.for_model(family.split()[0], **FAMILIES[family])
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
    add_touched_rows(model)
    found, ours = loss_and_gradients(masked_only=True)
    assert not any(gradient.is_sparse for gradient in ours.values())
    torch.testing.assert_close(found, expected)
    assert ours.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(ours[name], gradient, atol=1e-6, rtol=1e-4, msg=name)


def mean_over(batches: list) -> float:
    """The mean loss of (sums, counts), as Trainer puts batches together."""
    parts = zip(*batches, strict=True)
    sums, counts = (np.concatenate([part.detach().numpy() for part in some]) for some in parts)
    return mean_loss(transformers.EvalPrediction(predictions=sums, label_ids=counts))["loss"]


@given(st.lists(st.integers(0, 6), min_size=1, max_size=12), st.integers(1, 12), st.booleans(), st.booleans())
@settings(max_examples=50, deadline=None)
def test_a_validation_loss_does_not_depend_on_the_batch(labelled, size, next_token, cut):
    """Rows with few labels and rows with many, in batches of any size, the last one shorter."""
    cut = cut and not next_token
    generator = torch.Generator().manual_seed(sum(labelled))
    logits = torch.randn(len(labelled), 7, 30, generator=generator)
    labels = torch.randint(0, 30, (len(labelled), 7), generator=generator)
    for row, count in enumerate(labelled):
        labels[row, count:] = IGNORED

    def losses(rows: slice):
        if not cut:
            return losses_of_rows(logits[rows], labels[rows], next_token)
        positions = head_positions(labels[rows])
        return losses_of_rows(logits[rows][positions][None], labels[rows], next_token)

    found = mean_over([losses(slice(at, at + size)) for at in range(0, len(labelled), size)])
    if next_token:
        logits, labels = logits[:, :-1], labels[:, 1:]
    expected = torch.nn.functional.cross_entropy(logits.reshape(-1, 30), labels.reshape(-1)).item()
    assert found == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("family", DECODERS)
def test_a_decoders_validation_loss_is_its_own(family):
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(family, **DECODERS[family])
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    tokens = torch.randint(5, 60, (5, 20))
    labels = tokens.clone()
    labels[2, 11:] = IGNORED
    outputs = model(input_ids=tokens, labels=labels)
    found = mean_over([losses_of_rows(outputs.logits, labels, next_token=True)])
    assert found == pytest.approx(outputs.loss.item(), rel=1e-5)


def test_a_batch_without_anything_to_predict_leaves_the_weights_alone():
    logits = torch.randn(2, 5, 30, requires_grad=True)
    for number in (0, None):
        logits.grad = None
        loss = loss_of_whole_batch({"logits": logits}, torch.full((2, 5), IGNORED), number, smoothing=0.0)
        loss.backward()
        assert loss == 0 and not logits.grad.any()


def test_logits_that_are_no_numbers_have_no_score():
    logits = np.full((4, 3), np.nan)
    found = scores(transformers.EvalPrediction(predictions=logits, label_ids=np.zeros(4, dtype=int)))
    assert len(found) == 3 and all(np.isnan(value) for value in found.values())


def test_scores_are_scikit_learns():
    rng = np.random.default_rng(0)
    logits, truth = rng.normal(size=(50, 3)), rng.integers(0, 3, 50)
    prediction = transformers.EvalPrediction(predictions=logits, label_ids=truth)
    found = scores(prediction)
    assert found["loss"] == pytest.approx(log_loss(truth, scipy.special.softmax(logits, axis=1)))
    guesses = logits.argmax(1)
    assert found["accuracy"] == pytest.approx((guesses == truth).mean())
    by_class = []
    for label in range(3):
        hits = ((guesses == label) & (truth == label)).sum()
        by_class.append(2 * hits / ((guesses == label).sum() + (truth == label).sum()))
    assert found["f1"] == pytest.approx(np.mean(by_class))
