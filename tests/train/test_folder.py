"""The output folder: who writes to it when, and its upload."""

from types import SimpleNamespace

from taxlt_mergekit.train import run
from taxlt_mergekit.train.folder import STAGING
from tests.helpers.training import SHORT, refused, train


def test_a_slower_process_takes_nothing_from_the_first(tmp_path, monkeypatch):
    being_saved = tmp_path / STAGING / "model.safetensors"
    being_saved.parent.mkdir()
    being_saved.touch()
    happened = []
    trainer = SimpleNamespace(
        state=None,
        accelerator=SimpleNamespace(wait_for_everyone=lambda: happened.append("waited")),
        save_model=lambda folder: happened.append("saved"),
    )
    monkeypatch.setattr(run, "is_main", lambda: False)
    run.finish(
        trainer, SimpleNamespace(output=tmp_path, cut=None, settings=SimpleNamespace(merge_lora=False))
    )
    assert happened == ["waited", "saved"]
    assert being_saved.exists()


def test_publishing_goes_to_the_hub_once_it_is_finished(small_xlmr, small_text, tmp_path, monkeypatch):
    import huggingface_hub

    calls = []

    class Created:
        repo_id = "me/quy"

    monkeypatch.setattr(
        huggingface_hub, "create_repo", lambda name, **k: calls.append((name, k)) or Created()
    )
    monkeypatch.setattr(
        huggingface_hub,
        "upload_folder",
        lambda **k: calls.append((sorted(path.name for path in k["folder_path"].iterdir()), k)),
    )
    arguments = (small_xlmr, "--corpus", small_text, *SHORT, "--max-steps", 2, "--output", tmp_path / "quy")
    done = train(*arguments, "--push-to-hub", "--hub-private-repo", "--hub-token", "hf_secret")
    assert done.code == 0, done
    (name, options), (files, upload) = calls
    assert name == "quy" and options["private"] is True and options["token"] == "hf_secret"
    assert upload["repo_id"] == "me/quy"
    assert "config.json" in files and "README.md" in files
    for path in (tmp_path / "quy").iterdir():
        assert b"hf_secret" not in path.read_bytes()
    assert "https://huggingface.co/me/quy" in done.stdout


def test_a_hub_that_refuses_costs_no_training(small_xlmr, small_text, tmp_path, monkeypatch):
    import huggingface_hub

    def fails(*_, **__):
        raise OSError("401 Client Error")

    monkeypatch.setattr(huggingface_hub, "create_repo", fails)
    arguments = (small_xlmr, "--corpus", small_text, *SHORT, "--max-steps", 2, "--output", tmp_path / "quy")
    assert "--push-to-hub: the hub did not create quy: 401" in refused(*arguments, "--push-to-hub")
    assert not (tmp_path / "quy").exists()
