"""Which of the benchmarks' files `TAXLT_DATA` has, and which it lacks."""

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from taxlt_mergekit.paper import catalog


def files(root: Path) -> Iterator[tuple[str, str, str, list[str]]]:
    """Benchmark, part, how many of its languages have a file, and which files the others would have."""
    for benchmark in catalog.load().benchmarks.values():
        for part in get_args(catalog.Part):
            if part not in benchmark.files:
                continue
            looked_for = {
                code: [benchmark.fill(pattern, code) for pattern in benchmark.files[part]]
                for code in benchmark.languages
            }
            missing = [
                " or ".join(paths)
                for paths in looked_for.values()
                if not any((root / path).is_file() for path in paths)
            ]
            have = len(looked_for) - len(missing)
            yield benchmark.title, part, f"{have} of {len(looked_for)}", list(dict.fromkeys(missing))
