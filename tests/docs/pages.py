"""The pages of the documentation, and what stands on them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
FOLDERS = ("", "docs", "docs/reference", "docs/runbooks", "grafana", "collector-config")
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for folder in FOLDERS
    for path in sorted((ROOT / folder).glob("*.md"))
}
"""By path in the checkout."""
REFERENCE = {Path(path).stem: text for path, text in PAGES.items() if path.startswith("docs/reference/")}


class Example(NamedTuple):
    """A fenced block."""

    page: str
    title: str
    """What follows the language."""
    text: str

    def __str__(self) -> str:
        return f"{self.page}: {self.title or self.text.strip().partition(chr(10))[0]}"


_FENCED = re.compile(r"^( *)```(\w*) ?([^\n]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def examples(language: str) -> list[Example]:
    """On all pages, without the indentation of a list they stand in."""
    return [
        Example(page, match[3], re.sub(f"^{match[1]}", "", match[4], flags=re.MULTILINE))
        for page, text in PAGES.items()
        for match in _FENCED.finditer(text)
        if match[2] == language
    ]


def prose(text: str) -> str:
    """Without fenced blocks."""
    return _FENCED.sub("", text)


def code(text: str) -> list[str]:
    """What stands in backticks between the words."""
    return re.findall(r"`([^`\n]+)`", prose(text))
