"""The simulated upstream beside recordings of the real one, over a socket."""

import json

import pytest

from driftline.simulate.upstream import SimulatedUpstream
from tests.simulate import recorded

BODIES = ["chat", "completion", "error-model", "error-too-long"]
STREAMS = [
    "chat-stream",
    "chat-stream-usage",
    "chat-stream-logprobs-n2",
    "completion-stream",
    "completion-stream-usage",
    "completion-stream-usage-each",
]
OURS = {"server", "date", "content-length", "connection", "vary"}


@pytest.fixture
def upstream():
    return SimulatedUpstream(model="m", time_scale=0)


async def answer(http, url, name):
    """What the simulated upstream says to a recorded request."""
    path, headers, body = recorded.request(name)
    if name == "error-too-long":  # the recording is cut
        body = json.dumps({"model": "m", "prompt": [1] * 40_000, "max_tokens": 12}).encode()
    headers["content-type"] = "application/json"
    async with http.post(url + path, data=body, headers=headers) as response:
        return response.status, response.headers, await response.read()


@recorded.recordings
@pytest.mark.parametrize("name", BODIES)
async def test_bodies_have_the_fields_of_vllm_in_its_order(http, url, name):
    """Every key, its place and the type of its value, down to the last null."""
    status, headers, body = await answer(http, url, name)
    real_status, real_headers, real_body = recorded.response(name)
    assert status == real_status
    assert headers["content-type"].partition(";")[0] == real_headers["content-type"]
    assert recorded.ordered(json.loads(body)) == recorded.ordered(json.loads(real_body))


@recorded.recordings
@pytest.mark.parametrize("name", ["error-model", "error-too-long"])
async def test_errors_are_worded_as_vllm_words_them(http, url, name):
    _, _, body = await answer(http, url, name)
    assert json.loads(body) == json.loads(recorded.response(name)[2])


@recorded.recordings
@pytest.mark.parametrize("name", STREAMS)
async def test_streams_have_the_events_of_vllm_in_its_order(http, url, name):
    """Opening, content, finish, usage and end: which events there are, and the fields of each."""
    status, headers, body = await answer(http, url, name)
    real_status, real_headers, real_body = recorded.response(name)
    assert (status, headers["content-type"]) == (real_status, real_headers["content-type"])
    assert set(map(str.lower, headers)) - OURS == set(real_headers) - OURS
    assert recorded.stream_shape(body) == recorded.stream_shape(real_body)


@recorded.recordings
async def test_ids_are_made_of_the_request_id_as_vllm_makes_them(http, url):
    _, _, body = await answer(http, url, "chat")
    assert json.loads(body)["id"] == json.loads(recorded.response("chat")[2])["id"]
