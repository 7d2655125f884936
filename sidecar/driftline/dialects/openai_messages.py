"""Messages of the OpenAI APIs, as the conventions' messages."""

from __future__ import annotations

import msgspec

from driftline.call import (
    BlobPart,
    FilePart,
    Message,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolCallResponsePart,
    UriPart,
)


class _Url(msgspec.Struct):
    url: str | None = None


class _Audio(msgspec.Struct):
    data: str | None = None
    format: str | None = None


class _File(msgspec.Struct):
    file_id: str | None = None
    file_data: str | None = None


class WirePart(msgspec.Struct):
    type: str | None = None
    text: str | None = None
    refusal: str | None = None
    image_url: _Url | str | None = None
    audio_url: _Url | str | None = None
    video_url: _Url | str | None = None
    input_audio: _Audio | None = None
    file: _File | None = None
    file_id: str | None = None
    file_data: str | None = None


class CalledFunction(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    id: str | None = None
    function: CalledFunction | None = None


class WireMessage(msgspec.Struct):
    role: str | None = None
    content: str | list[WirePart | str] | None = None
    name: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_call_id: str | None = None


def input_message(message: WireMessage) -> Message:
    role = message.role or "user"
    if role == "tool":
        answer = ToolCallResponsePart(message.tool_call_id, plain_text(message.content))
        return Message(role, [answer], message.name)
    return Message(role, message_parts(message), message.name)


def message_parts(message: WireMessage) -> list[Part]:
    parts: list[Part] = []
    if reasoning := message.reasoning or message.reasoning_content:
        parts.append(ReasoningPart(reasoning))
    if isinstance(message.content, str):
        if message.content:
            parts.append(TextPart(message.content))
    else:
        parts += [part for wire in message.content or () if (part := content_part(wire)) is not None]
    if message.refusal:
        parts.append(TextPart(message.refusal))
    for call in message.tool_calls or ():
        function = call.function or CalledFunction()
        parts.append(ToolCallPart(call.id, function.name or "", function.arguments or ""))
    return parts


def plain_text(content: str | list[WirePart | str] | None) -> str | None:
    """The text of a tool's answer."""
    if isinstance(content, list):
        return "".join([part if isinstance(part, str) else part.text or "" for part in content])
    return content


def content_part(wire: WirePart | str) -> Part | None:
    """None: of a kind that says nothing here."""
    text = wire if isinstance(wire, str) else wire.refusal if wire.text is None else wire.text
    if text is not None:
        return TextPart(text)
    return _media_part(wire) if isinstance(wire, WirePart) else None


def _media_part(wire: WirePart) -> Part | None:
    for modality in ("image", "audio", "video"):
        if (url := getattr(wire, f"{modality}_url")) is not None:
            return _media(modality, url if isinstance(url, str) else url.url or "")
    if wire.input_audio is not None:
        form = wire.input_audio.format
        return BlobPart("audio", wire.input_audio.data or "", f"audio/{form}" if form else None)
    file = wire.file or wire
    if file.file_id is not None:
        return FilePart("document", file.file_id)
    return None if file.file_data is None else _media("document", file.file_data)


def _media(modality: str, url: str) -> Part:
    header, comma, data = url.partition(",")
    if header.startswith("data:") and header.endswith(";base64") and comma:
        return BlobPart(modality, data, header[5:-7] or None)
    return UriPart(modality, url)
