"""Writes the patches of this folder from what `taxlt export` writes: ``python contrib/write_patches.py``.

Each consists of new files alone, so it holds no line of the repository that it is for.
"""

from collections.abc import Mapping
from pathlib import Path

from taxlt_mergekit.export.lm_eval import task_files
from taxlt_mergekit.export.mergekit import repository_files

FOLDER = Path(__file__).parent


def patches() -> dict[str, str]:
    """Name of each patch → its text."""
    tasks = {f"lm_eval/tasks/{path}": text for path, text in task_files().items() if "/" in path}
    mergekit = repository_files()
    examples = {path: text for path, text in mergekit.items() if path.startswith("examples/")}
    architectures = {path: text for path, text in mergekit.items() if path not in examples}
    return {
        "lm-eval-tasks.patch": patch(tasks),
        "mergekit-examples.patch": patch(examples),
        "mergekit-encoder-architectures.patch": patch(architectures),
    }


def patch(files: Mapping[str, str]) -> str:
    """A patch, as git writes it, that adds these files."""
    parts = []
    for path, text in sorted(files.items()):
        lines = text.splitlines()
        parts += [f"diff --git a/{path} b/{path}", "new file mode 100644", "--- /dev/null", f"+++ b/{path}"]
        parts += [f"@@ -0,0 +1,{len(lines)} @@", *(f"+{line}" for line in lines)]
    return "\n".join([*parts, ""])


if __name__ == "__main__":
    for name, text in patches().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        print(f"wrote {FOLDER / name}")
