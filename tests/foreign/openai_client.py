"""The openai package, unmodified: what an application does with it."""
import base64
import json
import re
import struct

import openai
import pydantic

client = openai.OpenAI()
MODEL = client.models.list().data[0].id
QUESTION = [{"role": "user", "content": "What is the capital of France? Answer in one word."}]


def chat():
    answer = client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=0, max_tokens=16)
    assert "Paris" in answer.choices[0].message.content, answer
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    return answer.choices[0].message.content


def stream(expected):
    chunks = list(
        client.chat.completions.create(
            model=MODEL, messages=QUESTION, temperature=0, max_tokens=16, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == expected, (text, expected)
    assert chunks[-1].usage.completion_tokens > 0 and not chunks[-1].choices
    with client.chat.completions.stream(model=MODEL, messages=QUESTION, temperature=0, max_tokens=16) as events:
        for _ in events:
            pass
        assert events.get_final_completion().choices[0].message.content == expected


def completions():
    answer = client.completions.create(
        model=MODEL, prompt=["The capital of France is", "One, two,"], temperature=0, max_tokens=4, logprobs=2, echo=True, n=1
    )
    assert len(answer.choices) == 2 and answer.choices[0].text.startswith("The capital of France is")
    logprobs = answer.choices[0].logprobs
    assert "".join(logprobs.tokens) == answer.choices[0].text
    assert logprobs.token_logprobs[0] is None and all(value <= 0 for value in logprobs.token_logprobs[1:])


def logprobs():
    answer = client.chat.completions.create(
        model=MODEL, messages=QUESTION, temperature=0, max_tokens=4, logprobs=True, top_logprobs=3
    )
    for token in answer.choices[0].logprobs.content:
        assert len(token.top_logprobs) == 3 and token.logprob <= 0
        assert max(top.logprob for top in token.top_logprobs) == token.logprob  # greedy


def seeds():
    texts = {
        client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=1.5, seed=seed, max_tokens=12).choices[0].message.content
        for seed in (1, 1, 2, 3)
    }
    assert 2 <= len(texts) <= 3, texts


WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}, "unit": {"enum": ["celsius", "fahrenheit"]}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}


def tools():
    named = {"type": "function", "function": {"name": "get_weather"}}
    for choice, ends in (("required", "tool_calls"), (named, "stop")):
        asked = dict(model=MODEL, messages=QUESTION, tools=[WEATHER], tool_choice=choice, parallel_tool_calls=False, temperature=0,
                     max_tokens=96)
        answer = client.chat.completions.create(**asked).choices[0]
        calls = answer.message.tool_calls
        assert answer.finish_reason == ends and calls, answer
        for call in calls:
            assert call.function.name == "get_weather" and call.id, call
            arguments = json.loads(call.function.arguments)
            assert isinstance(arguments["city"], str) and arguments["unit"] in ("celsius", "fahrenheit"), arguments
        with client.chat.completions.stream(**asked) as events:
            streamed = events.get_final_completion().choices[0].message.tool_calls
        assert [call.function.arguments for call in streamed] == [call.function.arguments for call in calls]
    # What a tool says goes back into the conversation.
    conversation = QUESTION + [answer.message.to_dict(), {"role": "tool", "tool_call_id": calls[0].id, "content": "Paris"}]
    assert client.chat.completions.create(model=MODEL, messages=conversation, max_tokens=4).choices[0].message.content


class City(pydantic.BaseModel):
    name: str = pydantic.Field(max_length=20)
    capital: bool


def structured():
    answer = client.chat.completions.parse(model=MODEL, messages=QUESTION, response_format=City, temperature=0, max_tokens=64)
    assert isinstance(answer.choices[0].message.parsed, City), answer
    schema = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 3, "maximum": 5}}, "required": ["n"],
              "additionalProperties": False}
    for more in (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "number", "schema": schema, "strict": True}}},
        {"extra_body": {"structured_outputs": {"json": schema}}},
        {"extra_body": {"guided_json": schema}},
    ):
        text = client.chat.completions.create(model=MODEL, messages=QUESTION, temperature=0, max_tokens=32, **more)
        assert 3 <= json.loads(text.choices[0].message.content)["n"] <= 5, text
    for outputs, expected in (({"choice": ["Lyon", "Nice"]}, "Lyon|Nice"), ({"regex": "[0-9]{4}"}, "[0-9]{4}")):
        text = client.chat.completions.create(
            model=MODEL, messages=QUESTION, temperature=0, max_tokens=16, extra_body={"structured_outputs": outputs}
        ).choices[0].message.content
        assert re.fullmatch(expected, text), text


def embeddings():
    data = client.embeddings.create(model=MODEL, input=["a cat", "a dog"]).data  # asks for base64 by itself
    assert len(data) == 2 and abs(sum(value * value for value in data[0].embedding) - 1) < 1e-3
    raw = client.embeddings.create(model=MODEL, input="a cat", encoding_format="base64").data[0].embedding
    values = struct.unpack(f"<{len(base64.b64decode(raw)) // 4}f", base64.b64decode(raw))
    assert max(abs(a - b) for a, b in zip(values, data[0].embedding)) < 1e-6


def errors():
    for call, error in (
        (lambda: client.chat.completions.create(model="nothing", messages=QUESTION), openai.NotFoundError),
        (lambda: client.chat.completions.create(model=MODEL, messages=[]), openai.BadRequestError),
        (lambda: client.chat.completions.create(model=MODEL, messages=QUESTION, n=100000), openai.UnprocessableEntityError),
        (lambda: openai.OpenAI(api_key="wrong").models.list(), openai.AuthenticationError),
    ):
        try:
            call()
        except error as caught:
            assert caught.body["message"], caught
        else:
            raise AssertionError(f"{error} was not raised")


text = chat()
stream(text)
for check in (completions, logprobs, seeds, tools, structured, embeddings, errors):
    check()
print("ok")
