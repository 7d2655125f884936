"""W3C Baggage (https://www.w3.org/TR/baggage/), as far as it is read here."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import unquote


def members(field: str) -> Iterator[tuple[str, str]]:
    """Keys and percent-decoded values of one `baggage` field, in order, without properties.

    What is no member is left out.

    >>> list(members("session.id = 42%2C7 ;ttl=5, nonsense, user.id=ada"))
    [('session.id', '42,7'), ('user.id', 'ada')]
    """
    for member in field.split(","):
        key, equals, rest = member.partition("=")
        if equals:
            yield key.strip(), unquote(rest.partition(";")[0].strip())
