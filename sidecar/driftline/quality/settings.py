"""Which quality signals are computed."""

from __future__ import annotations

from driftline.settings import Settings


class QualitySettings(Settings, frozen=True):
    """Each signal can be switched off."""

    refusal: bool = True
    """Does the reply decline the task? `full`, `partial`, `none`."""
    json_invalid: bool = True
    """Does a reply that should be JSON, or a tool call, hold? `valid`, or what is wrong."""
    truncated: bool = True
    """Did it stop because it reached its length limit?"""
    empty: bool = True
    """Is there neither text nor a tool call?"""
