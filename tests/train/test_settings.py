"""Flags, files and the paper's defaults, short of training."""

import subprocess
import sys

import click
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from taxlt_mergekit.errors import UserError
from taxlt_mergekit.paper.catalog import vector_folder
from taxlt_mergekit.train import command as cli_train
from taxlt_mergekit.train import settings as ts
from tests.helpers.training import refused, train

LANGUAGE = {"model": "m", "corpus": ["c.txt"]}


def settings_of(*arguments: str, kind="language"):
    """The settings that a command line means."""
    command = {"language": cli_train.language, "task": cli_train.task}[kind]
    found = []

    def callback(ctx=None, config=None, resume=False, **given):
        context = click.get_current_context()
        found.append(cli_train.collect(kind, context, cli_train._without_empty(given), config))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "callback", callback)
        command.main(list(arguments), standalone_mode=False)
    return found[0]


def test_help_names_each_default_and_its_source():
    texts = {}
    for kind in ("language", "task"):
        outcome = train("--help", kind=kind)
        assert outcome.code == 0
        texts[kind] = " ".join(outcome.stdout.split())
    for default in (
        "[50,000; large: 20,000: section 3]",
        "[64: section 3]",
        "[5e-5: section 3]",
        "[256: section 3]",
        "[0.15: XLM-R's own pre-training]",
        "[vectors/MODEL/lang/LANG, as recipes name it]",
    ):
        assert default in texts["language"]
    for default in (
        "[multinli 32, marc 32, smsa 16: table 1; large: smsa 32: appendix G]",
        "[2e-5: table 1; large: smsa 1e-5: appendix G]",
        "[multinli 625, marc 625, smsa 250: table 1, appendix G]",
        "[multinli 5, marc 5, smsa 10: table 1, appendix G]",
        "[0; large: multinli 6,000, smsa 300: appendix G]",
        "[off; large: smsa 3: appendix G]",
    ):
        assert default in texts["task"]
    assert "Every other field of transformers.TrainingArguments is a flag" in texts["language"]


def test_help_is_quick():
    """It needs neither torch nor transformers."""
    code = (
        "import sys; from taxlt_mergekit.cli import main\n"
        "try: main(['train', 'language', '--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'transformers', 'datasets'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


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


def test_config_files(tmp_path):
    path = tmp_path / "run.yaml"
    # YAML reads 5e-5 as text; hyphens are welcome too.
    path.write_text("model: m\ncorpus: [a.txt]\nlearning_rate: 5e-5\nweight-decay: 0.1\nblock_size: 128\n")
    settings = settings_of("--config", str(path), "--block-size", "64")
    assert settings.arguments == {"learning_rate": 5e-5, "weight_decay": 0.1}
    assert settings.block_size == 64
    assert settings_of("other", "--config", str(path)).model == "other"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("learning_rat: 1\n", "--config: no such setting: learning_rat; did you mean learning_rate?"),
        ("learning_rate: fast\n", "--learning-rate must be of type float, not 'fast'"),
        ("- a\n- b\n", "it must be a mapping"),
        ("a: [b\n", "--config"),
        ("command: train task\n", "is for `taxlt train task`, not for `taxlt train language`"),
        ("corpus: 3\n", "corpus: "),
    ],
)
def test_config_files_that_are_refused(content, message, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(content)
    assert message in refused("m", "--config", path)
    assert "No such file" in refused("m", "--config", tmp_path / "none.yaml")


@given(st.integers(1, 16), st.integers(1, 8), st.integers(1, 8), st.booleans(), st.booleans(), st.booleans())
def test_a_batch_is_spread_so_that_it_comes_out_even(per_device, accumulation, devices, total, device, steps):
    """Whichever of the three numbers are given, the result multiplies up, and what was given is kept."""
    product = per_device * accumulation * devices
    batch = ts.split_batch(
        product,
        product if total else None,
        per_device if device else None,
        accumulation if steps else None,
        devices,
    )
    assert batch.total == batch.per_device * batch.accumulation * devices
    assert batch.total == product or not total
    assert batch.per_device == per_device or not device
    assert batch.accumulation == accumulation or not steps


def test_batches():
    assert ts.split_batch(64, None, None, None, 1) == ts.Batch(64, 64, 1, 1)
    assert ts.split_batch(64, None, None, None, 4) == ts.Batch(64, 16, 1, 4)
    assert ts.split_batch(64, None, None, 8, 2) == ts.Batch(64, 4, 8, 2)
    # As in transformers, one device's batch on its own sets the total.
    assert ts.split_batch(64, None, 8, None, 2) == ts.Batch(16, 8, 1, 2)
    assert ts.split_batch(64, 64, 8, None, 2) == ts.Batch(64, 8, 4, 2)
    for arguments in (
        (64, None, None, None, 3),
        (64, 10, None, 4, 1),
        (64, 64, 8, 3, 1),
        (64, 4, 8, None, 1),
    ):
        with pytest.raises(UserError, match="cannot be spread over"):
            ts.split_batch(*arguments)


def test_sizes():
    class Config:
        def __init__(self, hidden_size):
            self.hidden_size = hidden_size

        def get_text_config(self):
            return self

    assert ts.model_size("FacebookAI/xlm-roberta-large", Config(8)) == (
        "large",
        "the catalog's xlm-roberta-large",
    )
    assert ts.model_size("/models/xlm-roberta-base/", Config(2048)) == (
        "base",
        "the catalog's xlm-roberta-base",
    )
    assert ts.model_size("mine", Config(1024)) == ("large", "hidden size 1024")
    assert ts.model_size("mine", Config(768)) == ("base", "hidden size 768")


def test_where_vectors_go():
    assert vector_folder("FacebookAI/xlm-roberta-base", "lang", "quy") == "vectors/xlm-roberta-base/lang/quy"
    assert vector_folder("models/mine/", "task", "marc") == "vectors/mine/task/marc"


def test_settings_are_saved_without_secrets_and_read_again(tmp_path):
    settings = ts.make_settings(
        "language", {**LANGUAGE, "hub_token": "hf_secret", "weight_decay": 0.1, "lora_rank": 4, "lang": "x"}
    )
    ts.write_settings(tmp_path, "language", settings, {"inputs": {}})
    text = (tmp_path / ts.SETTINGS_FILE).read_text(encoding="utf-8")
    assert "secret" not in text
    again = ts.make_settings("language", ts.read_config(tmp_path / ts.SETTINGS_FILE, "language"))
    assert again == settings.model_copy(update={"arguments": {"weight_decay": 0.1}})
    assert yaml.safe_load(text)["command"] == "train language"
