"""Bodies are kept whole, or by their ends."""

from hypothesis import given
from hypothesis import strategies as st

from driftline.relay import keeper
from driftline.relay.keeper import PART, WHOLE, BodyKeeper

sizes = st.lists(st.integers(0, WHOLE // 2), max_size=8)


@given(sizes)
def test_the_first_and_the_last_bytes_are_kept(pieces):
    """Up to 256 KiB nothing is lost; beyond, exactly the first and the last 128 KiB remain."""
    kept, everything = BodyKeeper(), b""
    for number, size in enumerate(pieces):
        piece = bytes([number + 1]) * size
        kept.append(piece)
        everything += piece
    body = kept.body()
    assert body.size == len(everything)
    if len(everything) <= WHOLE:
        assert (body.head, body.tail, body.whole) == (everything, b"", True)
    else:
        assert (body.head, body.tail, body.whole) == (everything[:PART], everything[-PART:], False)
    assert everything.endswith(kept.end())
    assert len(kept.end()) >= min(64, len(everything))


def test_memory_stays_bounded_however_long_the_stream():
    kept = BodyKeeper()
    for _ in range(20_000):
        kept.append(bytes(1000))
    assert kept._last_size < PART + 1000
    assert not kept.pieces
    assert keeper.PART * 2 == keeper.WHOLE
