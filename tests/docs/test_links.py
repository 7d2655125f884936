"""Links lead somewhere."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import PAGES, ROOT, prose

LINK = re.compile(r"\]\((?!https?:)([^)\s#]*)(?:#([^)\s]+))?\)")


def slug(heading: str) -> str:
    """As GitHub makes it of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_what_is_there(page):
    """To a file of the checkout, and to a heading that is in it."""
    for path, anchor in LINK.findall(prose(PAGES[page])):
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), path
        if anchor:
            headings = re.findall(r"^#+ (.*)$", prose(target.read_text(encoding="utf-8")), re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, anchor


def test_every_page_can_be_reached_from_the_readme():
    reached, pending = set(), ["README.md"]
    while pending:
        page = pending.pop()
        if page in PAGES and page not in reached:
            reached.add(page)
            found = [((ROOT / page).parent / path).resolve() for path, _ in LINK.findall(PAGES[page]) if path]
            pending += [str(path.relative_to(ROOT)) for path in found]
    assert reached == set(PAGES)
