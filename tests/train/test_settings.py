"""Settings: batches, sizes, and the file that keeps them."""

import pydantic
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from taxlt_mergekit.errors import UserError
from taxlt_mergekit.paper.catalog import vector_folder
from taxlt_mergekit.train.settings import (
    SETTINGS_FILE,
    Batch,
    make_settings,
    model_size,
    read_config,
    split_batch,
    write_settings,
)

LANGUAGE = {"model": "m", "corpus": ["c.txt"]}


@given(st.integers(1, 16), st.integers(1, 8), st.integers(1, 8), st.booleans(), st.booleans(), st.booleans())
def test_a_batch_is_spread_so_that_it_comes_out_even(per_device, accumulation, devices, total, device, steps):
    """Whichever of the three numbers are given, the result multiplies up, and what was given is kept."""
    product = per_device * accumulation * devices
    batch = split_batch(
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
    assert split_batch(64, None, None, None, 1) == Batch(64, 64, 1, 1)
    assert split_batch(64, None, None, None, 4) == Batch(64, 16, 1, 4)
    assert split_batch(64, None, None, 8, 2) == Batch(64, 4, 8, 2)
    # As in transformers, one device's batch on its own sets the total.
    assert split_batch(64, None, 8, None, 2) == Batch(16, 8, 1, 2)
    assert split_batch(64, 64, 8, None, 2) == Batch(64, 8, 4, 2)
    for arguments in (
        (64, None, None, None, 3),
        (64, 10, None, 4, 1),
        (64, 64, 8, 3, 1),
        (64, 4, 8, None, 1),
    ):
        with pytest.raises(UserError, match="cannot be spread over"):
            split_batch(*arguments)


def test_sizes():
    class Config:
        def __init__(self, hidden_size):
            self.hidden_size = hidden_size

        def get_text_config(self):
            return self

    assert model_size("FacebookAI/xlm-roberta-large", Config(8)) == (
        "large",
        "the catalog's xlm-roberta-large",
    )
    assert model_size("/models/xlm-roberta-base/", Config(2048)) == (
        "base",
        "the catalog's xlm-roberta-base",
    )
    assert model_size("mine", Config(1024)) == ("large", "hidden size 1024")
    assert model_size("mine", Config(768)) == ("base", "hidden size 768")


def test_where_vectors_go():
    assert vector_folder("FacebookAI/xlm-roberta-base", "lang", "quy") == "vectors/xlm-roberta-base/lang/quy"
    assert vector_folder("models/mine/", "task", "marc") == "vectors/mine/task/marc"


def test_settings_stay_as_the_user_gave_them():
    settings = make_settings("language", LANGUAGE)
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        settings.output = "elsewhere"


def test_settings_are_saved_without_secrets_and_read_again(tmp_path):
    settings = make_settings(
        "language", {**LANGUAGE, "hub_token": "hf_secret", "weight_decay": 0.1, "lora_rank": 4, "lang": "x"}
    )
    write_settings(tmp_path, "language", settings, {"inputs": {}})
    text = (tmp_path / SETTINGS_FILE).read_text(encoding="utf-8")
    assert "secret" not in text
    again = make_settings("language", read_config(tmp_path / SETTINGS_FILE, "language"))
    assert again == settings.model_copy(update={"arguments": {"weight_decay": 0.1}})
    assert yaml.safe_load(text)["command"] == "train language"
