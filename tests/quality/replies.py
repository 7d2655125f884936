"""Calls with a given reply."""

from __future__ import annotations

from typing import Any

from driftline.call import Call, OutputMessage, Part, TextPart
from tests.dialects.exchanges import exchange


def replied(*choices: str | list[Part], finish: str | None = "stop", **fields: Any) -> Call:
    outputs = [
        OutputMessage(
            "assistant", choice if isinstance(choice, list) else [TextPart(choice)] if choice else [], finish
        )
        for choice in choices
    ]
    return Call(exchange(), "openai_chat", **({"operation": "chat", "output_messages": outputs} | fields))
