"""For all tests."""

from __future__ import annotations

from hypothesis import settings

# A busy machine is not a bug: no test fails for the time it took.
settings.register_profile("driftline", deadline=None)
settings.load_profile("driftline")
