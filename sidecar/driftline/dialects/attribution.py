"""Who asked: W3C baggage first, then `x-driftline-*` headers."""

from __future__ import annotations

from urllib.parse import unquote

from driftline.call import Attribution

LONGEST = 200
"""Characters kept of a value."""

_BAGGAGE = {
    "driftline.team": "team",
    "driftline.product": "product",
    "driftline.feature": "feature",
    "session.id": "session",
    "user.id": "user",
    "gen_ai.conversation.id": "conversation",
    "langfuse.session.id": "session",
    "langfuse.user.id": "user",
}
_HEADERS = {
    "x-driftline-team": "team",
    "x-driftline-product": "product",
    "x-driftline-feature": "feature",
    "x-driftline-session": "session",
    "x-driftline-user": "user",
}


def attribution(headers: list[tuple[str, str]]) -> Attribution:
    """From request headers, names in lower case, values as HTTP carries them (Latin-1).

    Baggage is trusted over headers, the first value of a key over later ones.

    >>> attribution([("baggage", "driftline.team=r%26d;ttl=5"), ("x-driftline-team", "web")]).team
    'r&d'
    """
    found: dict[str, str] = {}
    for name, value in headers:
        if name == "baggage":
            _read_baggage(value, found)
    for name, value in headers:
        if name in _HEADERS:
            _keep(found, _HEADERS[name], value.encode("latin-1", "replace").decode("utf-8", "replace"))
    return Attribution(**found)


def _read_baggage(value: str, found: dict[str, str]) -> None:
    for member in value.split(","):
        key, equals, rest = member.partition("=")
        if equals and (field := _BAGGAGE.get(key.strip())):
            _keep(found, field, unquote(rest.partition(";")[0]))


def _keep(found: dict[str, str], field: str, value: str) -> None:
    if value := value.strip()[:LONGEST]:
        found.setdefault(field, value)
