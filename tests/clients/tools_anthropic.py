"""Functions and typed answers with the official `anthropic` library (PyPI)."""

from typing import Literal, Optional

import anthropic
from anthropic import beta_tool
from pydantic import BaseModel

from tools import BASE_URL, COLD, DESCRIPTIONS, KEY, MODEL, QUESTION, SCHEMAS, run

client = anthropic.Anthropic(base_url=BASE_URL, api_key=KEY, max_retries=0)
TOOLS = [
    {"name": name, "description": DESCRIPTIONS[name], "input_schema": SCHEMAS[name]}
    for name in SCHEMAS
]
# Newer versions of the library have no argument for the temperature.
FIELDS = {"model": MODEL, "max_tokens": 500, "extra_body": COLD}


class Toy(BaseModel):
    """Without bounds: the library moves those into descriptions, and checks them itself."""

    colour: Literal["red", "blue"]
    size: Optional[Literal["small", "large"]] = None
    new: bool


def named(name):
    return {"type": "tool", "name": name, "disable_parallel_tool_use": True}


def conversation():
    messages = list(QUESTION)
    for name in SCHEMAS:
        reply = client.messages.create(
            **FIELDS, messages=messages, tools=TOOLS, tool_choice=named(name)
        )
        assert reply.stop_reason == "tool_use", reply
        (call,) = [block for block in reply.content if block.type == "tool_use"]
        assert call.name == name and call.id
        result = {"type": "tool_result", "tool_use_id": call.id, "content": run(name, call.input)}
        messages += [
            {"role": "assistant", "content": reply.content},
            {"role": "user", "content": [result]},
        ]
    short = FIELDS | {"max_tokens": 24, "messages": messages, "tools": TOOLS}
    reply = client.messages.create(**short, tool_choice={"type": "none"})
    assert [block.type for block in reply.content] == ["text"], reply
    # A function that failed.
    messages[-1]["content"][0] |= {"is_error": True, "content": [{"type": "text", "text": "no"}]}
    assert client.messages.create(**short).content
    any_of = {"type": "any", "disable_parallel_tool_use": True}
    reply = client.messages.create(**FIELDS, messages=QUESTION, tools=TOOLS, tool_choice=any_of)
    for block in reply.content:
        if block.type == "tool_use":
            run(block.name, block.input)
    assert reply.content[-1].type == "tool_use"


def streamed():
    fields = FIELDS | {"messages": QUESTION, "tools": TOOLS, "tool_choice": named("add")}
    whole = client.messages.create(**fields)
    with client.messages.stream(**fields) as stream:
        events = list(stream)
        final = stream.get_final_message()
    assert final.stop_reason == "tool_use"
    assert final.content[-1].input == whole.content[-1].input
    parts = [event.partial_json for event in events if event.type == "input_json"]
    assert parts, [event.type for event in events]


def typed():
    parsed = client.messages.parse(**FIELDS, messages=QUESTION, output_format=Toy)
    assert isinstance(parsed.parsed_output, Toy), parsed


def runner():
    """The library's own loop. It tries a conversation kept by the server first."""

    @beta_tool
    def now() -> str:
        """The time."""
        return "noon"

    rounds = list(
        client.beta.messages.tool_runner(
            **FIELDS,
            messages=QUESTION,
            tools=[now],
            tool_choice={"type": "any", "disable_parallel_tool_use": True},
            max_iterations=2,
        )
    )
    assert [message.stop_reason for message in rounds] == ["tool_use", "tool_use"]
    # The second round has the first in its prompt.
    assert rounds[1].usage.input_tokens > rounds[0].usage.input_tokens + 5


conversation()
streamed()
typed()
runner()
print(f"anthropic {anthropic.__version__}: functions and typed answers: ok")
