"""Models with adapters in `taxlt sweep`: as in mergekit-yaml, and known by their content."""

import yaml

from taxlt_mergekit.cells.store import read_cells
from tests.helpers.evaluation import random_rows
from tests.helpers.sweeping import ROWS, assert_same_score, change_weight, copy_project, sweep
from tests.helpers.vectors import spread_predictions


def make_adapter(base, folder, kind, seed, labels=None, texts=()):
    """A random LoRA adapter; with `labels` one for classification, whose head says each of some texts."""
    import peft
    import torch
    import transformers

    torch.manual_seed(seed)
    names = (
        {"id2label": dict(enumerate(labels)), "label2id": {n: i for i, n in enumerate(labels)}}
        if labels
        else {}
    )
    model = kind.from_pretrained(base, **names)
    task_type = peft.TaskType.SEQ_CLS if labels else None
    if labels:
        spread_predictions(model, transformers.AutoTokenizer.from_pretrained(base), texts)
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["query", "value"], task_type=task_type)
    adapted = peft.get_peft_model(model, config)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(0, 0.03 if labels else 0.06)  # more would end in one label for all
    adapted.save_pretrained(folder)
    if labels:
        transformers.AutoConfig.from_pretrained(base, **names).save_pretrained(folder)


def test_adapters_are_swept_as_they_are_merged_and_again_when_they_were_trained_again(
    project, tmp_path, command
):
    from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification

    copy = copy_project(project, tmp_path)
    base, labels = copy / "base", ["positive", "neutral", "negative"]
    texts = [row["text"] for row in random_rows("nusax", ROWS, "mad validation")]
    make_adapter(base, copy / "task", AutoModelForSequenceClassification, 1, labels, texts)
    make_adapter(base, copy / "mad", AutoModelForMaskedLM, 2)
    recipe = yaml.safe_load((copy / "recipes" / "mad_plus_tgt.yml").read_text())
    for entry, name in zip(recipe["models"], ("task", "mad"), strict=True):
        entry["model"] = f"base+{name}"
    (copy / "recipes" / "mad_plus_tgt.yml").write_text(yaml.safe_dump(recipe))
    arguments = ["recipes/mad_plus_tgt.yml", "--weight", "0.5", "--batch-size", 8, "--output", "results"]
    done = sweep(copy, *arguments)
    assert done.code == 0, done.stderr
    model, merged = read_cells(copy / "results")
    assert model.documents.prediction != merged.documents.prediction
    best = copy / "results" / "best" / "mad_plus_tgt.yml"
    assert_same_score(command, copy, best, merged, "--lora-merge-cache", "cache")
    # The sweep keeps what adapters make in a folder of its own.
    assert len(list((copy / "results" / "adapters").iterdir())) == 2

    make_adapter(base, copy / "mad", AutoModelForMaskedLM, 3)
    assert sweep(copy, *arguments).code == 0
    assert [cell.variant for cell in read_cells(copy / "results")] == ["model", "plus_tgt", "plus_tgt"]
    change_weight(base, lambda weight: weight + 0.1)  # under all three
    assert sweep(copy, *arguments).code == 0
    assert len(read_cells(copy / "results")) == 5
