"""Our own commands keep Python's search for garbage out of the way, and leave it as they found it."""

import gc
import weakref

import pytest

from taxlt_mergekit.process import imports_stay, is_merge_of_ours


class Ring:
    """Only a search for garbage frees it."""

    def __init__(self):
        self.itself = self


def test_what_is_made_after_imports_can_still_be_collected():
    with imports_stay():
        with imports_stay():  # a command imports another module
            pass
        assert not gc.isenabled()
    assert gc.isenabled()
    ring = Ring()
    gone = weakref.ref(ring)
    del ring
    gc.collect()
    assert gone() is None


def test_who_had_turned_the_search_off_finds_it_off():
    gc.disable()
    try:
        with imports_stay():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("recipe", "ours"),
    [
        ("# +TGT\nmerge_method: xlt_additive\nmodels: []\n", True),
        ("models: []\nmerge_method:   xlt_analogy\n", True),
        ("# not merge_method: xlt_additive\nmerge_method: ties\n", False),
        ("models: [{model: xlt_additive}]\nmerge_method: linear\n", False),
    ],
)
def test_a_merge_of_ours_is_known_by_its_recipe(recipe, ours, tmp_path):
    (tmp_path / "r.yml").write_text(recipe)
    (tmp_path / "latin.yaml").write_bytes(b"# \xe9\nmerge_method: xlt_additive\n")
    arguments = [
        "--cuda",
        str(tmp_path / "none.yml"),
        str(tmp_path / "latin.yaml"),
        str(tmp_path / "r.yml"),
        "out",
    ]
    assert is_merge_of_ours(arguments) is ours
    assert not is_merge_of_ours(arguments[:3])
