"""Who asked: W3C baggage first, then `x-driftline-*` headers."""

from __future__ import annotations

from driftline import baggage

LONGEST = 200
"""Characters kept of a value."""

BAGGAGE = {
    "driftline.team": "team",
    "driftline.product": "product",
    "driftline.feature": "feature",
    "session.id": "session",
    "user.id": "user",
    "gen_ai.conversation.id": "conversation",
    "langfuse.session.id": "session",
    "langfuse.user.id": "user",
}
HEADERS = {
    "x-driftline-team": "team",
    "x-driftline-product": "product",
    "x-driftline-feature": "feature",
    "x-driftline-session": "session",
    "x-driftline-user": "user",
}


def attribution(headers: list[tuple[str, str]]) -> dict[str, str]:
    """What request headers say of team, product, feature, session, user and conversation; what they do not, is absent.

    Names are in lower case, values as HTTP carries them (Latin-1). Baggage is trusted over headers, the first value
    of a key over later ones.

    >>> attribution([("baggage", "driftline.team=r%26d;ttl=5"), ("x-driftline-team", "web")])
    {'team': 'r&d'}
    """
    found: dict[str, str] = {}
    for name, value in headers:
        if name == "baggage":
            for key, said in baggage.members(value):
                if key in BAGGAGE:
                    _keep(found, BAGGAGE[key], said)
    for name, value in headers:
        if name in HEADERS:
            _keep(found, HEADERS[name], value.encode("latin-1", "replace").decode("utf-8", "replace"))
    return found


def _keep(found: dict[str, str], field: str, value: str) -> None:
    if value := value.strip()[:LONGEST]:
        found.setdefault(field, value)
