"""Sentences of incidents: their figures can be told apart."""

from hypothesis import given
from hypothesis import strategies as st

from driftline.drift.explain import _figures

figures = st.floats(1e-6, 1e6)


@given(figures, st.one_of(st.floats(1e-12, 1e-2), st.floats(1e-2, 10)))
def test_a_value_never_reads_as_its_threshold(threshold, above):
    """Or the sentence would say that what alarmed was allowed."""
    value = threshold * (1 + above)
    first, second = _figures(value, threshold)
    assert float(first.replace(",", "")) > float(second.replace(",", ""))
