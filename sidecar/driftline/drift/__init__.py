"""Drift detection for model traffic: numbers in, verdicts out.

Nothing here reads a clock, opens a socket or knows what a request is; `store` alone touches files. Time is passed
in, so a recording is replayed by the code that watches live traffic.

>>> from driftline.drift.detector import Detector
>>> from driftline.drift.settings import DriftSettings
>>> from driftline.drift.observation import Observation
>>> settings = DriftSettings(slot="1s", scales=("1s", "10s"), learn="20s", features=("input_tokens",))
>>> detector = Detector(settings, 0.0)
>>> def call(second, i, tokens):
...     values = {"input_tokens": tokens}
...     return Observation(second + i / 100, "llama", "", "acme", f"{second:028x}{i:04x}", values)
>>> for second in range(40):
...     for i in range(100):
...         shift = 3 if second >= 30 else 1
...         detector.observe(call(second, i, (100 + 7 * i) * shift))
...     for event in detector.tick(second + 1.0):
...         print(second + 1, event.kind, event.incident.severity, event.incident.explanation)
31 opened ticket input_tokens of llama moved over 1s (100 calls): above 724 tokens went from 10.0% to 79.0% and \
up to 165 tokens went from 10.0% to 0.0%; PSI is 2.47 where 0.82 is allowed.
>>> [(verdict.scale, verdict.state.name, verdict.samples) for verdict in detector.verdicts()]
[('1s', 'DRIFTING', 100), ('10s', 'DRIFTING', 1000)]

The path of a call: `Detector.observe` counts it in its series' `Tally` (cells that never move: `bins`). When a slot
ends, its counts go to every feature's `Learner`, or to its `Watch` once it has a `Reference`. A watch sums slots
into windows (`window`), compares them with the reference (`statistics`), asks what is too far (`laws`, `dispersion`,
`plan` for the budget of false pages; `rate` for rising rates), and latches an `Incident` with its explanation.

A new feature is one declaration in `features`, and one line where values are read from calls.
"""
