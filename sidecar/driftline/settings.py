"""The base of every settings struct: frozen, named fields only, unknown keys refused."""

from __future__ import annotations

from typing import Annotated

import msgspec

Seconds = Annotated[float, msgspec.Meta(ge=0, le=86_400.0 * 365)]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Values are checked where they are defined: by type, by `msgspec.Meta`, or in `__post_init__`.

    A `ValueError` says the value and the fix; `config` adds the key and the line.
    """
