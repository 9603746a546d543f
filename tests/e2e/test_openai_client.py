"""The openai package, synchronous, asynchronous and streaming, against the real server and model."""

import asyncio

import openai
import pytest

MESSAGES = [{"role": "user", "content": "Name three colours."}]


@pytest.fixture(scope="module")
def client(server):
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as one:
        yield one


def streamed(stream):
    text, finish, usage = "", None, None
    for chunk in stream:
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
        usage = chunk.usage or usage
    return text, finish, usage


def test_models(client, server):
    models = client.models.list().data
    assert server.model in [m.id for m in models]
    assert client.models.retrieve("default").id
    with pytest.raises(openai.NotFoundError) as error:
        client.models.retrieve("no-such-model")
    assert error.value.body["code"] == "model_not_found"


def test_chat_answers_and_streams_the_same_bytes(client):
    arguments = dict(model="default", messages=MESSAGES, temperature=0, max_tokens=40)
    whole = client.chat.completions.create(**arguments)
    text, finish, usage = streamed(
        client.chat.completions.create(**arguments, stream=True, stream_options={"include_usage": True})
    )
    assert text == whole.choices[0].message.content and text
    assert finish == whole.choices[0].finish_reason
    assert usage.prompt_tokens == whole.usage.prompt_tokens
    assert usage.completion_tokens == whole.usage.completion_tokens
    assert whole.usage.total_tokens == usage.total_tokens
    assert whole.system_fingerprint.startswith("fp_")


def test_seeded_sampling_is_the_same_streamed_or_not(client):
    arguments = dict(model="default", messages=MESSAGES, temperature=1.0, seed=1234, max_tokens=40, top_p=0.9)
    whole = client.chat.completions.create(**arguments).choices[0].message.content
    assert whole == streamed(client.chat.completions.create(**arguments, stream=True))[0]
    other = client.chat.completions.create(**(arguments | {"seed": 4321})).choices[0].message.content
    assert other != whole


def test_n_choices_differ_and_each_is_reproducible(client):
    arguments = dict(model="default", messages=MESSAGES, temperature=1.2, seed=7, max_tokens=24, n=4)
    first = [c.message.content for c in client.chat.completions.create(**arguments).choices]
    again = [c.message.content for c in client.chat.completions.create(**arguments).choices]
    assert first == again
    assert len(set(first)) > 1
    chunks = {}
    for chunk in client.chat.completions.create(**arguments, stream=True):
        for choice in chunk.choices:
            chunks[choice.index] = chunks.get(choice.index, "") + (choice.delta.content or "")
    assert [chunks[i] for i in range(4)] == first


def test_completions_default_to_sixteen_tokens(client):
    answer = client.completions.create(model="default", prompt="The capital of France is", temperature=0)
    assert answer.usage.completion_tokens <= 16
    assert "Paris" in answer.choices[0].text
    stream = client.completions.create(model="default", prompt="The capital of France is", temperature=0, stream=True)
    assert "".join(c.choices[0].text for c in stream if c.choices) == answer.choices[0].text


def test_token_array_prompts_equal_text(client, server):
    text = "The capital of France is"
    tokens = client.post("/tokenize".replace("/tokenize", f"{server.url}/tokenize"), body={"model": "default", "prompt": text}, cast_to=object)
    ids = tokens["tokens"]
    by_text = client.completions.create(model="default", prompt=text, temperature=0)
    by_ids = client.completions.create(model="default", prompt=ids, temperature=0)
    assert by_ids.choices[0].text == by_text.choices[0].text


def test_stop_strings_never_leak(client):
    arguments = dict(model="default", prompt="Count: one, two, three, four,", temperature=0, max_tokens=60)
    free = client.completions.create(**arguments).choices[0].text
    assert " six" in free
    for stop in (" six", " si", "x, s"):
        if stop not in free:
            continue
        whole = client.completions.create(**arguments, stop=stop)
        assert whole.choices[0].text == free.split(stop)[0]
        assert whole.choices[0].finish_reason == "stop"
        seen = ""
        for chunk in client.completions.create(**arguments, stop=stop, stream=True):
            seen += chunk.choices[0].text if chunk.choices else ""
            assert free.split(stop)[0].startswith(seen)
        assert seen == free.split(stop)[0]


def test_logprobs(client):
    answer = client.chat.completions.create(
        model="default", messages=MESSAGES, temperature=0, max_tokens=8, logprobs=True, top_logprobs=5
    )
    content = answer.choices[0].logprobs.content
    assert "".join(t.token for t in content) == answer.choices[0].message.content
    for token in content:
        assert token.logprob <= 0
        assert len(token.top_logprobs) == 5
        values = [t.logprob for t in token.top_logprobs]
        assert values == sorted(values, reverse=True)
        assert token.token == token.top_logprobs[0].token  # greedy
        assert token.logprob == pytest.approx(values[0])


def test_logit_bias_min_tokens_and_ignore_eos(client):
    base = dict(model="default", prompt="The capital of France is", temperature=0, max_tokens=4)
    first = client.completions.create(**base, logprobs=1)
    chosen = client.post("/completions", body=base | {"logit_bias": {"30": 100}}, cast_to=object)
    assert chosen["choices"][0]["text"] != first.choices[0].text
    long = client.completions.create(**(base | {"max_tokens": 300}), extra_body={"ignore_eos": True})
    assert long.usage.completion_tokens == 300
    assert long.choices[0].finish_reason == "length"
    at_least = client.chat.completions.create(
        model="default", messages=[{"role": "user", "content": "Say hi."}], temperature=0, max_tokens=80, extra_body={"min_tokens": 60}
    )
    assert at_least.usage.completion_tokens >= 60


def test_the_prefix_cache_is_reported_and_changes_nothing(client):
    prompt = "A long and shared beginning. " * 30
    arguments = dict(model="default", prompt=prompt, temperature=0, max_tokens=20)
    first = client.completions.create(**arguments)
    again = client.completions.create(**arguments)
    assert again.usage.prompt_tokens_details.cached_tokens >= 16
    assert again.choices[0].text == first.choices[0].text


def test_context_overflow_is_refused_never_truncated(client):
    with pytest.raises(openai.BadRequestError) as error:
        client.completions.create(model="default", prompt="word " * 9000, max_tokens=4)
    assert error.value.body["code"] == "context_length_exceeded"
    assert "8192" in error.value.body["message"] or "allows" in error.value.body["message"]


def test_async_client_with_many_streams(server):
    async def run():
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:

            async def one(i: int):
                text = ""
                stream = await client.chat.completions.create(
                    model="default",
                    messages=[{"role": "user", "content": f"Write about the number {i % 4}."}],
                    temperature=0,
                    max_tokens=24,
                    stream=True,
                )
                async for chunk in stream:
                    text += chunk.choices[0].delta.content or "" if chunk.choices else ""
                return text

            return await asyncio.gather(*(one(i) for i in range(24)))

    answers = asyncio.run(run())
    for i, answer in enumerate(answers):
        assert answer and answer == answers[i % 4]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tools", [{"type": "function", "function": {"name": "f", "parameters": {}}}]),
        ("response_format", {"type": "json_object"}),
    ],
)
def test_what_is_not_there_yet_says_so(client, field, value):
    with pytest.raises(openai.BadRequestError) as error:
        client.chat.completions.create(model="default", messages=MESSAGES, extra_body={field: value})
    assert error.value.body["code"] == "not_implemented"
    assert error.value.body["param"].startswith(field)
    with pytest.raises(openai.NotFoundError) as missing:
        client.images.generate(model="default", prompt="x")
    assert missing.value.body["code"] == "not_implemented"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": 1e9}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 0}, "n"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"stop": [1]}, "stop"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"seed": 1.5}, "seed"),
        ({"messages": "hello"}, "messages"),
    ],
)
def test_bad_fields_are_named(client, body, param):
    with pytest.raises(openai.BadRequestError) as error:
        client.post("/chat/completions", body={"model": "default", "messages": MESSAGES} | body, cast_to=object)
    assert error.value.body["param"].startswith(param)


@pytest.mark.parametrize(
    "raw",
    [b"{", b'{"model":"default","prompt":"\xff"}', b'{"model":"default","prompt":"\\ud800"}', b"[" * 100000, b"", b"null", b'"x"'],
)
def test_malformed_bodies_are_400_never_500(server, raw):
    import http.client

    connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
    connection.request("POST", "/v1/completions", raw, {"Content-Type": "application/json"})
    assert connection.getresponse().status == 400
