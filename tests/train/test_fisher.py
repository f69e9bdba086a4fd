"""`--fisher N`: the file beside the weights is what a loop over the training rows gives."""

import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file

from taxlt_mergekit.model_files import FISHER_FILE
from taxlt_mergekit.train import run
from tests.helpers.training import SHORT, assert_same_weights, refused, train

FEW = ("--max-steps", 4, "--batch-size", 8, "--max-length", 48, "--learning-rate", "1e-3")


def metadata(folder) -> dict:
    with safe_open(folder / FISHER_FILE, "pt") as file:
        return file.metadata()


def test_of_a_task(small_xlmr, small_rows, tmp_path, monkeypatch):
    """All 64 rows are fewer than wanted; a run that was killed while it worked does it again."""
    arguments = (
        small_xlmr,
        *small_rows,
        *FEW,
        "--fisher",
        100,
        "--sparse",
        "0.1",
        "--output",
        tmp_path / "out",
    )
    write = run.write_fisher

    class Killed(BaseException):
        pass

    with monkeypatch.context() as patch, pytest.raises(Killed):

        def killed(*given):
            write(*given)
            raise Killed

        patch.setattr(run, "write_fisher", killed)
        train(*arguments, kind="task")
    assert not (tmp_path / "out" / FISHER_FILE).exists()
    done = train(*arguments, "--resume", kind="task")
    assert done.code == 0, done
    found, weights = (load_file(tmp_path / "out" / name) for name in (FISHER_FILE, "model.safetensors"))
    assert {name: f.shape for name, f in found.items()} == {name: w.shape for name, w in weights.items()}
    assert all(f.dtype == torch.float32 and bool((f >= 0).all()) for f in found.values())
    assert metadata(tmp_path / "out") == {"format": "pt", "examples": "64", "kind": "p(y|x) of the model"}
    assert "over 64 examples" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")

    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    lines = small_rows[1].read_text(encoding="utf-8").splitlines()[1:]
    wanted = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for line in lines:
        premise, hypothesis, _ = line.split("\t")
        row = tokenizer(premise, hypothesis, truncation=True, max_length=48, return_tensors="pt")
        for label in range(2):
            model.zero_grad()
            scores = model(**row).logits.log_softmax(-1)[0, label]
            scores.backward()
            for name, p in model.named_parameters():
                if p.grad is not None:
                    wanted[name] += scores.detach().exp() * p.grad**2 / len(lines)
    for name, fisher in found.items():
        torch.testing.assert_close(fisher, wanted[name], rtol=1e-3, atol=1e-9)


def test_of_a_language(small_xlmr, small_text, tmp_path):
    """Single blocks, in the order of training and with its masks; tied embeddings stand in the file once."""
    arguments = (small_xlmr, "--corpus", small_text, *SHORT, "--max-steps", 2)
    done = train(*arguments, "--fisher", 6, "--output", tmp_path / "with")
    assert done.code == 0, done
    assert train(*arguments, "--output", tmp_path / "without").code == 0
    assert_same_weights(tmp_path / "with", tmp_path / "without")
    found, weights = (load_file(tmp_path / "with" / name) for name in (FISHER_FILE, "model.safetensors"))
    assert {name: f.shape for name, f in found.items()} == {name: w.shape for name, w in weights.items()}
    assert metadata(tmp_path / "with") == {"format": "pt", "examples": "6", "kind": "empirical"}

    from taxlt_mergekit.train.prepare import make_plan
    from taxlt_mergekit.train.settings import make_settings, read_config

    config = read_config(tmp_path / "with" / "training_settings.yaml", "language")
    plan = make_plan(make_settings("language", config | {"output": str(tmp_path / "new")}), resume=False)
    model = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "with").eval()
    parameters = dict(model.named_parameters(remove_duplicate=False))
    wanted = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for at in range(6):
        model.zero_grad()
        model(**plan.collator([plan.train[at]])).loss.backward()
        for name, p in parameters.items():
            wanted[name] += p.grad**2 / 6
    for name, fisher in found.items():
        torch.testing.assert_close(fisher, wanted[name], rtol=1e-3, atol=1e-9)


def test_a_count_of_nought_is_refused(small_xlmr, small_rows, tmp_path):
    done = train(small_xlmr, *small_rows, *FEW, "--fisher", 0, "--output", tmp_path / "out", kind="task")
    assert done.code == 2
    assert "0 is not in the range x>=1" in done.stderr


def test_what_is_not_finite_is_refused(small_xlmr, small_rows, tmp_path, monkeypatch):
    from taxlt_mergekit.train.fisher import file

    infinite = {"classifier.dense.weight": torch.full((32, 32), torch.inf)}

    def broken(_rows, _logits, parameters):
        return dict(parameters) | infinite

    monkeypatch.setattr(file, "label_fisher", broken)
    arguments = (small_xlmr, *small_rows, *FEW, "--fisher", 3, "--output", tmp_path / "out")
    message = refused(*arguments, kind="task")
    assert "--fisher: the squared gradients of classifier.dense.weight are not finite" in message
