"""What an operator gets for a configuration, good or bad."""

from __future__ import annotations

import pytest
import trustme
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from driftline.cli import main
from driftline.config import Config, ConfigError, Endpoint, load, masked, upstream_flag

UPSTREAM = {"pools": [{"endpoints": [{"url": "http://127.0.0.1:8000"}]}]}


def refused(tmp_path, text, environ=None):
    """The error for a file of this text, without the file's folder."""
    path = tmp_path / "d.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load(path, environ or {})
    return str(error.value).replace(f"{tmp_path}/", "")


def test_no_file_is_a_configuration_of_defaults():
    assert load(None, {}) == Config()


BAD = {
    "listne: x": "d.yaml:1: listne: is not a key; did you mean listen?",
    "drift:\n  slott: 5m": "d.yaml:2: drift.slott: is not a key; did you mean slot?",
    "admin:\n  tokn: x": "d.yaml:2: admin.tokn: is not a key; did you mean token?",
    "listen: 8080": "d.yaml:1: listen: 8080 is not text: put it in quotes",
    "relays: 0": "d.yaml:1: relays: 0 is too small: at least 1",
    "limits:": "d.yaml:1: limits: nothing is not a mapping: write key: value",
    "limits:\n  body_bytes: 16MB": "d.yaml:2: limits.body_bytes: '16MB' is not a whole number",
    "timeouts:\n  idle: 30s": "d.yaml:2: timeouts.idle: '30s' is not a number",
    "relay:\n  trace_header: maybe": "d.yaml:2: relay.trace_header: 'maybe' is not true or false",
    "pools:\n  endpoints: []": "d.yaml:1: pools: a mapping is not a list: write [a, b]",
    "pools:\n- models: [a, 1]": "d.yaml:2: pools[0].models[1]: 1 is not text: put it in quotes",
    "exporters:\n- headers: {x-tenant: 1}": "d.yaml:2: exporters[0].headers[...]: Expected `str`, got `int`",
    "admin:\n  token: 12345": "d.yaml:2: admin.token: '********' is not text: put it in quotes",
    "tls:\n  key: k.pem": "d.yaml:1: tls.certificate: is missing",
    "relays: 2\nlisten: nowhere": "d.yaml:2: listen: 'nowhere' is not an address to listen on: write host:port",
    "listen: a\nlisten: b": "d.yaml:2: listen is there twice; keep one",
    "listen: [": "d.yaml:1: not YAML: ",
    "- a": "d.yaml:1: a configuration is a mapping of keys such as `listen: 127.0.0.1:8080`",
    "admin:\n  listen: 0.0.0.0:9464": "d.yaml:1: admin: listen is 0.0.0.0:9464, which other machines can reach, "
    "and there is no token: set admin.token (or DRIFTLINE_ADMIN__TOKEN), or listen on 127.0.0.1",
    "pools:\n- endpoints:\n  - url: localhost:8000": "d.yaml:3: pools[0].endpoints[0]: 'localhost:8000' is not an "
    "upstream: write http://host:port or https://host:port",
    "pools:\n- endpoints:\n  - url: http://h/v1": "d.yaml:3: pools[0].endpoints[0]: 'http://h/v1' has a path; every "
    "path a client asks for is passed on as it is, so write http://h",
    "pools:\n- endpoints: []": "d.yaml:2: pools[0]: pool 'default' has no endpoints: name at least one "
    "{url: http://host:port}",
    "pools:\n- endpoints:\n  - url: unix:vllm.sock": "d.yaml:3: pools[0].endpoints[0]: 'unix:vllm.sock' is not an upstream: "
    "write unix:/path/of/the.sock",
    "pools:\n- endpoints:\n  - url: unix:/"
    + "x" * 107: f"d.yaml:3: pools[0].endpoints[0]: 'unix:/{'x' * 107}': a "
    "socket's path has at most 107 bytes; use a shorter one",
    "pools:\n- endpoints:\n  - {url: 'http://h', weight: -1}": "d.yaml:3: pools[0].endpoints[0]: weight is -1; it goes "
    "from 0 to 1000000",
    "pools:\n- endpoints:\n  - {url: 'http://h', weight: .nan}": "d.yaml:3: pools[0].endpoints[0]: weight is nan; it goes "
    "from 0 to 1000000",
    "pools:\n- endpoints:\n  - {url: 'http://h', weight: 0}": "d.yaml:2: pools[0]: every weight of pool 'default' is 0, so "
    "nothing would serve: raise one",
    "pools:\n- endpoints:\n  - {url: 'http://h', tls: {ca: ca.pem}}": "d.yaml:3: pools[0].endpoints[0]: tls is for https:// "
    "endpoints: write https:// in 'http://h', or leave tls out",
    'pools:\n- endpoints:\n  - url: https://h\n    tls: {server_name: "a\\0b"}': "d.yaml:4: pools[0].endpoints[0].tls: "
    "server_name is 'a\\x00b', which is no name: write one such as vllm.local",
    "pools:\n- endpoints:\n  - url: https://h\n    tls: {key: k.pem}": "d.yaml:4: pools[0].endpoints[0].tls: key is k.pem, but "
    "there is no certificate: name its file, or leave key out",
    "pools:\n- endpoints:\n  - url: https://h\n    tls:\n      ca: absent.pem": "d.yaml:4: pools[0].endpoints[0].tls: ca is "
    "absent.pem: No such file or directory",
    "pools:\n- endpoints:\n  - {url: 'http://a', variant: canary}\n  - {url: 'http://b'}": "d.yaml:2: pools[0]: http://b has no "
    "variant, others have: name it too, stable for example",
    "pools:\n- sticky: [team]\n  endpoints: [{url: 'http://a'}]": "d.yaml:2: pools[0].sticky[0]: 'team' is not one of session, "
    "conversation, user",
    "pools:\n- endpoints: [{url: 'http://a'}]\n- endpoints: [{url: 'http://b'}]\n  models: [m]": "d.yaml:3: pools[1].name: "
    "another pool is called 'default' too: give each a name of its own",
    "pools:\n- {name: a, models: [m], endpoints: [{url: 'http://a'}]}\n- {name: b, models: [n, m], endpoints: [{url: "
    "'http://b'}]}": "d.yaml:3: pools[1].models: 'm' is listed in pool 'a' too: keep one",
    "pools:\n- {name: a, endpoints: [{url: 'http://a'}]}\n- {name: b, endpoints: [{url: 'http://b'}]}": "d.yaml:3: pools[1]: "
    "pool 'b' is never used, another one is the default: list its models, or route to it",
    "pools:\n- {name: a, endpoints: [{url: 'http://a'}]}\n- {name: b, models: [m], endpoints: [{url: 'http://b'}]}\nroutes:\n- "
    "{prefix: /, pool: b}": "d.yaml:2: pools[0]: the route / leads everything past pool 'a': route to it, or leave it out",
    "pools:\n- {name: a, endpoints: [{url: 'http://a'}]}\nroutes:\n- prefix: /v1\n  pool: b": "d.yaml:5: routes[0].pool: there is "
    "no pool 'b'; there is a",
    "pools:\n- endpoints: [{url: 'http://a'}]\nroutes:\n- prefix: /v1\n- prefix: /v1/": "d.yaml:5: routes[1].prefix: '/v1/' is "
    "the prefix of another route too: keep one",
    "routes:\n- prefix: v1": "d.yaml:2: routes[0]: prefix 'v1' is not the beginning of a path: write /v1",
    "pools:\n- endpoints: [{url: 'http://localhost:8080'}]": "d.yaml:2: pools[0].endpoints[0].url: http://localhost:8080 is "
    "where this sidecar listens: name the server behind it",
    "listen: :8000\npools:\n- endpoints:\n  - url: http://127.0.0.1:8000": "d.yaml:4: pools[0].endpoints[0].url: "
    "http://127.0.0.1:8000 is where this sidecar listens: name the server behind it",
    "pools:\n- endpoints: [{url: 'http://a'}, {url: 'http://a'}]": "d.yaml:2: pools[0]: pool 'default' names http://a "
    "twice: keep one",
    "routes:\n- {prefix: /v1, kind: mpc}": "d.yaml:2: routes[0].kind: 'mpc' is not one of openai, none",
    "timeouts:\n  connect: -1": "d.yaml:2: timeouts.connect: -1 is too small: at least 0",
    "exporters:\n- preset: langfuse": "d.yaml:1: exporters: exporter preset langfuse needs LANGFUSE_PUBLIC_KEY: set "
    "it in the sidecar's environment",
}


@pytest.mark.parametrize("text", BAD)
def test_a_bad_file_is_refused_with_the_line_the_key_and_the_fix(tmp_path, text):
    assert refused(tmp_path, text).startswith(BAD[text])


def test_the_file_of_a_certificate_is_read_when_the_configuration_is(tmp_path):
    """Not when the first connection fails; one that is no certificate is named with its key."""
    (tmp_path / "ca.pem").write_text("no certificate")
    text = f"pools: [{{endpoints: [{{url: 'https://h', tls: {{ca: {tmp_path}/ca.pem}}}}]}}]"
    assert refused(tmp_path, text) == (
        "d.yaml:1: pools[0].endpoints[0].tls: ca is ca.pem, which holds no certificate: it wants a PEM file"
    )


def test_a_key_that_does_not_belong_to_its_certificate_is_refused(tmp_path):
    ca = trustme.CA()
    one, other = ca.issue_cert("one"), ca.issue_cert("other")
    one.cert_chain_pems[0].write_to_path(str(tmp_path / "one.pem"))
    other.private_key_pem.write_to_path(str(tmp_path / "other.key"))
    tls = f"{{certificate: {tmp_path}/one.pem, key: {tmp_path}/other.key}}"
    error = refused(tmp_path, f"pools: [{{endpoints: [{{url: 'https://h', tls: {tls}}}]}}]")
    assert error.startswith(
        "d.yaml:1: pools[0].endpoints[0].tls: key is other.key, which does not belong to the certificate in one.pem: "
    )


def test_an_upstream_can_be_a_unix_socket_or_have_an_ipv6_address():
    endpoints = [Endpoint(url=url) for url in ("unix:/run/vllm.sock", "http://[::1]:8000", "https://h")]
    assert [(endpoint.address, endpoint.authority, endpoint.secure) for endpoint in endpoints] == [
        ("/run/vllm.sock", "localhost", False),
        ("[::1]:8000", "[::1]:8000", False),
        ("h:443", "h", True),
    ]


def test_an_error_between_pools_and_routes_names_the_variable_they_come_from():
    environ = {"DRIFTLINE_ROUTES": "[{prefix: /v1, pool: a}]"}
    with pytest.raises(
        ConfigError, match=r"^DRIFTLINE_ROUTES: routes\[0\]\.pool: there is no pool 'a'; there is none$"
    ):
        load(None, environ)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"absent\.yaml: No such file or directory"):
        load(tmp_path / "absent.yaml", {})


def test_flags_go_before_variables_before_the_file(tmp_path):
    path = tmp_path / "d.yaml"
    path.write_text("listen: 127.0.0.1:1\nrelays: 2\nadmin: {listen: '127.0.0.1:2'}\n")
    environ = {"DRIFTLINE_RELAYS": "3", "DRIFTLINE_ADMIN__LISTEN": "[::1]:4"}
    config = load(path, environ, {"admin.listen": "127.0.0.1:5", "state_dir": None})
    assert (config.listen, config.relays, config.admin.listen) == ("127.0.0.1:1", 3, "127.0.0.1:5")
    assert load(path, environ).admin.listen == "[::1]:4"


def test_lists_and_numbers_can_be_set_by_variables():
    environ = {
        "DRIFTLINE_POOLS": "[{endpoints: [{url: 'http://127.0.0.1:8000'}]}]",
        "DRIFTLINE_TIMEOUTS__CONNECT": "1.5",
        "DRIFTLINE_DRIFT__FEATURES": "[input_tokens]",
    }
    config = load(None, environ)
    assert config.pools[0].endpoints[0].port == 8000
    assert config.timeouts.connect == 1.5
    assert config.drift.features == ("input_tokens",)


def test_an_error_of_a_variable_names_the_variable():
    with pytest.raises(
        ConfigError,
        match=r"DRIFTLINE_RELAY__INSPECT_BODY_BYTES: relay\.inspect_body_bytes: 'many' is not a whole number",
    ):
        load(None, {"DRIFTLINE_RELAY__INSPECT_BODY_BYTES": "many"})


def test_variables_that_are_no_keys_are_ignored():
    """Kubernetes sets DRIFTLINE_PORT and DRIFTLINE_SERVICE_HOST for a service of that name."""
    environ = {"DRIFTLINE_PORT": "tcp://10.0.0.1:8080", "DRIFTLINE_SERVICE_HOST": "10.0.0.1"}
    assert load(None, environ) == Config()


def test_an_error_of_a_flag_names_the_flag():
    with pytest.raises(
        ConfigError, match=r"^--upstream: pools\[0\]\.endpoints\[0\]: '127\.0\.0\.1:8000' is not an upstr"
    ):
        load(None, {}, {"pools": upstream_flag("127.0.0.1:8000")})


def test_secrets_are_masked(tmp_path):
    path = tmp_path / "d.yaml"
    path.write_text(
        "admin: {token: s3cret}\nexporters: [{preset: otlp, endpoint: 'http://h:4318', headers: {x-team: hush}}]\n"
    )
    shown = yaml.safe_dump(masked(load(path, {})))
    assert "s3cret" not in shown
    assert "hush" not in shown


def test_an_unknown_sampler_is_refused():
    with pytest.raises(ConfigError, match="OTEL_TRACES_SAMPLER"):
        load(None, {"OTEL_TRACES_SAMPLER": "sometimes"})


@given(st.text(max_size=60))
def test_no_text_is_worse_than_an_error(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(text.encode("utf-8", "replace"))
    try:
        load(path, {})
    except ConfigError as error:
        assert "any.yaml" in str(error)  # noqa: PT017  # most texts are refused, some are not


@pytest.mark.parametrize("text", ["a: " + "[" * 5000, 'listen: "\\ud800"', '"\\ud800": x'])
def test_what_no_other_process_could_be_told_is_refused(tmp_path, text):
    """Depth without end and halves of surrogate pairs: the error is one of the configuration, at a reload too."""
    assert refused(tmp_path, text).startswith("d.yaml: not ")


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("127.0.0.1:8000", "http://127.0.0.1:8001"),
        ("127.0.0.1:8000", "http://[::1]:8000"),
        ("10.0.0.5:8000", "http://127.0.0.1:8000"),
        (":8000", "http://vllm:8000"),
        (":8000", "unix:/run/vllm.sock"),
    ],
)
def test_a_server_on_the_same_port_of_another_address_is_not_the_sidecar(tmp_path, listen, url):
    path = tmp_path / "d.yaml"
    path.write_text(f"listen: '{listen}'\npools: [{{endpoints: [{{url: '{url}'}}]}}]\n")
    assert load(path, {}).pools[0].endpoints[0].url == url


def test_config_check_and_show(tmp_path):
    path = tmp_path / "d.yaml"
    path.write_text("relays: 2\n")
    run = CliRunner().invoke
    assert run(main, ["config", "check", str(path)]).output == f"{path}: good\n"
    assert yaml.safe_load(run(main, ["config", "show", "--config", str(path)]).output)["relays"] == 2
    path.write_text("relay: 2\n")
    result = run(main, ["config", "check", str(path)])
    assert (result.exit_code, result.output) == (
        1,
        f"Error: {path}:1: relay: 2 is not a mapping: write key: value\n",
    )
