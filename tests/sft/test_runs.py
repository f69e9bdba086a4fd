"""Runs of pickled integers, as the shortcut of reading decodes them, against pickle itself."""

import pickle
import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from taxlt_mergekit.sft.file import decode_run

numbers = st.one_of(st.integers(0, 255), st.integers(0, 65535), st.integers(-(2**31), 2**31 - 1))


def encoded(number: int) -> bytes:
    if 0 <= number < 256:
        return b"K" + bytes([number])
    return b"M" + struct.pack("<H", number) if 0 <= number < 65536 else b"J" + struct.pack("<i", number)


@given(st.one_of(st.lists(numbers, min_size=1, max_size=300), st.lists(st.integers(0, 255), min_size=1)))
@settings(deadline=None)
def test_a_run_is_decoded_as_pickle_would(values):
    run = b"".join(map(encoded, values))
    assert pickle.loads(b"](" + run + b"e.") == values
    assert decode_run(run).tolist() == values
