"""What a merge says of itself: the README.md of the merged model, and the lines at the end of the command."""

import os

from taxlt_mergekit import markdown
from taxlt_mergekit.merge.method import METHODS
from taxlt_mergekit.merge.plan import Merge
from taxlt_mergekit.paper import citation

_CARD = """{metadata}
# {name}

A task model adapted to a language by adding weight vectors, without labelled data in that language.

- **Method**: [{pretty_name}]({url}), `{method}` of
  taxlt-mergekit in [mergekit](https://github.com/arcee-ai/mergekit)
- **Paper**: {paper} {url}
- **Base (θ₀)**: {base}
- **Head, config and tokenizer**: {task}

{vectors}

## Recipe

```yaml
{recipe}
```
"""


def model_card(merge: Merge, recipe: str) -> str:
    """Markdown with Hugging Face metadata (mergekit's own card asks the hub about folder names).

    Args:
        merge: whose tensors are merged.
        recipe: the user's YAML.
    """
    spec, cast = METHODS[merge.recipe.merge_method].spec, merge.cast
    on_hub = [str(model.model) for model in cast.models if not os.path.exists(model.model.path)]
    rows = [
        [
            given.role,
            str(model),
            _spread(given.weights),
            _spread(given.densities),
            f"{merge.record.ratio(model):.4f}",
        ]
        for model, given in merge.given.items()
    ]
    return _CARD.format(
        metadata=markdown.metadata(
            base_model=on_hub or None,
            library_name="transformers",
            tags=["mergekit", "merge", "task-arithmetic"],
        ),
        name=merge.name,
        pretty_name=spec.pretty_name,
        method=spec.name,
        paper=citation.TEXT,
        url=citation.URL,
        base=cast.base,
        task=cast.task,
        vectors=markdown.table(["role", "model", "λ", "density", "‖τ‖/‖θ₀‖"], rows, left=2),
        recipe=recipe.rstrip(),
    )


def summary(merge: Merge, out_path: str) -> str:
    """What was merged with which λ, what was copied, and where it is."""
    layout = merge.layout
    lines = [f"{merge.recipe.merge_method}: {len(layout.merged)} tensors merged with base {merge.cast.base}"]
    for model, given in merge.given.items():
        lines.append(
            f"  {given.role:<6}  {model}  λ {_spread(given.weights)}  density {_spread(given.densities)}"
            f"  ‖τ‖/‖θ₀‖ {merge.record.ratio(model):.4f}"
        )
    if layout.head:
        shown = ", ".join(layout.head[:4]) + (", …" if len(layout.head) > 4 else "")
        lines.append(f"  head    {len(layout.head)} tensors copied from the task model: {shown}")
    lines.append(f"  written to {out_path}")
    return "\n".join(lines)


def _spread(values: set[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g}…{high:g}"
