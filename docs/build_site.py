"""Build the documentation site with zensical, strictly: a link to a page or heading that is not there fails.

    python docs/build_site.py [FOLDER]

Pages keep the relative links that GitHub follows, also to files outside docs/. So the site has the same tree:
what pages link to is copied into FOLDER/source, and FOLDER/site is the site. By default FOLDER is build/docs.
"""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLACES = (
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "pyproject.toml"),
    *("docs", "contrib", "eval_tasks", "experiments", "merge_configs", "notebooks"),
    *("taxlt_mergekit", "tests", "benchmarks"),
)


def stage(folder: Path) -> Path:
    """Copy what the site is made of; returns the folder of the pages."""
    source = folder / "source"
    shutil.rmtree(source, ignore_errors=True)
    source.mkdir(parents=True)
    for name in PLACES:
        place = ROOT / name
        if place.is_dir():
            shutil.copytree(place, source / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        elif place.exists():
            shutil.copy2(place, source / name)
    shutil.copy2(ROOT / "docs" / "site.toml", folder / "zensical.toml")
    return source


def build(folder: Path) -> int:
    """Run zensical on a staged folder; its exit code."""
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    return subprocess.run(command, cwd=folder).returncode


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "docs"
    stage(folder)
    code = build(folder)
    if code == 0:
        print(f"Wrote {folder / 'site' / 'index.html'}")
    sys.exit(code)
