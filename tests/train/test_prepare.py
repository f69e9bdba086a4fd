"""Plans: the paper's settings, and what they and the user's make of a run, short of training it."""

import dataclasses

import pytest

from taxlt_mergekit.train import prepare
from taxlt_mergekit.train.rows import load_corpus
from taxlt_mergekit.train.settings import make_settings
from tests.helpers.training import own_rows


@pytest.mark.parametrize(
    ("task", "size", "expected"),
    [
        ("multinli", "base", (32, 5, 2e-5, 625, "accuracy", 0, None)),
        ("marc", "base", (32, 5, 2e-5, 625, "accuracy", 0, None)),
        ("smsa", "base", (16, 10, 2e-5, 250, "f1", 0, None)),
        ("multinli", "large", (32, 5, 2e-5, 625, "accuracy", 6000, None)),
        ("smsa", "large", (32, 10, 1e-5, 250, "f1", 300, 3)),
    ],
)
def test_defaults_are_those_of_table_1_and_appendix_g(
    task, size, expected, small_xlmr, small_rows, monkeypatch
):
    """What Trainer would be given: the whole road from flags, short of the training itself."""
    # A long run over few rows, because a run shorter than eval_steps is evaluated once, at its end.
    files = {"train": str(small_rows[1]), "validation": str(small_rows[3])}
    corpus = load_corpus(own_rows(**files, columns=["premise", "hypothesis"]))
    monkeypatch.setattr(prepare, "load_corpus", lambda _: corpus)
    settings = make_settings(
        "task", {"model": str(small_xlmr), "task": task, "size": size, "output": "none", "max_steps": 10_000}
    )
    plan = prepare.make_plan(settings, resume=False)
    arguments = plan.arguments
    assert expected == (
        arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps,
        arguments.num_train_epochs,
        arguments.learning_rate,
        arguments.eval_steps,
        arguments.metric_for_best_model,
        arguments.warmup_steps,
        plan.settings.early_stopping_patience,
    )
    assert arguments.greater_is_better
    assert arguments.lr_scheduler_type == "linear"


def language_plan(small_xlmr, small_text, **values) -> prepare.Plan:
    given = {"model": str(small_xlmr), "corpus": [str(small_text)], "lang": "xx", "block_size": 32, **values}
    return prepare.make_plan(make_settings("language", given), resume=False)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, (50_000, 2_500, 2_500, 100)),
        ({"size": "large"}, (20_000, 1_000, 1_000, 100)),
        ({"max_steps": 30}, (30, 1, 1, 1)),
        ({"max_steps": 30, "eval_steps": 10, "save_steps": 20, "logging_steps": 7}, (30, 10, 20, 7)),
        ({"max_steps": 30, "eval_steps": 50, "save_steps": 100}, (30, 30, 30, 1)),
        ({"num_train_epochs": 20, "save_steps": 7}, ("20 epochs", "a 20th", "a 20th", "a 20th")),
        ({"num_train_epochs": 20, "eval_steps": 3}, ("20 epochs", 3, 3, "a 20th")),
    ],
)
def test_steps_of_a_language_run(values, expected, small_xlmr, small_text):
    plan = language_plan(small_xlmr, small_text, **values)
    epochs = -(-20 * len(plan.train.blocks) // 64)
    words = {"20 epochs": epochs, "a 20th": epochs // 20}
    arguments = plan.arguments
    found = (arguments.max_steps, arguments.eval_steps, arguments.save_steps, arguments.logging_steps)
    assert found == tuple(words.get(value, value) for value in expected)
    assert len(plan.train) == 64 * arguments.max_steps
    saved = plan.settings.arguments
    assert (saved["max_steps"], saved["eval_steps"], saved["logging_steps"]) == (*found[:2], found[3])


def test_a_plan_is_resolved_and_the_settings_stay_as_they_were_given(small_xlmr, small_text):
    given = {"model": str(small_xlmr), "corpus": [str(small_text)], "lang": "xx", "max_steps": 5}
    settings = make_settings("language", given)
    before = settings.model_copy(deep=True)
    plan = prepare.make_plan(settings, resume=False)
    assert settings == before
    assert (settings.output, settings.size, settings.batch_size) == (None, None, None)
    resolved = plan.settings
    assert (resolved.output, resolved.size, resolved.batch_size) == ("vectors/tiny-xlmr/lang/xx", "base", 64)
    assert resolved.arguments["learning_rate"] == 5e-5
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.settings = settings
