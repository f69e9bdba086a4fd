"""How many pieces the encoder's tokenizer cuts a word of each language into: one JSON object.

python experiments/nusax/pieces.py MODEL text/*.txt
"""

import json
from pathlib import Path

import click
from transformers import AutoTokenizer

WORDS = 50_000


@click.command()
@click.argument("model", type=click.Path(exists=True))
@click.argument("texts", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
def main(model: str, texts: tuple[Path, ...]) -> None:
    """Print pieces a word of the first 50,000 words of each of TEXTS."""
    tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
    found = {}
    for path in texts:
        words = path.read_text("utf-8").split()[:WORDS]
        pieces = tokenizer(words, add_special_tokens=False)["input_ids"]
        found[path.stem] = round(sum(map(len, pieces)) / len(words), 2)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
