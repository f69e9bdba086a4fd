"""Flags: ours, and every field of `TrainingArguments`."""

import click
import pytest

from tests.helpers.training import settings_of


def test_flags_of_training_arguments_in_both_spellings():
    settings = settings_of(
        *("m", "--corpus", "a", "b", "--weight_decay", "0.1", "--warmup-steps=0.06", "--torch_compile"),
        *("--lr-scheduler-type", "cosine", "--no-dataloader-pin-memory", "--learning_rate", "1e-4"),
        *("--logging-nan-inf-filter", "false", "--corpus", "c", "--adam-beta2=0.98", "--hub-private-repo"),
    )
    assert settings.model == "m"
    assert settings.corpus == ["a", "b", "c"]
    assert settings.arguments == {
        "weight_decay": 0.1,
        "warmup_steps": 0.06,
        "torch_compile": True,
        "lr_scheduler_type": "cosine",
        "dataloader_pin_memory": False,
        "learning_rate": 1e-4,
        "logging_nan_inf_filter": False,
        "adam_beta2": 0.98,
        "hub_private_repo": True,
    }


def test_switches_with_and_without_a_value():
    """As transformers' own: `--bf16`, `--bf16 true`, `--bf16=false`, `--no-bf16`."""
    cases = {
        ("--bf16",): {"bf16": True},
        ("--bf16", "true"): {"bf16": True},
        ("--bf16=false",): {"bf16": False},
        ("--no-bf16",): {"bf16": False},
        ("--gradient_checkpointing", "False"): {"gradient_checkpointing": False},
        ("--gradient-checkpointing",): {"gradient_checkpointing": True},
        ("--push-to-hub", "yes"): {"push_to_hub": True},
    }
    for flags, expected in cases.items():
        assert settings_of("m", "--corpus", "a", *flags).arguments == expected
    assert settings_of("m", "--corpus", "a", "--untie-embeddings").tie_embeddings is False
    assert settings_of("m", "--corpus", "a", "--tie-embeddings", "no").tie_embeddings is False


@pytest.mark.parametrize(
    "arguments",
    [
        ("--weight-decay", "0.1", "m", "--corpus", "a"),
        ("--corpus", "a", "m", "--weight-decay", "0.1"),
        ("--torch-compile", "m", "--corpus", "a"),
        ("--gradient-checkpointing", "m", "--corpus=a"),
    ],
)
def test_the_model_is_found_wherever_it_stands(arguments):
    settings = settings_of(*arguments)
    assert (settings.model, settings.corpus) == ("m", ["a"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("m", "--learning-rat", "1"), "no such option: --learning-rat; did you mean --learning-rate?"),
        (("m", "--corpora", "a"), "no such option: --corpora; did you mean --corpus?"),
        (("m", "--wieght_decay", "1"), "did you mean --weight-decay?"),
        (("m", "--xyzzy"), "no such option: --xyzzy; see --help"),
        (("m", "--weight-decay", "much"), "--weight-decay must be of type float, not 'much'"),
        (("m", "--weight-decay"), "--weight-decay needs a value"),
        (("m", "--bf16=maybe"), "--bf16 must be true or false, not 'maybe'"),
        (("m", "--corpus", "a", "--resume", "true"), "unexpected extra argument (true)"),
        (("m", "--tf32=maybe"), "--tf32 must be true or false, not 'maybe'"),
        (
            ("m", "--corpus", "a", "--do-train"),
            "do_train cannot be set for `train language`: training is what",
        ),
        (("m", "--corpus", "a", "--resume-from-checkpoint", "x"), "use --resume"),
        (("m", "--corpus", "a", "--metric-for-best-model", "f1"), "the lowest validation perplexity is kept"),
        (("m", "--corpus", "a", "--eval-strategy", "epoch"), "use --eval-steps"),
        (("m", "--corpus", "a", "--mlm-probability", "1.5"), "mlm_probability: Input should be less than 1"),
        (("m", "--corpus", "a", "--lang", "../x"), "lang: "),
    ],
)
def test_what_no_flag_means(arguments, message):
    with pytest.raises(click.ClickException) as error:
        settings_of(*arguments)
    assert message in error.value.message
