"""Tables that sort and curves that answer the pointer: a report's blocks as Bokeh's widgets."""

from collections.abc import Sequence
from html import escape
from typing import Any

from bokeh.models import (
    ColumnDataSource,
    DataTable,
    HoverTool,
    HTMLTemplateFormatter,
    InlineStyleSheet,
    TableColumn,
)
from bokeh.plotting import figure
from matplotlib.colors import to_hex

from taxlt_mergekit.report import plots
from taxlt_mergekit.report.tables import Item, Number, Table

ROW = 28  # pixels
# The widths of a table's texts in its own font, in pixels: of a character, of a bold one, and beside them.
CHARACTER, BOLD, PADDING = 8, 9, 30
FONT = "system-ui, sans-serif"
# Bokeh's names of matplotlib's markers and dashes in `plots.STYLES` and `plots.LINES`.
MARKERS = {"o": "circle", "s": "square", "^": "triangle", "v": "inverted_triangle", "x": "x"}
DASHES = {"-": "solid", "--": "dashed", "-.": "dotdash", ":": "dotted"}
# A cell: what a reader sees, escaped, while the column sorts by its keys.
CELL = '<div class="<%- {kind} %>"><%- {shown} %></div>'

TABLE_STYLE = f"""
.bk-data-table, .slick-header-column {{ font: 14px {FONT}; color: #222; }}
.slick-header-columns {{ background: #fff; border-bottom: 1px solid #888; }}
.slick-header-column.ui-state-default {{ font-weight: 600; border-right: 0; background: #fff; }}
.slick-header-column.ui-state-default {{ padding: 4px 8px; }}
.slick-cell {{ border-color: transparent transparent #e4e4e4; padding: 4px 8px; }}
.slick-row, .slick-row.odd {{ background: #fff; }}
.slick-row:hover {{ background: #f3f6f9; }}
.figure {{ text-align: right; font-variant-numeric: tabular-nums; }}
.best {{ font-weight: 700; }}
"""


def table(block: Table) -> DataTable:
    """All rows at once; a click on a column's heading sorts by it, a second one the other way round."""
    data: dict[str, Any] = {}
    columns = []
    style = TABLE_STYLE
    for place, (name, items) in enumerate(zip(block.header, zip(*block.rows, strict=True), strict=True)):
        is_text = all(isinstance(item, str) for item in items)
        key, shown, kind = f"key{place}", f"shown{place}", f"kind{place}"
        data[key] = _keys(items)
        data[shown] = [item if isinstance(item, str) else item.shown for item in items]
        data[kind] = [_kind(item) for item in items]
        columns.append(
            TableColumn(
                field=key,
                title=escape(name) or " ",  # BokehJS takes it for HTML
                width=max(CHARACTER * max(map(len, data[shown])), BOLD * len(name)) + PADDING,
                formatter=HTMLTemplateFormatter(template=CELL.format(kind=kind, shown=shown)),
                default_sort="ascending" if is_text else "descending",
            )
        )
        if not is_text:
            style += f".slick-header-column:nth-child({place + 1}) {{ text-align: right; }}\n"
    return DataTable(
        source=ColumnDataSource(data),
        columns=columns,
        width=sum(column.width for column in columns) + 2,
        height=ROW * (len(block.rows) + 1) + 8,
        row_height=ROW,
        index_position=None,
        autosize_mode="none",
        reorderable=False,
        selectable=False,
        stylesheets=[InlineStyleSheet(css=style)],
    )


def _keys(items: Sequence[Item]) -> list[float]:
    """What a column sorts by: its figures; texts that are no numbers by their order in the table."""
    if all(isinstance(item, str) for item in items):
        try:
            return [float(str(item).replace("−", "-")) for item in items]
        except ValueError:
            order = list(dict.fromkeys(items))
            return [order.index(item) for item in items]
    values = [None if isinstance(item, str) else item.value for item in items]
    return [float("nan") if value is None else value for value in values]


def _kind(item: Item) -> str:
    if isinstance(item, str):
        return "name"
    return "figure best" if isinstance(item, Number) and item.best else "figure"


def panel(block: plots.Panel, axis: plots.Axis) -> Any:
    """One benchmark's curves: values under the pointer, and a curve goes at a click on its name."""
    drawn = figure(
        title=block.title,
        x_axis_label=axis.label,
        y_axis_label=block.metric,
        height=360,
        sizing_mode="stretch_width",
        tools="box_zoom,reset,save",
        active_drag=None,
        **({"x_range": axis.limits} if axis.limits else {}),
    )
    shown = []
    for curve in block.curves:
        style = plots.STYLES[curve.style % len(plots.STYLES)]
        x, y = zip(*curve.points, strict=True)
        source = ColumnDataSource({"x": x, "y": y, "label": [curve.label] * len(x)})
        look = {"color": to_hex(style["color"]), "legend_label": curve.label, "source": source}
        drawn.line("x", "y", line_width=2, line_dash=_dash(style["linestyle"]), **look)
        shown.append(drawn.scatter("x", "y", marker=MARKERS[style["marker"]], size=7, **look))
    levels = []
    for label, value in block.lines.items():
        style = plots.LINES[label]
        source = ColumnDataSource({"y": [value], "label": [label]})
        look = {"line_color": to_hex(style["color"]), "line_dash": _dash(style["linestyle"]), "line_width": 2}
        levels.append(drawn.hspan(y="y", source=source, legend_label=label, **look))
    drawn.add_tools(
        HoverTool(renderers=shown, tooltips=_tooltip(f"{axis.label}: @x{{0.[00]}}", block.metric)),
        HoverTool(renderers=levels, tooltips=_tooltip(block.metric)),
    )
    drawn.toolbar.logo = None
    drawn.toolbar.autohide = True
    drawn.add_layout(drawn.legend[0], "below")
    drawn.legend.ncols = 2
    drawn.legend.spacing, drawn.legend.glyph_width = 12, 36
    drawn.legend.click_policy = "hide"
    drawn.legend.border_line_color = None
    drawn.grid.grid_line_color = "#e6e6e6"
    drawn.outline_line_color = "#bbb"
    for text in (drawn.title, *drawn.axis):
        setattr(text, "text_font" if text is drawn.title else "axis_label_text_font", FONT)
    drawn.axis.axis_label_text_font_style = "normal"
    drawn.axis.minor_tick_line_color = None
    return drawn


def _tooltip(*lines: str) -> str:
    """A curve's name, `lines`, and its score after the last of them; Bokeh escapes what it fills in."""
    text = "<br>".join(("<b>@label</b>", *map(str, lines)))
    return f'<div style="font: 13px {FONT}">{text}: @y{{0.00}}</div>'


def _dash(style: str | tuple[int, Sequence[int]]) -> str | list[int]:
    """matplotlib's (offset, lengths) are in widths of the line, Bokeh's in pixels."""
    return DASHES[style] if isinstance(style, str) else [2 * length for length in style[1]]
