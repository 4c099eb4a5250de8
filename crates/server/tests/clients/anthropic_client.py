"""Anthropic's own Python client against a running server: python anthropic_client.py BASE_URL MODEL [API_KEY]

Asserts on shapes, not on words, so that any model will do. Needs the package `anthropic`.
"""

import sys

import anthropic

base, model = sys.argv[1], sys.argv[2]
key = sys.argv[3] if len(sys.argv) > 3 else "none"
client = anthropic.Anthropic(base_url=base, api_key=key, max_retries=0, timeout=300)

HELLO = [{"role": "user", "content": "Tell me a story."}]
TOOL = {
    "name": "get_weather",
    "description": "The weather.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


def models():
    assert model in [m.id for m in client.models.list()]
    assert client.models.retrieve(model).type == "model"


def messages():
    answer = client.messages.create(model=model, max_tokens=8, messages=HELLO, system="Be brief.")
    assert answer.role == "assistant" and answer.stop_reason in ("end_turn", "max_tokens")
    assert answer.content[0].type in ("text", "thinking") and answer.usage.output_tokens <= 8


def stream():
    with client.messages.stream(model=model, max_tokens=8, messages=HELLO) as events:
        text = "".join(events.text_stream)
        final = events.get_final_message()
    assert final.stop_reason in ("end_turn", "max_tokens")
    assert text == "".join(block.text for block in final.content if block.type == "text")


def tools():
    choice = {"type": "tool", "name": "get_weather"}
    answer = client.messages.create(
        model=model, max_tokens=1000, messages=HELLO, tools=[TOOL], tool_choice=choice
    )
    call = next(block for block in answer.content if block.type == "tool_use")
    assert answer.stop_reason == "tool_use" and call.input["city"] in ("Paris", "Rome")
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "Sunny."}
    history = [
        *HELLO,
        {"role": "assistant", "content": answer.content},
        {"role": "user", "content": [result]},
    ]
    client.messages.create(model=model, max_tokens=5, messages=history, tools=[TOOL])
    any_tool = {"type": "any", "disable_parallel_tool_use": True}
    with client.messages.stream(
        model=model, max_tokens=1000, messages=HELLO, tools=[TOOL], tool_choice=any_tool
    ) as events:
        final = events.get_final_message()
    call = next(block for block in final.content if block.type == "tool_use")
    assert call.input["city"] in ("Paris", "Rome") and final.stop_reason == "tool_use"


def count():
    assert client.messages.count_tokens(model=model, messages=HELLO).input_tokens > 1


def errors():
    cases = [
        (anthropic.NotFoundError, {"model": "nobody"}),
        (anthropic.BadRequestError, {"messages": []}),
        (anthropic.BadRequestError, {"max_tokens": 0}),
    ]
    for kind, wrong in cases:
        try:
            client.messages.create(**{"model": model, "max_tokens": 5, "messages": HELLO, **wrong})
            raise AssertionError(f"{wrong} was taken")
        except kind as error:
            assert error.body["type"] == "error" and error.body["error"]["message"], error


for check in [models, messages, stream, tools, count, errors]:
    check()
    print("ok", check.__name__, flush=True)
