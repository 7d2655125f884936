"""Which quality signals are computed."""

from __future__ import annotations

from driftline.settings import Settings


class QualitySettings(Settings, frozen=True):
    """Each signal can be switched off."""

    refusal: bool = True
    json_invalid: bool = True
    truncated: bool = True
    empty: bool = True
