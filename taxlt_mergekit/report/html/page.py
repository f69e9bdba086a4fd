"""The report as one HTML file that needs no network: the blocks of report.md, drawn by Bokeh."""

import json
from collections.abc import Sequence
from importlib.resources import files
from importlib.util import find_spec

from taxlt_mergekit.errors import UserError
from taxlt_mergekit.report.tables import Block, Heading, Picture, Table

TEMPLATE = "page.html.jinja"


def check() -> None:
    """Raises UserError where what draws the page is not installed."""
    if not all(map(find_spec, ("bokeh", "jinja2", "markdown_it"))):
        raise UserError("--html needs Bokeh: pip install 'taxlt-mergekit[html]'")


def document(blocks: Sequence[Block]) -> str:
    """The whole as HTML, with Bokeh's scripts in it (2 MB).

    The same blocks give the same text in a new process; Bokeh numbers its widgets by a process.
    """
    from bokeh.embed import json_item
    from bokeh.resources import Resources
    from jinja2 import Environment
    from markdown_it import MarkdownIt

    from taxlt_mergekit.report.html import widgets

    # Of Markdown's own text nothing passes as HTML: labels are users'.
    markdown = MarkdownIt("commonmark", {"html": False})
    parts: list[dict] = []
    for block in blocks:
        if isinstance(block, Heading):
            parts.append({"kind": "heading", "level": block.level, "text": block.text})
        elif isinstance(block, Table):
            parts.append({"kind": "table", "items": [json_item(widgets.table(block))]})
        elif isinstance(block, Picture):
            drawn = [json_item(widgets.panel(panel, block.axis)) for panel in block.panels]
            parts.append({"kind": "picture", "title": block.title.splitlines()[0], "items": drawn})
        else:
            parts.append({"kind": "text", "html": markdown.render(block)})
    scripts = Resources(mode="inline", components=["bokeh", "bokeh-widgets", "bokeh-tables"]).render()
    template = files("taxlt_mergekit.report.html").joinpath(TEMPLATE).read_text(encoding="utf-8")
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page.filters["script"] = _inside_a_script
    return page.from_string(template).render(parts=parts, scripts=scripts) + "\n"


def _inside_a_script(item: object) -> str:
    """JSON in which nothing ends the script element that holds it."""
    return json.dumps(item, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")
