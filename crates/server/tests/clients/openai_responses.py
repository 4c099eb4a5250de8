"""Talks to `/v1/responses` with the official `openai` package, and asserts shapes, never words.

    python openai_responses.py http://127.0.0.1:8080/v1 MODEL

Needs the packages `openai` and `pydantic`. The model needs a chat template; it may be a tiny one. Where the server does
not hold answers to a form (JSON, calls), the script says so and leaves out what depends on it.
"""

import json
import sys

import openai
from openai import OpenAI
from pydantic import BaseModel

TOOL = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather of a city.",
    "strict": True,
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


class Verdict(BaseModel):
    """A small structured answer."""

    ok: bool


def refused(call, kind, param=None):
    """Asserts that `call` is refused with an error of the class `kind` about `param`."""
    try:
        call()
    except kind as error:
        body = error.body
        assert isinstance(body["message"], str) and body["type"] == "invalid_request_error", body
        assert param is None or body["param"] == param, body
        return
    raise AssertionError("it was not refused")


def check_response(response, model):
    """Asserts what every whole response has."""
    assert response.id.startswith("resp_") and response.object == "response"
    assert response.model == model and response.created_at > 1.6e9
    assert response.status in ("completed", "incomplete"), response.status
    assert (response.incomplete_details is not None) == (response.status == "incomplete")
    assert response.error is None
    usage = response.usage
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens
    assert usage.input_tokens_details.cached_tokens >= 0
    assert usage.output_tokens_details.reasoning_tokens >= 0
    for item in response.output:
        assert item.type in ("message", "reasoning", "function_call", "custom_tool_call"), item.type
        # The package takes anything for an answer; this holds it to its own types.
        type(item).model_validate(item.model_dump(by_alias=True, exclude_none=True))


def whole(client, model):
    response = client.responses.create(
        model=model,
        input="Tell me a story.",
        instructions="Be brief.",
        max_output_tokens=16,
        temperature=0,
        metadata={"purpose": "test"},
        include=["message.output_text.logprobs"],
        top_logprobs=2,
        service_tier="auto",
        truncation="disabled",
        prompt_cache_key="k",
    )
    check_response(response, model)
    assert response.metadata == {"purpose": "test"} and response.instructions == "Be brief."
    assert response.tool_choice == "auto" and response.tools == [] and response.text.format.type == "text"
    message = next(item for item in response.output if item.type == "message")
    assert isinstance(response.output_text, str) and message.role == "assistant"
    assert len(message.content[0].logprobs[0].top_logprobs) == 2
    return response


def streamed(client, model):
    kinds = []
    with client.responses.stream(
        model=model, input="Tell me a story.", max_output_tokens=24, temperature=0
    ) as stream:
        text, last, numbers = "", None, []
        for event in stream:
            kinds.append(event.type)
            numbers.append(getattr(event, "sequence_number"))
            if event.type == "response.output_text.delta":
                text += event.delta
                assert event.snapshot == text
            last = event
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert numbers == list(range(len(numbers)))
    assert last.type in ("response.completed", "response.incomplete")
    check_response(last.response, model)
    assert last.response.output_text == text
    raw = client.responses.create(
        model=model, input="Tell me a story.", max_output_tokens=24, temperature=0, stream=True
    )
    assert [event.type for event in raw] == kinds


def kept(client, model, response):
    again = client.responses.retrieve(response.id)
    assert again.output_text == response.output_text
    items = list(client.responses.input_items.list(response.id, order="asc", limit=1))
    assert [item.type for item in items] == ["message"]
    assert items[0].role == "user" and items[0].content[0].type == "input_text"
    following = client.responses.create(
        model=model, input="Go on.", previous_response_id=response.id, max_output_tokens=16, temperature=0
    )
    check_response(following, model)
    assert following.previous_response_id == response.id
    items = list(client.responses.input_items.list(following.id, order="asc", limit=2))
    assert [item.role for item in items] == ["user", "assistant", "user"]
    by_hand = client.responses.create(
        model=model,
        input=[*items[:1], *response.output, {"role": "user", "content": "Go on."}],
        max_output_tokens=16,
        temperature=0,
        store=False,
    )
    assert by_hand.usage.input_tokens == following.usage.input_tokens
    assert by_hand.output_text == following.output_text
    by_name = client.responses.create(
        model=model,
        input=[
            {"type": "item_reference", "id": items[0].id},
            {"type": "item_reference", "id": response.output[0].id},
            {"role": "user", "content": "Go on."},
        ],
        max_output_tokens=16,
        temperature=0,
    )
    assert by_name.output_text == following.output_text
    refused(lambda: client.responses.retrieve(by_hand.id), openai.NotFoundError)
    client.responses.delete(response.id)
    refused(lambda: client.responses.retrieve(response.id), openai.NotFoundError)
    refused(
        lambda: client.responses.create(model=model, input="x", previous_response_id=response.id),
        openai.BadRequestError,
        "previous_response_id",
    )


def structured(client, model):
    """Whether answers are held to a form; if so, that they are."""
    probe = client.responses.create(
        model=model, input="x", text={"format": {"type": "json_object"}}, max_output_tokens=64, temperature=0
    )
    if not probe.output_text.lstrip().startswith("{"):
        return False
    response = client.responses.parse(
        model=model, input="Is it so?", text_format=Verdict, max_output_tokens=800, temperature=0
    )
    check_response(response, model)
    assert response.status == "completed" and isinstance(response.output_parsed.ok, bool)
    with client.responses.stream(
        model=model, input="Is it so?", text_format=Verdict, max_output_tokens=800, temperature=0
    ) as stream:
        final = stream.get_final_response()
    assert final.output_parsed == response.output_parsed
    return True


def tools(client, model):
    forced = {"tools": [TOOL], "tool_choice": {"type": "function", "name": "get_weather"}}
    arguments = {"model": model, "input": "The weather?", "max_output_tokens": 800, "temperature": 0, **forced}
    response = client.responses.create(**arguments)
    check_response(response, model)
    call = next(item for item in response.output if item.type == "function_call")
    assert call.id.startswith("fc_") and call.call_id.startswith("call_") and call.status == "completed"
    assert call.name == "get_weather" and json.loads(call.arguments)["city"] in ("Paris", "Rome")
    with client.responses.stream(**arguments) as stream:
        deltas = ""
        for event in stream:
            if event.type == "response.function_call_arguments.delta":
                deltas += event.delta
                assert event.snapshot == deltas
        final = stream.get_final_response()
    again = next(item for item in final.output if item.type == "function_call")
    assert again.arguments == deltas == call.arguments
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "Sunny."}
    check_response(
        client.responses.create(
            model=model, input=[result], previous_response_id=response.id, tools=[TOOL], max_output_tokens=16
        ),
        model,
    )


def errors(client, model):
    def create(**arguments):
        return lambda: client.responses.create(**{"model": model, "input": "x", "max_output_tokens": 16, **arguments})

    bad = openai.BadRequestError
    image = [{"role": "user", "content": [{"type": "input_image", "image_url": "data:,"}]}]
    refused(create(input=image), bad, "input[0].content[0].type")
    refused(create(tools=[{"type": "web_search"}]), bad, "tools[0].type")
    refused(create(max_output_tokens=1), bad, "max_output_tokens")
    refused(create(temperature=3), bad, "temperature")
    refused(create(background=True), bad, "background")
    refused(create(conversation="conv_1"), bad, "conversation")
    refused(create(extra_body={"mesages": []}), bad, "mesages")
    refused(create(model="no such model"), openai.NotFoundError, "model")
    refused(create(input=[{"type": "item_reference", "id": "msg_x"}]), openai.NotFoundError, "input[0].id")


def main():
    base_url, model = sys.argv[1:3]
    client = OpenAI(base_url=base_url, api_key="none", max_retries=0)
    kept(client, model, whole(client, model))
    streamed(client, model)
    errors(client, model)
    if structured(client, model):
        tools(client, model)
        print("responses: all well")
    else:
        print("responses: well, but this server holds answers to no form: structured output and tools not looked at")


if __name__ == "__main__":
    main()
