"""Did the reply stop because it reached its length limit?"""

from __future__ import annotations

from driftline.call import Call


class TruncatedSignal:
    """True where any choice ended by `length`. A reply that has no finish reason does not count."""

    name = "truncated"

    def score(self, call: Call) -> bool | None:
        reasons = call.finish_reasons
        return "length" in reasons if reasons else None
