"""The writer of outputs: what it is given stands in files that any reader takes."""

import torch
from safetensors.torch import load_file

from taxlt_mergekit.merge.writer import StreamingWriter


def test_a_tensor_that_is_saved_twice_stands_there_once(tmp_path):
    tensors = {name: torch.arange(6.0).reshape(2, 3) + start for start, name in enumerate("abc")}
    writer = StreamingWriter(str(tmp_path), max_shard_size=-1, header_room=1024)
    for name in ("a", "b", "a", "c"):
        writer.save_tensor(name, tensors[name])
    writer.finalize()
    found = load_file(tmp_path / "model.safetensors")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], value) for name, value in tensors.items())
