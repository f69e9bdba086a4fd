"""Our own commands keep Python's search for garbage out of the way, and leave it as they found it."""

import gc
import weakref

from taxlt_mergekit.process import imports_stay


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
