"""Which command gets a model, a vector or a recipe that is not there: ends of errors, from names alone."""

import re
from pathlib import Path
from shlex import quote

from taxlt_mergekit.paper import catalog
from taxlt_mergekit.paper.recipes import recipe_files

HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")  # what may be a model's name on the hub


def for_model(path: str, start: str | None = None, adapter: bool = False) -> str:
    """The command that gets a model that is not at `path`.

    Args:
        path: as a recipe or a flag names it. A vector's is known by `catalog.vector_folder`'s form,
            `vectors/MODEL/lang/CODE` or `vectors/MODEL/task/NAME`, from whatever folder it is seen.
        start: θ₀ as the recipe names it, where it is known; MODEL is but the last part of its name.
        adapter: it is to be a peft adapter.

    Returns:
        ``; COMMAND makes it``, or an empty text where nothing is known of such a name.
    """
    place, parts = Path(path), Path(path).parts
    if len(parts) > 3 and parts[-4] == "vectors" and parts[-2] in ("lang", "task"):
        return _for_vector(place, start, adapter)
    if size := catalog.size_of(path):
        model = catalog.load().models[size].id
        there = "" if path == model else f" --local-dir {quote(path)}"
        return f"; hf download {model}{there} gets it, where there is a network"
    if HUB_ID.fullmatch(path):
        return f"; if it is on the hub: hf download {path}, where there is a network"
    return ""


def _for_vector(place: Path, start: str | None, adapter: bool) -> str:
    folder, kind, name = place.parts[-3:]
    if start and Path(start).name == folder:
        model = quote(start)
    else:  # of a model that is not the paper's, only the last part of the name is known
        model = catalog.hub_id(folder) if catalog.size_of(folder) else "MODEL"
    usual = Path(catalog.vector_folder(folder, kind, name)) == place
    output = "" if usual else f" --output {quote(str(place))}"
    if kind == "lang":
        own, flags = f" --corpus {quote(f'{name}.txt')}", f" --lang {quote(name)}"
        train = f"taxlt train language {model}{own}{flags}"
    elif name in {entry.task_vector for entry in catalog.load().benchmarks.values()}:
        flags = f" --task {quote(name)}"
        train = f"taxlt train task {model}{flags}"
    else:
        flags = f" --task {quote(name)}"
        train = f"taxlt train task {model} --name {quote(name)} --train FILE --validation FILE"
    if adapter:
        return f"; {train} --lora-rank R{output} makes it"
    imported = f"taxlt import sft SOURCE --model {model}{flags}{output}"
    return f"; {train}{output} makes it, or, of a published vector, {imported}"


def for_recipe(path: Path) -> str:
    """The command that writes a recipe that is not at `path`, ``; taxlt recipes … writes it``.

    An empty text where the file's name is none that `taxlt recipes` gives.
    """
    shown = path.as_posix()
    names = [name for name, _ in recipe_files() if shown == name or shown.endswith(f"/{name}")]
    if not names:
        return ""
    folder = shown.removesuffix(max(names, key=len)).rstrip("/") or "."  # XLM-R large's has a folder in it
    output = "" if folder == "merge_configs" else f" --output {quote(folder)}"
    return f"; taxlt recipes{output} writes it, and for another model with --model MODEL"
