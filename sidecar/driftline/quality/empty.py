"""Did the model answer with nothing?"""

from __future__ import annotations

from driftline.call import Call, OutputMessage


class EmptySignal:
    """True where any choice has neither text nor tool calls: reasoning alone is no answer.

    Calls that failed do not count, nor do those whose record was cut.
    """

    name = "empty"

    def score(self, call: Call) -> bool | None:
        if call.error_type or call.truncated_record or not call.output_messages:
            return None
        return any(_is_empty(message) for message in call.output_messages)


def _is_empty(message: OutputMessage) -> bool:
    return not message.tool_calls and not message.text.strip()
