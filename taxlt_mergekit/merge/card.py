"""The README.md of a merged model: method, paper, vectors and recipe."""

import os
from typing import Any

import yaml
from mergekit.merge_methods.base import MergeMethodSpec

from taxlt_mergekit.merge.method import PAPER_URL, Record
from taxlt_mergekit.merge.recipe import Cast

_CARD = """---
{metadata}---
# {name}

A task model adapted to a language by adding weight vectors, without labelled data in that language.

- **Method**: [{pretty_name}]({url}), `{method}` of
  taxlt-mergekit in [mergekit](https://github.com/arcee-ai/mergekit)
- **Paper**: Marinela Parović, Ivan Vulić, Anna Korhonen. *Investigating the Potential of Task Arithmetic for
  Cross-Lingual Transfer*. EACL 2024. {url}
- **Base (θ₀)**: {base}
- **Head, config and tokenizer**: {task}

| role | model | λ | density | ‖τ‖/‖θ₀‖ |
|---|---|---|---|---|
{rows}

## Recipe

```yaml
{recipe}
```
"""


def model_card(
    name: str,
    spec: MergeMethodSpec,
    cast: Cast,
    terms: dict[Any, dict[str, Any]],
    record: Record,
    recipe: str,
) -> str:
    """Markdown with Hugging Face metadata.

    Args:
        terms: model → role, and the sets of weights and densities that its tensors were given.
        recipe: the user's YAML.
    """
    on_hub = [str(m.model) for m in cast.models if not os.path.exists(m.model.path)]
    metadata = {"library_name": "transformers", "tags": ["mergekit", "merge", "task-arithmetic"]}
    rows = [
        f"| {term['role']} | {model} | {_values(term['weight'])} | {_values(term['density'])} "
        f"| {record.ratio(model):.4f} |"
        for model, term in terms.items()
    ]
    return _CARD.format(
        metadata=yaml.safe_dump(metadata | ({"base_model": on_hub} if on_hub else {}), sort_keys=True),
        name=name,
        pretty_name=spec.pretty_name,
        method=spec.name,
        url=PAPER_URL,
        base=cast.base,
        task=cast.task,
        rows="\n".join(rows),
        recipe=recipe.rstrip(),
    )


def _values(values: set[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
