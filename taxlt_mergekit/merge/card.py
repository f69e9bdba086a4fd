"""What a merge says of itself: the README.md of the merged model, and the lines at the end of the command."""

import os
from collections.abc import Set
from typing import Any

from taxlt_mergekit import markdown
from taxlt_mergekit.merge.methods.table import METHODS
from taxlt_mergekit.merge.plan import Given, Merge

_CARD = """{metadata}
# {name}

{what}

- **Method**: {method}, `{key}` of
  taxlt-mergekit in [mergekit](https://github.com/arcee-ai/mergekit)
- **Paper**: {paper}
- **Base (θ₀)**: {base}
- **{head}**: {task}

{vectors}

## Recipe

```yaml
{recipe}
```
"""
_SYMBOLS = {"weight": "λ"}  # where it is the factor of a sum, and not one of mergekit's weights
_NOTHING = "–"


def model_card(merge: Merge, recipe: str) -> str:
    """Markdown with Hugging Face metadata (mergekit's own card asks the hub about folder names).

    Args:
        merge: whose tensors are merged.
        recipe: the user's YAML.
    """
    method, cast = METHODS[merge.recipe.merge_method], merge.cast
    spec = method.spec
    on_hub = [str(model.model) for model in cast.models if not os.path.exists(model.model.path)]
    names = _parameters(merge)
    rows = [
        [given.role, str(model), *(_of(given, name) for name in names), _ratio(merge, model)]
        for model, given in merge.given.items()
    ]
    head, averaged = "Head, config and tokenizer", ""
    if merge.layout.averaged:
        head, averaged = "Config and tokenizer", f"; the head is merged of {len(cast.tasks)} task models'"
    how = "adding weight vectors" if method.needs_language else "merging weights"
    what = f"A task model adapted to a language by {how}, without labelled data in that language."
    if set(cast.roles.values()) == {"task"}:
        what = "Task models merged into one."
    return _CARD.format(
        metadata=markdown.metadata(
            base_model=on_hub or None,
            library_name="transformers",
            tags=["mergekit", "merge", "task-arithmetic"],
        ),
        name=merge.name,
        what=what,
        method=f"[{spec.pretty_name}]({spec.reference_url})" if spec.reference_url else spec.pretty_name,
        key=spec.name,
        paper=method.text,
        base=cast.base if cast.names_base else "none",
        head=head,
        task=f"{cast.task}{averaged}",
        vectors=markdown.table(
            ["role", "model", *(_shown(merge, name) for name in names), "‖τ‖/‖θ₀‖"], rows, left=2
        ),
        recipe=recipe.rstrip(),
    )


def summary(merge: Merge, out_path: str) -> str:
    """What was merged with which λ, what was copied, and where it is."""
    layout = merge.layout
    base = f" with base {merge.cast.base}" if merge.cast.names_base else ""
    lines = [f"{merge.recipe.merge_method}: {len(layout.merged)} tensors merged{base}"]
    for model, given in merge.given.items():
        values = "".join(f"  {_shown(merge, name)} {_of(given, name)}" for name in _parameters(merge))
        ratio = f"  ‖τ‖/‖θ₀‖ {_ratio(merge, model)}" if merge.record.vector else ""
        lines.append(f"  {given.role:<6}  {model}{values}{ratio}")
    if layout.head:
        lines.append(f"  head    {len(layout.head)} tensors copied from the task model: {_some(layout.head)}")
    if layout.averaged:
        names = sorted(layout.averaged)
        lines.append(f"  head    {len(names)} tensors merged of the task models': {_some(names)}")
    lines.append(f"  written to {out_path}")
    return "\n".join(lines)


def _parameters(merge: Merge) -> list[str]:
    """Names of the parameters that the models were given, in the method's order."""
    return list(dict.fromkeys(name for given in merge.given.values() for name in given.values))


def _shown(merge: Merge, name: str) -> str:
    return _SYMBOLS.get(name, name) if METHODS[merge.recipe.merge_method].needs_language else name


def _of(given: Given, name: str) -> str:
    return spread(given.values.get(name, set()))


def _ratio(merge: Merge, model: Any) -> str:
    ratio = merge.record.ratio(model)
    return _NOTHING if ratio is None else f"{ratio:.4f}"


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (", …" if len(names) > 4 else "")


def spread(values: Set[Any]) -> str:
    """A parameter's values: one, the range of several, or a dash."""
    if not values:
        return _NOTHING
    if not all(isinstance(value, int | float) for value in values):
        return ", ".join(sorted(map(str, values)))
    low, high = min(values), max(values)
    return f"{low:g}" if low == high else f"{low:g}…{high:g}"
