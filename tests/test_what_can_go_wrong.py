"""docs/what-can-go-wrong.md quotes the messages that the code has."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def text(node: ast.expr) -> str:
    """A string of the source, with … for what is filled in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r"%[sd]", "…", node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(text(part) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return text(node.left) + text(node.right)
    return "…"


def test_every_message_of_the_page_is_in_the_code():
    code = "\n".join(
        text(node)
        for path in sorted((ROOT / "taxlt_mergekit").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.expr)
    )
    page = (ROOT / "docs" / "what-can-go-wrong.md").read_text(encoding="utf-8")
    cells = [line.split(" | ", 1)[1] for line in page.splitlines() if line.startswith("| ") and " | " in line]
    messages = [quoted for cell in cells for quoted in re.findall(r"`([^`]*…[^`]*)`", cell)]
    assert len(messages) > 50
    assert [message for message in messages if message not in code] == []
