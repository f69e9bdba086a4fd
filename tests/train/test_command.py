"""What the two commands' help says, and `--config` files."""

import subprocess
import sys

import pytest

from tests.helpers.training import refused, settings_of, train


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
