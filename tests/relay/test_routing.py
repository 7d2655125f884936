"""Where a request goes, decided without a socket."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftline.relay.routing import Balancer, Member, Table, model_in
from driftline.relay.settings import Endpoint, Pool, Route

KEYS = [f"session-{i}".encode() for i in range(4000)]


@dataclasses.dataclass(eq=False)
class Server:
    name: str
    healthy: bool = True
    outstanding: int = 0


def balancer(**weights):
    """One server per variant, called after it."""
    return Balancer("p", [Member(Server(name), weight, name) for name, weight in weights.items()])


def placed(who, keys=KEYS):
    """The variant of each session."""
    return {key: next(who.candidates(key))[0] for key in keys}


def names(who, key=b"k", forced=""):
    """Servers in the order in which they would be asked."""
    return [server.name for _, server in who.candidates(key, forced)]


def pool(name, *models):
    return Pool(name=name, models=list(models), endpoints=[Endpoint(url=f"http://{name}")])


# Shares


weights = st.lists(st.floats(0.05, 100), min_size=2, max_size=5)


@given(weights)
def test_a_variant_gets_the_share_of_sessions_that_its_weight_says(given_weights):
    """Within five standard deviations of a binomial count, for any weights."""
    variants = {f"v{i}": weight for i, weight in enumerate(given_weights)}
    seen = Counter(placed(balancer(**variants)).values())
    for name, weight in variants.items():
        share = weight / sum(given_weights)
        deviation = math.sqrt(len(KEYS) * share * (1 - share))
        assert abs(seen[name] - len(KEYS) * share) <= 5 * deviation + 1


def test_the_weights_of_a_variants_endpoints_add_up():
    """Two endpoints of 1 are a variant of 2."""
    members = [Member(Server(url), 1.0, url[0]) for url in ("a1", "a2", "b1")]
    seen = Counter(placed(Balancer("p", members)).values())
    assert 0.64 < seen["a"] / len(KEYS) < 0.70


def test_a_session_stays_where_it_is():
    """On every relay and every sidecar of a fleet, and after a restart or an upgrade: only names go into it."""
    assert placed(balancer(stable=9.0, canary=1.0)) == placed(balancer(canary=1.0, stable=9.0))
    first = placed(balancer(stable=9.0, canary=1.0), KEYS[:40])
    assert [key for key in first if first[key] == "canary"] == [b"session-%d" % i for i in (0, 4, 24, 29, 39)]


def test_two_pools_divide_the_same_sessions_independently():
    """Else the canary of one would always be met with the canary of the other."""
    members = [Member(Server(name), 1.0, name) for name in ("stable", "canary")]
    one, other = placed(Balancer("one", members)), placed(Balancer("other", members))
    assert 0.45 < sum(one[key] == other[key] for key in KEYS) / len(KEYS) < 0.55


@given(weights, st.integers(0, 4), st.floats(0, 200))
def test_a_changed_weight_moves_only_the_sessions_that_it_must(given_weights, changed, weight):
    """A variant that is raised takes from the others, one that is lowered gives; between the others nobody moves."""
    changed %= len(given_weights)
    before = placed(balancer(**{f"v{i}": weight for i, weight in enumerate(given_weights)}), KEYS[:500])
    after = placed(
        balancer(**{f"v{i}": weight if i == changed else old for i, old in enumerate(given_weights)}),
        KEYS[:500],
    )
    moved = [(before[key], after[key]) for key in before if before[key] != after[key]]
    raised = weight > given_weights[changed]
    assert {(to if raised else of) for of, to in moved} <= {f"v{changed}"}


# Health and failure


def test_the_sessions_of_a_dead_variant_move_and_no_others():
    who = balancer(a=1.0, b=1.0, c=1.0)
    before = placed(who)
    who.variants["b"].members[0].server.healthy = False
    after = placed(who)
    assert {before[key] for key in KEYS if before[key] != after[key]} == {"b"}
    assert "b" not in after.values()
    assert {after[key] for key in KEYS if before[key] == "b"} == {"a", "c"}


def test_where_everything_is_down_all_is_as_if_everything_were_up():
    """A health check may be wrong; and sessions do not wander meanwhile."""
    who = balancer(a=1.0, b=2.0)
    before = placed(who)
    for variant in who.variants.values():
        variant.members[0].server.healthy = False
    assert placed(who) == before


def test_the_same_variant_is_tried_before_others():
    """A refused connection moves a request to another server of its variant, and only then elsewhere."""
    members = [Member(Server(f"{variant}{i}"), 1.0, variant) for variant in "ab" for i in range(3)]
    who = Balancer("p", members)
    for key in KEYS[:50]:
        order = [name[0] for name in names(who, key)]
        assert order in (["a"] * 3 + ["b"] * 3, ["b"] * 3 + ["a"] * 3)


def test_a_healthy_server_of_another_variant_goes_before_a_dead_one_of_the_same():
    """To try the dead one costs up to `timeouts.connect`."""
    members = [
        Member(Server("a0"), 2.0, "a"),
        Member(Server("a1", healthy=False), 2.0, "a"),
        Member(Server("b0"), 1.0, "b"),
    ]
    key = next(key for key, name in placed(Balancer("p", members)).items() if name == "a")
    assert names(Balancer("p", members), key) == ["a0", "b0", "a1"]


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from([0.0, 1.0, 5.0]), st.booleans(), st.integers(0, 3)),
        max_size=8,
    )
)
def test_every_server_with_a_weight_is_asked_once_and_no_other(places):
    servers = [Server(str(i), healthy, busy) for i, (_, _, healthy, busy) in enumerate(places)]
    who = Balancer(
        "p", [Member(s, weight, variant) for s, (variant, weight, _, _) in zip(servers, places, strict=True)]
    )
    weighted = [s.name for s, (_, weight, _, _) in zip(servers, places, strict=True) if weight]
    assert sorted(names(who)) == sorted(weighted)


# Weight 0 and force


def test_a_weight_of_0_takes_nothing_even_when_all_others_are_down():
    """It was set to 0 because it must not be used: a bad canary is no spare."""
    who = balancer(stable=1.0, canary=0.0)
    who.variants["stable"].members[0].server.healthy = False
    assert names(who) == ["stable"]
    assert not who.splits


def test_a_forced_variant_is_taken_whatever_its_weight_and_health_and_alone():
    who = balancer(stable=1.0, canary=0.0)
    who.variants["canary"].members[0].server.healthy = False
    assert names(who, forced="canary") == ["canary"]


def test_a_server_of_weight_0_in_a_variant_is_left_out_of_it():
    members = [Member(Server("a0"), 1.0, "a"), Member(Server("a1"), 0.0, "a")]
    assert names(Balancer("p", members), forced="a") == names(Balancer("p", members)) == ["a0"]


# Load


def test_the_server_with_the_fewest_requests_in_flight_for_its_weight_is_asked():
    """30 requests, none of which ends, are spread 2 : 1."""
    servers = [Server("large"), Server("small")]
    who = Balancer("p", [Member(servers[0], 2.0, ""), Member(servers[1], 1.0, "")])
    for _ in range(30):
        next(who.candidates(b""))[1].outstanding += 1
    assert [server.outstanding for server in servers] == [20, 10]


def test_a_tie_falls_by_chance():
    """Relays that see only their own requests would otherwise all begin with the first server."""
    members = [Member(Server(str(i)), 1.0, "") for i in range(3)]
    who = Balancer("p", members)
    assert {next(who.candidates(b""))[1].name for _ in range(200)} == {"0", "1", "2"}


def test_a_server_that_is_down_is_asked_last():
    members = [
        Member(Server("down", healthy=False), 1.0, ""),
        Member(Server("busy", outstanding=99), 1.0, ""),
    ]
    assert names(Balancer("p", members)) == ["busy", "down"]


def test_health_is_looked_at_when_the_next_server_is_needed():
    """Not when the first was: between the two, a connection took its time to fail."""
    servers = [Server(str(i)) for i in range(3)]
    order = Balancer("p", [Member(server, 1.0, "") for server in servers]).candidates(b"")
    first = next(order)[1]
    down, up = (server for server in servers if server is not first)
    down.healthy = False
    assert [server.name for _, server in islice(order, 2)] == [up.name, down.name]


# Paths and models


ROUTES = [
    Route(prefix="/v1/audio", pool="speech"),
    Route(prefix="/v1/audio/speech/", pool="voice"),
    Route(prefix="/raw", kind="none"),
]


@pytest.mark.parametrize(
    ("path", "prefix"),
    [
        ("/v1/audio", "/v1/audio"),
        ("/v1/audio/transcriptions", "/v1/audio"),
        ("/v1/audio/speech", "/v1/audio/speech/"),
        ("/v1/audio/speech/x", "/v1/audio/speech/"),
        ("/v1/audio/speechless", "/v1/audio"),
        ("/v1/audiox", None),
        ("/v1", None),
        ("/", None),
        ("*", None),
        ("/x/v1/audio", None),
    ],
)  # fmt: skip
def test_the_route_with_the_longest_prefix_in_whole_segments_counts(path, prefix):
    for routes in (ROUTES, ROUTES[::-1]):
        route = Table([pool("speech"), pool("voice")], routes).route(path)
        assert (route and route.prefix) == prefix


def test_a_prefix_of_a_slash_is_every_path():
    table = Table([pool("a")], [Route(prefix="/", pool="a")])
    assert [bool(table.route(path)) for path in ("/", "/x", "*")] == [True, True, False]


@pytest.mark.parametrize(
    ("model", "serves"),
    [
        ("llama", "a"),
        ("qwen/7b", "b"),
        ("qwen/72b", "c"),
        ("qwen", "rest"),
        ("QWEN/7B", "rest"),
        ("x[1]", "c"),
        ("", "rest"),
    ],
)
def test_a_model_is_served_by_the_pool_that_lists_it(model, serves):
    """Its very name goes before a pattern; `*` is the only character with a meaning; the rest is the default pool's."""
    pools = [pool("rest"), pool("a", "llama"), pool("b", "qwen/*"), pool("c", "qwen/72b", "x[1]*")]
    assert Table(pools, []).serving(model) == serves


def test_without_a_default_pool_an_unknown_model_is_served_by_none():
    assert Table([pool("a", "llama")], []).serving("qwen") == ""


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (b'{"messages":[{"model":"inner"}],"model":"m","n":1}', "m"),
        (b'{"m\\u006fdel":"m"}', "m"),
        (b'{"model":"first","model":"last"}', "last"),
        (b'{"model":7}', ""),
        (b'{"model":null}', ""),
        (b'["model"]', ""),
        (b"[" * 100_000, ""),
        (b"", ""),
        (b'{"model":"\xff"}', ""),
    ],
    ids=range(9),
)
def test_the_model_is_the_top_level_key(body, model):
    """And what JSON parsers make of it: the last of two, escapes read."""
    assert model_in(body) == model


def test_no_cut_of_a_body_is_worse_than_no_model():
    body = b'{"messages": [{"content": "\\u00e9 \xc3\xa9"}], "model": "m"}'
    assert {model_in(body[:end]) for end in range(len(body))} == {""}


@given(st.binary(max_size=60))
def test_no_bytes_raise(body):
    assert isinstance(model_in(body), str)
