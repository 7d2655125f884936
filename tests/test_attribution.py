"""Who asked is read from baggage and headers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.attribution import attribution
from driftline.call import Attribution


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], Attribution()),
        ([("x-driftline-team", "search"), ("x-driftline-user", "u")], Attribution(team="search", user="u")),
        ([("x-driftline-team", "header"), ("baggage", "driftline.team=baggage")], Attribution(team="baggage")),
        ([("baggage", "driftline.team=a"), ("baggage", "driftline.team=b, user.id=u")], Attribution(team="a", user="u")),
        ([("baggage", " driftline.product = my%20app%2C%20v2 ; ttl=5 , other=1")], Attribution(product="my app, v2")),
        ([("baggage", "session.id=s,gen_ai.conversation.id=c,langfuse.user.id=u")], Attribution(session="s", conversation="c", user="u")),
        ([("baggage", "driftline.team,=,driftline.feature=")], Attribution()),
        ([("x-driftline-team", "\xc3\xa9quipe")], Attribution(team="équipe")),
        ([("x-driftline-team", "x" * 300)], Attribution(team="x" * 200)),
        ([("x-driftline-variant", "canary"), ("x-driftline-capture", "true")], Attribution()),
    ],
)  # fmt: skip
def test_who_asked(headers, expected):
    """Baggage goes before headers; values are decoded and cut; what is not ours is left alone."""
    assert Attribution(**attribution(headers)) == expected


@given(
    st.lists(
        st.tuples(st.sampled_from(["baggage", "x-driftline-team"]), st.text(st.characters(max_codepoint=255)))
    )
)
def test_no_header_raises(headers):
    """Any Latin-1 value is read, and short."""
    assert len(attribution(headers).get("team", "")) <= 200
