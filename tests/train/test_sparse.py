"""`--sparse K`: exactly K parameters leave θ₀, in whatever way the run was stopped."""

import re
import signal
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file

from taxlt_mergekit.train.folder import FIRST_PHASE
from taxlt_mergekit.train.sparse.ticket import TICKET_FILE
from tests.helpers.training import SHORT, assert_same_weights, refused, signal_at, train

STEPS = ("--max-steps", 12, "--eval-steps", 4)
K = 500


def differing(theta: Path, start: Path) -> dict[str, int]:
    """By tensor of θ that θ₀ has: how many entries differ."""
    ends, starts = (load_file(folder / "model.safetensors") for folder in (theta, start))
    return {name: int((ends[name] != starts[name].float()).sum()) for name in ends if name in starts}


@pytest.fixture(scope="module")
def language_run(small_xlmr, small_text, tmp_path_factory) -> tuple[tuple, Path]:
    """The arguments of a sparse language run, with all that moves weights, and its folder."""
    arguments = (small_xlmr, "--corpus", small_text, "--lang", "xx", *SHORT, *STEPS)
    arguments += ("--sparse", K, "--weight-decay", "0.1", "--gradient-accumulation-steps", 2, "--l1", "0.1")
    whole = tmp_path_factory.mktemp("sparse") / "whole"
    done = train(*arguments, "--output", whole)
    assert done.code == 0, done
    return arguments, whole


@pytest.fixture(scope="module")
def task_run(small_xlmr, small_rows, tmp_path_factory) -> tuple[tuple, Path]:
    """The same of a sparse task run."""
    arguments = (small_xlmr, *small_rows, "--batch-size", 8, "--max-length", 48, "--max-steps", 8)
    arguments += ("--eval-steps", 4, "--learning-rate", "1e-3", "--sparse", "0.02", "--weight-decay", "0.1")
    whole = tmp_path_factory.mktemp("sparse") / "whole"
    done = train(*arguments, "--output", whole, kind="task")
    assert done.code == 0, done
    return arguments, whole


def test_exactly_k_parameters_differ(language_run, small_xlmr):
    _, whole = language_run
    assert load_file(whole / "model.safetensors").keys() == load_file(small_xlmr / "model.safetensors").keys()
    assert sum(differing(whole, small_xlmr).values()) == K
    card = (whole / "README.md").read_text(encoding="utf-8")
    assert "K = 500 of " in card and "two, each with the steps below" in card
    assert re.search(r"phase 1 +\| kept step \d+ of 12: validation perplexity", card)
    assert "sparse: 500.0" in card and "l1: 0.1" in card
    assert {path.name for path in whole.glob("*")}.isdisjoint({FIRST_PHASE, TICKET_FILE})


def test_a_task_trains_k_of_the_body_and_its_whole_head(task_run, small_xlmr):
    _, whole = task_run
    found = differing(whole, small_xlmr)
    body = load_file(small_xlmr / "model.safetensors")
    n = sum(body[name].numel() for name in found)
    assert all(name.startswith("roberta.") for name in found)
    assert sum(found.values()) == int(0.02 * n)
    assert f"K = {int(0.02 * n):,} of {n:,} parameters (2.000%)" in (whole / "README.md").read_text("utf-8")


@pytest.mark.parametrize(("phase", "step", "number"), [(1, 3, signal.SIGINT), (2, 6, signal.SIGTERM)])
@pytest.mark.parametrize("kind", ["language", "task"])
def test_stopped_in_either_phase_it_goes_on_to_the_same_bytes(
    kind, phase, step, number, request, tmp_path, monkeypatch
):
    arguments, whole = request.getfixturevalue(f"{kind}_run")
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        stop_in(patch, phase, step, number)
        stopped = train(*arguments, "--output", out, kind=kind)
    assert stopped.code == 128 + number, stopped
    assert (out / FIRST_PHASE / TICKET_FILE).exists() == (phase == 2)
    went_on = train(*arguments, "--output", out, "--resume", kind=kind)
    assert went_on.code == 0, went_on
    assert f"going on from checkpoint-{step}" in went_on.stdout
    assert_same_bytes(whole, out)


def test_killed_between_the_phases(language_run, tmp_path, monkeypatch):
    """After phase 1's last step, and once more after its parameters were selected."""
    from taxlt_mergekit.train import run

    arguments, whole = language_run
    out = tmp_path / "out"

    class Killed(BaseException):
        pass

    def killed(*_):
        raise Killed

    for name, going_on in (("most_moved", ()), ("second_phase", ("--resume",))):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(run, name, killed)
            train(*arguments, "--output", out, *going_on)
    done = train(*arguments, "--output", out, "--resume")
    assert done.code == 0, done
    assert "phase 1 of 2" not in done.stdout
    assert_same_bytes(whole, out)


def stop_in(patch: pytest.MonkeyPatch, phase: int, step: int, number: int) -> None:
    """Send a signal in a step of a phase."""
    from taxlt_mergekit.train import run

    if phase == 1:
        signal_at(patch, step, number)
        return
    second = run.second_phase

    def then(*given):
        signal_at(patch, step, number)
        return second(*given)

    patch.setattr(run, "second_phase", then)


def assert_same_bytes(first: Path, second: Path) -> None:
    assert_same_weights(first, second)
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()
    assert {path.name for path in first.iterdir()} == {path.name for path in second.iterdir()}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_base_in_half_precision(dtype, small_xlmr, small_text, tmp_path):
    """θ₀'s values are exact in float32, in which θ is saved. SGD leaves many where they were."""
    base = tmp_path / "base"
    model = transformers.AutoModelForMaskedLM.from_pretrained(small_xlmr).to(dtype)
    model.save_pretrained(base)
    transformers.AutoTokenizer.from_pretrained(small_xlmr).save_pretrained(base)
    few = ("--max-steps", 2, "--eval-steps", 1, "--optim", "sgd", "--sparse", 3000)
    done = train(base, "--corpus", small_text, *SHORT[:4], *few, "--output", tmp_path / "out")
    assert done.code == 0, done
    assert sum(differing(tmp_path / "out", base).values()) == 3000


def test_what_is_frozen_on_request(small_xlmr, small_text, tmp_path):
    arguments = (small_xlmr, "--corpus", small_text, *SHORT, "--max-steps", 4, "--sparse", "0.5")
    arguments += ("--freeze", "layer-norm", "--freeze", "output-embeddings")
    assert train(*arguments, "--output", tmp_path / "out").code == 0
    found = differing(tmp_path / "out", small_xlmr)
    ends, starts = (load_file(folder / "model.safetensors") for folder in (tmp_path / "out", small_xlmr))
    norms = [name for name in found if "norm" in name.lower()]
    assert norms and not any(found[name] for name in norms)
    embeddings = "roberta.embeddings.word_embeddings.weight"
    assert ends["lm_head.decoder.weight"].equal(starts[embeddings])
    assert found[embeddings]
    counted = sum(starts[name].numel() for name in found if name not in norms)
    assert sum(found.values()) == counted // 2


def test_frozen_without_sparse(small_xlmr, small_rows, tmp_path):
    few = ("--max-steps", 2, "--batch-size", 8, "--max-length", 48, "--freeze", "layer-norm")
    assert train(small_xlmr, *small_rows, *few, "--output", tmp_path / "out", kind="task").code == 0
    found = differing(tmp_path / "out", small_xlmr)
    assert {name for name, count in found.items() if not count} >= {n for n in found if "norm" in n.lower()}
    assert any(found.values())


def test_l1_pulls_towards_the_start(small_xlmr, small_text, tmp_path):
    arguments = (small_xlmr, "--corpus", small_text, *SHORT, "--max-steps", 6, "--sparse", K)
    moved = []
    for weight in ("1e-6", "1e6"):
        assert train(*arguments, "--l1", weight, "--output", tmp_path / weight).code == 0
        ends, starts = (load_file(p / "model.safetensors") for p in (tmp_path / weight, small_xlmr))
        moved.append(sum(float((ends[name] - starts[name]).abs().sum()) for name in ends))
    assert moved[1] < 0.5 * moved[0]


REFUSED = [
    (("--sparse", "0"), "sparse: Input should be greater than 0, not 0.0"),
    (("--sparse", "-3"), "sparse: Input should be greater than 0, not -3.0"),
    (("--sparse", "1.5"), "--sparse 1.5: give a share below 1 (0.05), or a whole number of parameters"),
    (("--sparse", "nan"), "sparse: Input should be greater than 0, not nan"),
    (("--sparse", "1e9"), "--sparse 1e+09 is 1,000,000,000 parameters; "),
    (("--sparse", "1e-9"), "--sparse 1e-09 is 0 parameters; "),
    (("--sparse", "9", "--lora-rank", "2"), "--sparse cannot be used with --lora-rank"),
    (("--fisher", "9", "--lora-rank", "2"), "--fisher cannot be used with --lora-rank"),
    (("--l1", "0.1"), "--l1 goes with --sparse"),
    (("--l1", "0.1", "--sparse", "9", "--fp16"), "--l1 cannot be used with --fp16"),
    (("--freeze", "output-embeddings", "--tie-embeddings"), "cannot be used with --tie-embeddings"),
]


@pytest.mark.parametrize(("flags", "message"), REFUSED, ids=[" ".join(flags) for flags, _ in REFUSED])
def test_refused(flags, message, small_xlmr, small_text, tmp_path):
    out = tmp_path / "out"
    assert message in refused(small_xlmr, "--corpus", small_text, *SHORT, *STEPS, *flags, "--output", out)
    assert not out.exists()


def test_more_than_moved(small_xlmr, small_rows, tmp_path):
    """A word that no row has stays where it is, without weight decay."""
    few = ("--max-steps", 1, "--batch-size", 2, "--max-length", 16, "--sparse", "0.9999")
    message = refused(small_xlmr, *small_rows, *few, "--output", tmp_path / "out", kind="task")
    assert re.search(r"--sparse: [\d,]+ parameters moved in phase 1, fewer than K = [\d,]+; choose", message)
    few = ("--freeze", "output-embeddings")
    message = refused(small_xlmr, *small_rows, *few, "--output", tmp_path / "other", kind="task")
    assert "a classifier has none" in message
