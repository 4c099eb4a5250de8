"""Asks a running server through the official `anthropic` package, and checks what comes back.

    pip install anthropic
    python anthropic_client.py http://127.0.0.1:PORT MODEL [API_KEY]

MODEL needs a chat template. A check that fails is told by name, and the exit status is 1.
"""

import sys
import traceback

import anthropic

STORY = [{"role": "user", "content": "Tell me a story."}]
WEATHER = {
    "name": "weather",
    "description": "Tells the weather of a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Bonn", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
TOOL = {"type": "tool", "name": "weather"}
# Newer clients know no temperature.
GREEDY = {"extra_body": {"temperature": 0}}
STOP_REASONS = {"end_turn", "max_tokens", "stop_sequence", "tool_use"}


class Missing(Exception):
    """The server lacks something, as opposed to doing it wrongly."""


def text_of(message):
    return "".join(block.text for block in message.content if block.type == "text")


def check_message(message, model, most):
    assert message.id.startswith("msg_"), message
    assert (message.type, message.role, message.model) == ("message", "assistant", model), message
    assert message.stop_reason in STOP_REASONS, message
    assert (message.stop_sequence is None) == (message.stop_reason != "stop_sequence"), message
    assert all(block.type in {"text", "thinking", "tool_use"} for block in message.content), message
    usage = message.usage
    assert usage.input_tokens + usage.cache_read_input_tokens > 0, usage
    assert usage.cache_creation_input_tokens == 0 and 0 < usage.output_tokens <= most, usage


def create(client, model):
    message = client.messages.create(model=model, max_tokens=16, messages=STORY, **GREEDY)
    check_message(message, model, 16)
    assert message._request_id, "the header request-id"


def raw(client, model):
    response = client.messages.with_raw_response.create(model=model, max_tokens=2, messages=STORY)
    assert response.headers["content-type"].startswith("application/json")
    check_message(response.parse(), model, 2)


def stream(client, model):
    ask = {"model": model, "max_tokens": 24, "messages": STORY, **GREEDY}
    whole = client.messages.create(**ask)
    with client.messages.stream(**ask) as events:
        kinds, text = [], ""
        for event in events:
            kinds.append(event.type)
            if event.type == "text":
                text += event.text
        message = events.get_final_message()
    check_message(message, model, 24)
    assert (kinds[0], kinds[-1]) == ("message_start", "message_stop"), kinds
    assert kinds.count("content_block_start") == kinds.count("content_block_stop") == len(message.content), kinds
    assert text == text_of(message) == text_of(whole), (text, whole)
    assert message.stop_reason == whole.stop_reason
    assert message.usage.output_tokens == whole.usage.output_tokens


def raw_stream(client, model):
    kinds = [e.type for e in client.messages.create(model=model, max_tokens=4, messages=STORY, stream=True)]
    assert (kinds[0], kinds[-2:]) == ("message_start", ["message_delta", "message_stop"]), kinds


def system(client, model):
    def count(**more):
        return client.messages.count_tokens(model=model, messages=STORY, **more).input_tokens

    blocks = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]
    assert count(system="Be brief.") == count(system=blocks) > count()
    message = client.messages.create(model=model, max_tokens=4, messages=STORY, system=blocks)
    check_message(message, model, 4)


def conversation(client, model):
    messages = STORY + [
        {"role": "assistant", "content": "Which one?"},
        {"role": "user", "content": [{"type": "text", "text": "Any."}, {"type": "text", "text": "A short one."}]},
        {"role": "user", "content": "Please."},
    ]
    answer = client.messages.create(model=model, max_tokens=8, messages=messages)
    check_message(answer, model, 8)
    messages += [{"role": "assistant", "content": answer.content}, {"role": "user", "content": "Go on."}]
    with client.messages.stream(model=model, max_tokens=4, messages=messages) as events:
        answer = events.get_final_message()
    messages += [{"role": "assistant", "content": answer.content}, {"role": "user", "content": "Go on."}]
    check_message(client.messages.create(model=model, max_tokens=4, messages=messages), model, 4)


def prefill(client, model):
    messages = STORY + [{"role": "assistant", "content": "Once upon a time"}]
    message = client.messages.create(model=model, max_tokens=12, messages=messages, **GREEDY)
    check_message(message, model, 12)
    assert not text_of(message).startswith("Once upon a time"), message


def stop_sequence(client, model):
    ask = {"model": model, "max_tokens": 40, "messages": STORY, **GREEDY}
    whole = text_of(client.messages.create(**ask))
    middle = whole[len(whole) // 2 :][:4]
    message = client.messages.create(**ask, stop_sequences=[middle, "never this"])
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", middle), message
    assert middle not in text_of(message)


def thinking(client, model):
    ask = {"model": model, "max_tokens": 2000, "messages": STORY}
    on = {"type": "enabled", "budget_tokens": 1024}
    with client.messages.stream(**ask, thinking=on, stop_sequences=["."]) as events:
        check_message(events.get_final_message(), model, 2000)
    for off in [{"type": "disabled"}, {"type": "adaptive"}]:
        message = client.messages.create(**{**ask, "max_tokens": 4}, thinking=off)
        check_message(message, model, 4)


def check_call(message):
    calls = [block for block in message.content if block.type == "tool_use"]
    if not calls:
        raise Missing(f"constrained output: a forced call came as {message.content}, {message.stop_reason}")
    for call in calls:
        assert call.id.startswith("toolu_") and call.name == "weather", call
        assert call.input in ({"city": "Bonn"}, {"city": "Rome"}), call
    assert message.stop_reason == "tool_use", message
    return calls


def forced_tool(client, model):
    ask = {"model": model, "max_tokens": 200, "messages": STORY, "tools": [WEATHER], "tool_choice": TOOL}
    message = client.messages.create(**ask)
    calls = check_call(message)
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": "rain"} for call in calls]
    messages = STORY + [{"role": "assistant", "content": message.content}, {"role": "user", "content": results}]
    # Without tools, which may be more than a small model's context holds.
    check_message(client.messages.create(model=model, max_tokens=8, messages=messages), model, 8)


def forced_tool_stream(client, model):
    # A small model would go on calling until its tokens are used up.
    choice = {"type": "any", "disable_parallel_tool_use": True}
    ask = {"model": model, "max_tokens": 200, "messages": STORY, "tools": [WEATHER], "tool_choice": choice}
    with client.messages.stream(**ask) as events:
        json = "".join(event.partial_json for event in events if event.type == "input_json")
        message = events.get_final_message()
    check_call(message)
    assert json, message


def json_schema(client, model):
    import json

    schema = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": False}
    message = client.messages.create(
        model=model,
        max_tokens=100,
        messages=STORY,
        extra_body={"output_config": {"format": {"type": "json_schema", "schema": schema}}},
    )
    try:
        assert json.loads(text_of(message)) in ({"n": 1}, {"n": 2}), message
    except json.JSONDecodeError as error:
        raise Missing(f"constrained output: JSON came as {text_of(message)!r}") from error


def count_tokens(client, model):
    def count(messages, **more):
        return client.messages.count_tokens(model=model, messages=messages, **more).input_tokens

    usage = client.messages.create(model=model, max_tokens=1, messages=STORY).usage
    assert count(STORY) == usage.input_tokens + usage.cache_read_input_tokens
    assert count(STORY, tools=[WEATHER]) > count(STORY)


def errors(client, model):
    def refused(kind, start, **more):
        ask = {"model": model, "max_tokens": 4, "messages": STORY, **more}
        try:
            client.messages.create(**ask)
        except kind as error:
            assert error.body["type"] == "error" and error.body["request_id"], error.body
            assert error.body["error"]["message"].startswith(start), error.body
            return error
        raise AssertionError(f"{more} was not refused")

    bad, start = anthropic.BadRequestError, "messages.0.content.0.type: "
    assert refused(anthropic.NotFoundError, "", model="nobody").type == "not_found_error"
    error = refused(bad, start, messages=[{"role": "user", "content": [{"type": "image", "source": {}}]}])
    assert error.type == "invalid_request_error" and "image" in error.message, error
    refused(bad, "max_tokens: ", max_tokens=0)
    refused(bad, "temperature: ", extra_body={"temperature": 1.5})
    refused(bad, "messages.0.role: ", messages=[{"role": "tool", "content": "x"}])
    refused(bad, "nonsense: Extra inputs are not permitted", extra_body={"nonsense": 1})
    refused(bad, "", messages=[{"role": "user", "content": "a " * 500_000}])
    try:
        client.messages.create(model=model, max_tokens=4, messages=[], stream=True)
        raise AssertionError("a stream of nothing was not refused")
    except bad:
        pass


CHECKS = [
    create,
    raw,
    stream,
    raw_stream,
    system,
    conversation,
    prefill,
    stop_sequence,
    thinking,
    forced_tool,
    forced_tool_stream,
    json_schema,
    count_tokens,
    errors,
]


def main():
    base, model, *key = sys.argv[1:]
    client = anthropic.Anthropic(base_url=base, api_key=(key or ["none"])[0], max_retries=0, timeout=120)
    failed = 0
    for check in CHECKS:
        try:
            check(client, model)
            print("ok     ", check.__name__)
        except Missing as missing:
            failed += 1
            print("MISSING", check.__name__, missing)
        except Exception:
            failed += 1
            print("FAILED ", check.__name__)
            traceback.print_exc(file=sys.stdout)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
