"""What a changed configuration means for processes that run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from driftline.config import Config, masked
from driftline.relay.settings import DataPlane

_RELAYS = frozenset(DataPlane.__struct_fields__)
"""Parts that relays take while they run. All others are the observer's, which is replaced."""


class Reload(NamedTuple):
    """`plan` explains."""

    config: Config
    changed: list[str]
    held_back: list[str]
    observer: bool


def plan(old: Config, new: Config) -> Reload:
    """How to get from `old` to `new` without a restart: the configuration that is in force then, which keys change in
    it (`limits.body_bytes: 0 -> 1024`, secrets masked), which cannot be changed, and whether the observer is concerned.

    Raises `ValueError` where what cannot be changed does not go together with the rest.
    """
    admin = msgspec.structs.replace(new.admin, listen=old.admin.listen)
    config = msgspec.structs.replace(
        new, listen=old.listen, relays=old.relays, state_dir=old.state_dir, admin=admin
    )
    changed = list(_differences(old, config))
    return Reload(
        config,
        changed=[text for _, text in changed],
        held_back=[text for _, text in _differences(config, new)],
        observer=any(part not in _RELAYS for part, _ in changed),
    )


def _differences(old: Config, new: Config) -> Iterator[tuple[str, str]]:
    """The part of the configuration, and what to say, of every key that differs."""
    before, after = dict(_leaves("", msgspec.to_builtins(old))), dict(_leaves("", msgspec.to_builtins(new)))
    shown_before, shown_after = dict(_leaves("", masked(old))), dict(_leaves("", masked(new)))
    for key in [*before, *(key for key in after if key not in before)]:
        if before.get(key, _Unset) != after.get(key, _Unset):
            part = key.partition(".")[0].partition("[")[0]
            yield part, f"{key}: {_shown(shown_before, key)} -> {_shown(shown_after, key)}"


class _Unset:
    """Equal to no value."""


def _shown(values: dict[str, Any], key: str) -> str:
    return json.dumps(values[key], ensure_ascii=False) if key in values else "unset"


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Each value below `path`, by its own: `pools[0].endpoints[1].url`."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(f"{path}.{key}" if path else key, inner)
    elif isinstance(value, list) and value:
        for i, inner in enumerate(value):
            yield from _leaves(f"{path}[{i}]", inner)
    else:
        yield path, value
