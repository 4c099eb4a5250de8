"""OpenAI's own Python client against a running server: python openai_client.py BASE_URL MODEL [API_KEY]

Asserts on shapes, not on words, so that any model will do. Needs the package `openai`.
"""

import json
import sys

import openai
from pydantic import BaseModel

base, model = sys.argv[1], sys.argv[2]
key = sys.argv[3] if len(sys.argv) > 3 else "none"
client = openai.OpenAI(base_url=base.rstrip("/") + "/v1", api_key=key, max_retries=0, timeout=300)

HELLO = [{"role": "user", "content": "Tell me a story."}]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL = {
    "type": "function",
    "function": {"name": "get_weather", "description": "The weather.", "parameters": SCHEMA, "strict": True},
}
FORCED = {"type": "function", "function": {"name": "get_weather"}}


class Place(BaseModel):
    """What a structured answer is parsed into."""

    sunny: bool


def models():
    assert model in [m.id for m in client.models.list()]
    assert client.models.retrieve(model).object == "model"


def chat():
    answer = client.chat.completions.create(model=model, messages=HELLO, max_tokens=8, seed=1, n=2)
    assert len(answer.choices) == 2
    for choice in answer.choices:
        assert choice.message.role == "assistant" and choice.finish_reason in ("stop", "length")
    usage = answer.usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.prompt_tokens_details.cached_tokens >= 0
    answer = client.chat.completions.create(
        model=model, messages=HELLO, max_tokens=5, logprobs=True, top_logprobs=3
    )
    told = answer.choices[0].logprobs.content
    assert 1 <= len(told) <= 5 and len(told[0].top_logprobs) == 3 and told[0].logprob <= 0


def chat_stream():
    options = {"include_usage": True}
    with client.chat.completions.create(
        model=model, messages=HELLO, max_tokens=8, stream=True, stream_options=options
    ) as stream:
        chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens <= 8
    assert chunks[-2].choices[0].finish_reason in ("stop", "length")
    assert len({chunk.id for chunk in chunks}) == 1
    # The client puts the pieces together by itself.
    with client.chat.completions.stream(model=model, messages=HELLO, max_tokens=8) as stream:
        for _ in stream:
            pass
        try:
            completion = stream.get_final_completion()
        except openai.LengthFinishReasonError as cut_off:  # what the client makes of `length`
            completion = cut_off.completion
        assert completion.choices[0].message.role == "assistant"


def tools():
    answer = client.chat.completions.create(
        model=model, messages=HELLO, tools=[TOOL], tool_choice=FORCED, max_tokens=1000
    )
    message = answer.choices[0].message
    (call,) = message.tool_calls
    assert answer.choices[0].finish_reason == "tool_calls"
    assert call.type == "function" and call.function.name == "get_weather"
    assert json.loads(call.function.arguments)["city"] in ("Paris", "Rome")
    result = {"role": "tool", "tool_call_id": call.id, "content": "Sunny."}
    second = client.chat.completions.create(
        model=model, messages=[*HELLO, message, result], tools=[TOOL], tool_choice="none", max_tokens=5
    )
    assert second.choices[0].message.tool_calls is None
    with client.chat.completions.stream(
        model=model,
        messages=HELLO,
        tools=[TOOL],
        tool_choice="required",
        parallel_tool_calls=False,
        max_tokens=1000,
    ) as stream:
        for _ in stream:
            pass
        final = stream.get_final_completion().choices[0]
    assert json.loads(final.message.tool_calls[0].function.arguments)["city"] in ("Paris", "Rome")


def structured():
    answer = client.chat.completions.parse(
        model=model, messages=HELLO, response_format=Place, max_tokens=1000
    )
    assert isinstance(answer.choices[0].message.parsed.sunny, bool)
    schema = {"name": "place", "schema": SCHEMA, "strict": True}
    answer = client.chat.completions.create(
        model=model,
        messages=HELLO,
        response_format={"type": "json_schema", "json_schema": schema},
        max_tokens=1000,
    )
    assert json.loads(answer.choices[0].message.content)["city"] in ("Paris", "Rome")


def completions():
    answer = client.completions.create(
        model=model, prompt=["Once", "Then"], max_tokens=5, logprobs=2, n=2, seed=3
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    logprobs = answer.choices[0].logprobs
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.text_offset)
    chunks = list(client.completions.create(model=model, prompt="Once", max_tokens=5, stream=True))
    assert chunks[-1].choices[0].finish_reason in ("stop", "length")


def responses():
    answer = client.responses.create(model=model, input="Hello.", max_output_tokens=16, instructions="Be brief.")
    assert answer.status in ("completed", "incomplete") and isinstance(answer.output_text, str)
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens
    assert client.responses.retrieve(answer.id).output_text == answer.output_text
    assert len(client.responses.input_items.list(answer.id).data) == 1
    second = client.responses.create(
        model=model, input="Go on.", previous_response_id=answer.id, max_output_tokens=16
    )
    assert second.previous_response_id == answer.id
    client.responses.delete(answer.id)
    try:
        client.responses.retrieve(answer.id)
        raise AssertionError("it was deleted")
    except openai.NotFoundError:
        pass
    flat = {"type": "function", "name": "get_weather", "parameters": SCHEMA, "strict": True}
    called = client.responses.create(
        model=model,
        input="Hello.",
        tools=[flat],
        tool_choice="required",
        parallel_tool_calls=False,
        max_output_tokens=1000,
    )
    call = next(item for item in called.output if item.type == "function_call")
    assert json.loads(call.arguments)["city"] in ("Paris", "Rome")
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "Sunny."}
    client.responses.create(
        model=model, input=[output], previous_response_id=called.id, tools=[flat], max_output_tokens=16
    )
    with client.responses.stream(model=model, input="Hello.", max_output_tokens=16) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response() if "response.completed" in kinds else None
    assert kinds[0] == "response.created" and kinds[-1] in ("response.completed", "response.incomplete")
    assert final is None or final.object == "response"
    parsed = client.responses.parse(model=model, input="Hello.", text_format=Place, max_output_tokens=1000)
    assert isinstance(parsed.output_parsed.sunny, bool)


def embeddings():
    # Asks for base64 and decodes it by itself.
    answer = client.embeddings.create(model=model, input=["one", "two", "one"])
    vectors = [entry.embedding for entry in answer.data]
    assert vectors[0] == vectors[2] != vectors[1] and answer.usage.prompt_tokens > 0
    floats = client.embeddings.create(model=model, input="one", encoding_format="float").data[0].embedding
    assert max(abs(a - b) for a, b in zip(floats, vectors[0])) < 1e-6


def errors():
    cases = [
        (openai.NotFoundError, {"model": "nobody"}, "model"),
        (openai.BadRequestError, {"messages": []}, "messages"),
        (openai.BadRequestError, {"temperature": 9}, "temperature"),
        (openai.BadRequestError, {"max_tokens": -1}, "max_tokens"),
    ]
    for kind, wrong, param in cases:
        try:
            client.chat.completions.create(**{"model": model, "messages": HELLO, "max_tokens": 5, **wrong})
            raise AssertionError(f"{wrong} was taken")
        except kind as error:
            assert error.param == param and error.body["message"], error


for check in [
    models,
    chat,
    chat_stream,
    tools,
    structured,
    completions,
    responses,
    embeddings,
    errors,
]:
    check()
    print("ok", check.__name__, flush=True)
