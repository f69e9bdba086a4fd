"""The pages: every relative link leads somewhere, and the site builds strictly."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "contrib").glob("*.md")]


def test_every_file_that_a_page_links_to_is_there():
    lost = []
    for page in PAGES:
        # Indented lines are examples; links with a scheme are others' pages.
        text = re.sub(r"^    .*$|^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
        for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
            if "://" not in link and not (page.parent / link).exists():
                lost.append(f"{page.relative_to(ROOT)}: {link}")
    assert len(PAGES) > 20 and lost == []


def test_the_site_builds_and_a_broken_link_or_anchor_ends_it(tmp_path, capfd):
    pytest.importorskip("zensical", reason="needs zensical: pip install 'taxlt-mergekit[docs]' (Python 3.11)")
    spec = importlib.util.spec_from_file_location("build_site", ROOT / "docs" / "build_site.py")
    site = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(site)
    source = site.stage(tmp_path)
    assert site.build(tmp_path) == 0, capfd.readouterr()
    assert "Which λ" in (tmp_path / "site" / "docs" / "which" / "index.html").read_text(encoding="utf-8")
    home = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert "Quechua" in home and "fonts.googleapis" not in home
    for link in ("absent.md", "merge.md#absent"):
        (source / "docs" / "sweep.md").write_text(f"[x]({link})\n", encoding="utf-8")
        assert site.build(tmp_path) != 0
