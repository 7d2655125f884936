import asyncio
import base64
import json
import struct
from collections import Counter

import aiohttp
import jsonschema_rs
import openai
import pytest

from driftline.simulate.replies import Behaviour
from driftline.simulate.upstream import MODEL, SERVER, SimulatedUpstream

TICKET = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "urgent": {"type": "boolean"}},
    "required": ["title", "urgent"],
    "additionalProperties": False,
}
TRACK = {"type": "function", "function": {"name": "track", "parameters": TICKET}}


def chat(content="What is in the parcel?", **more):
    return {"model": MODEL, "messages": [{"role": "user", "content": content}], "max_tokens": 400, **more}


async def reply(http, url, body, **headers):
    async with http.post(f"{url}/v1/chat/completions", json=body, headers=headers) as response:
        return response.status, await response.json()


async def events(http, url, body, **headers):
    async with http.post(
        f"{url}/v1/chat/completions", json={**body, "stream": True}, headers=headers
    ) as response:
        text = await response.text()
    assert text.endswith("data: [DONE]\n\n")
    return [json.loads(event.removeprefix("data: ")) for event in text.split("\n\n")[:-2]]


def streamed(events):
    return "".join(c["delta"].get("content") or "" for event in events for c in event.get("choices", []))


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_it_says_that_it_is_simulated(http, url):
    """Nobody can take its replies for a model's."""
    async with http.get(f"{url}/v1/models") as response:
        model = (await response.json())["data"][0]
        assert response.headers["server"] == SERVER == "driftline-simulated-upstream"
    assert (model["id"], model["owned_by"]) == ("simulated-8b", SERVER)
    _, body = await reply(http, url, chat())
    assert body["system_fingerprint"].startswith("simulated-")


async def test_the_same_seed_gives_the_same_reply(http, url):
    """Whoever asked what before, streamed or not, with usage asked for or not."""
    _, first = await reply(http, url, chat())
    await reply(http, url, chat("Something else"))
    again = await events(http, url, chat(stream_options={"include_usage": True}))
    assert streamed(again) == first["choices"][0]["message"]["content"]
    async with SimulatedUpstream(time_scale=0).serving() as twin:
        _, other = await reply(http, twin, chat())
    async with SimulatedUpstream(time_scale=0, seed=1).serving() as stranger:
        _, strange = await reply(http, stranger, chat())
    assert other["choices"] == first["choices"]
    assert strange["choices"] != first["choices"]


async def test_usage_counts_the_events_of_the_stream(http, url):
    """One token is one event, the end of text included, as behind vLLM's default stream interval."""
    found = await events(http, url, chat(stream_options={"include_usage": True}))
    contents = [event for event in found[1:] if event["choices"]]
    assert found[-1]["usage"]["completion_tokens"] == len(contents)


async def test_the_stream_interval_joins_tokens_but_the_first(http):
    """`stream_interval` tokens come in one event; their count stays what it was."""
    async with SimulatedUpstream(time_scale=0, stream_interval=8).serving() as url:
        found = await events(http, url, chat(max_tokens=17, stream_options={"include_usage": True}))
    assert len([event for event in found[1:] if event["choices"]]) == 1 + 16 // 8
    assert found[-1]["usage"]["completion_tokens"] == 17


async def test_a_low_limit_cuts_the_reply(http, url):
    """`finish_reason` is `length`, and no end of text is counted."""
    _, body = await reply(http, url, chat(max_tokens=5))
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == 5


async def test_a_repeated_prompt_is_found_in_the_prefix_cache(http, url):
    """Whole blocks of 16 tokens, and never the last token."""
    prompt = " word" * 40
    details = [(await reply(http, url, chat(prompt)))[1]["usage"] for _ in range(2)]
    blocks = details[0]["prompt_tokens"] // 16
    assert [usage["prompt_tokens_details"]["cached_tokens"] for usage in details] == [0, 16 * blocks]
    assert [usage["prompt_tokens_details"]["created_cache_tokens"] for usage in details] == [16 * blocks, 0]


async def test_refusals_come_at_the_base_rate(http):
    """A model declines now and then without any shift."""
    async with SimulatedUpstream(time_scale=0, behaviour=Behaviour(refusal=0.2)).serving() as url:
        bodies = [(await reply(http, url, chat(f"Case {i}")))[1] for i in range(200)]
    short = sum(body["usage"]["completion_tokens"] < 40 for body in bodies)
    assert 20 <= short <= 60


async def test_json_mode_gives_json_that_meets_the_schema(http, url):
    """Mostly: broken replies come at a base rate of one in a hundred."""
    form = {"type": "json_schema", "json_schema": {"name": "ticket", "schema": TICKET}}
    meets = jsonschema_rs.validator_for(TICKET).is_valid
    outcomes = Counter()
    for i in range(150):
        _, body = await reply(http, url, chat(f"Ticket {i}", response_format=form))
        try:
            outcomes[meets(json.loads(body["choices"][0]["message"]["content"]))] += 1
        except json.JSONDecodeError:
            outcomes["broken"] += 1
    assert outcomes[True] + outcomes["broken"] == 150
    assert outcomes["broken"] <= 8


async def test_a_client_can_ask_for_a_refusal(http, url):
    """By the header `x-simulate`, which a real server does not look at."""
    _, body = await reply(http, url, chat(), **{"x-simulate": "refuse"})
    assert body["usage"]["completion_tokens"] < 40


async def test_a_client_can_ask_for_broken_json(http, url):
    for i in range(30):
        ask = chat(f"Ticket {i}", response_format={"type": "json_object"})
        _, body = await reply(http, url, ask, **{"x-simulate": "break-json"})
        with pytest.raises(json.JSONDecodeError):
            json.loads(body["choices"][0]["message"]["content"])


async def test_a_client_can_ask_for_a_failure(http, url):
    """An error reply, or an error event under HTTP 200 in the middle of a stream."""
    status, body = await reply(http, url, chat(), **{"x-simulate": "fail"})
    assert (status, body["error"]["type"], body["error"]["code"]) == (500, "InternalServerError", 500)
    found = await events(http, url, chat(), **{"x-simulate": "fail-midway"})
    assert found[-1]["error"]["code"] == 500
    assert found[-2]["choices"][0]["finish_reason"] is None


async def test_the_openai_client_understands_it(url):
    """Chat, streamed tool calls, completions and embeddings, parsed by the client applications use."""
    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
    async with client:
        whole = await client.chat.completions.create(**chat(tools=[TRACK], tool_choice="required"))
        call = whole.choices[0].message.tool_calls[0]
        assert (call.function.name, whole.choices[0].finish_reason) == ("track", "tool_calls")
        assert json.loads(call.function.arguments).keys() == {"title", "urgent"}
        async with client.chat.completions.stream(**chat(tools=[TRACK], tool_choice="required")) as stream:
            final = await stream.get_final_completion()
        assert final.choices[0].message.tool_calls[0].function.arguments == call.function.arguments
        completion = await client.completions.create(model=MODEL, prompt="def f(", max_tokens=4)
        assert completion.choices[0].text
        floats = await client.embeddings.create(model=MODEL, input=["a", "b"], encoding_format="float")
        packed = await client.embeddings.create(model=MODEL, input=["a", "b"], encoding_format="base64")
    assert len(floats.data) == 2
    unpacked = struct.unpack("<64f", base64.b64decode(packed.data[1].embedding))
    assert unpacked == pytest.approx(floats.data[1].embedding, abs=1e-6)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_ends_its_generation(http, stream):
    """As vLLM aborts; the load goes down at once, streamed or not."""
    upstream = SimulatedUpstream(time_scale=50)
    async with upstream.serving() as url:
        task = asyncio.create_task(reply(http, url, chat(stream=stream)))
        await until(lambda: upstream.engine.running == 1)
        task.cancel()
        await until(lambda: upstream.engine.running == 0)
    assert (upstream.totals.aborted, upstream.totals.finished) == (1, 0)


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"{", 400, "truncated"),
        (json.dumps({"model": MODEL}).encode(), 400, "messages"),
        (json.dumps({"model": MODEL, "messages": []}).encode(), 400, "must not be empty"),
        (json.dumps(chat(max_tokens=0)).encode(), 400, ">= 1"),
        (json.dumps(chat(model="gpt-9")).encode(), 404, "`gpt-9` does not exist"),
        (json.dumps(chat(stream_options={"include_usage": True})).encode(), 400, "stream=True"),
        (json.dumps(chat(max_tokens=40_000)).encode(), 400, "maximum context length is 32768"),
    ],
)
async def test_bad_requests_get_an_error_in_openai_s_shape(http, url, body, status, says):
    """With the reason, and never a stack trace."""
    async with http.post(f"{url}/v1/chat/completions", data=body) as response:
        error = (await response.json())["error"]
        assert response.status == status
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["code"] == status
    assert says in error["message"]


async def test_an_unknown_steering_names_the_known_ones(http, url):
    _, body = await reply(http, url, chat(), **{"x-simulate": "refuze"})
    assert (
        body["error"]["message"] == "x-simulate: 'refuze' is not one of refuse, break-json, fail, fail-midway"
    )


async def test_an_unknown_path_is_answered_as_vllm_does(http, url):
    async with http.get(f"{url}/v1/nothing") as response:
        assert (response.status, await response.json()) == (404, {"detail": "Not Found"})


async def test_health_and_metrics_answer(http, url):
    await reply(http, url, chat())
    async with http.get(f"{url}/health") as response:
        assert (response.status, await response.read()) == (200, b"")
    async with http.get(f"{url}/metrics") as response:
        assert 'simulated_finished{model_name="simulated-8b"} 1\n' in await response.text()


async def test_a_port_in_use_is_an_os_error(upstream, url):
    port = int(url.rpartition(":")[2])
    with pytest.raises(OSError):
        async with upstream.serving(port=port):
            pass


async def test_nothing_answers_after_the_end(upstream):
    async with upstream.serving() as url:
        pass
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(f"{url}/health")
