"""Keep a body: whole up to 256 KiB, beyond that its first and last 128 KiB."""

from __future__ import annotations

from collections import deque

from driftline.exchange import Body

WHOLE = 256 * 1024
PART = WHOLE // 2


class BodyKeeper:
    """Append-only. Memory is bounded by `WHOLE` plus one piece."""

    __slots__ = ("_head", "_last", "_last_size", "pieces", "size")

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.size = 0
        self._head: bytes | None = None
        self._last: deque[bytes] = deque()
        self._last_size = 0

    def append(self, piece: bytes) -> None:
        self.size += len(piece)
        if self.size <= WHOLE:
            self.pieces.append(piece)
        else:
            self.overflow(piece)

    def overflow(self, piece: bytes) -> None:
        """Keep `piece`, already counted in `size`, which is above `WHOLE`."""
        if self._head is None:
            kept = b"".join([*self.pieces, piece])
            self.pieces = []
            self._head = kept[:PART]
            piece = kept[PART:]
        if len(piece) > PART:
            piece = piece[-PART:]
        self._last.append(piece)
        self._last_size += len(piece)
        while self._last_size - len(self._last[0]) >= PART:
            self._last_size -= len(self._last.popleft())

    def end(self, size: int = 64) -> bytes:
        """The last bytes, from the last pieces: at least `size` of them unless they are fewer."""
        pieces = self._last or self.pieces
        kept: list[bytes] = []
        for piece in reversed(pieces):
            kept.insert(0, piece)
            size -= len(piece)
            if size <= 0:
                break
        return b"".join(kept)

    def body(self) -> Body:
        if self._head is None:
            return Body(head=b"".join(self.pieces), size=self.size)
        return Body(head=self._head, tail=b"".join(self._last)[-PART:], size=self.size)
