"""Functions and typed answers with the official `openai` library (PyPI)."""

import json

import openai

from tools import BASE_URL, COLD, DESCRIPTIONS, KEY, MODEL, QUESTION, SCHEMAS, Item, run

client = openai.OpenAI(base_url=f"{BASE_URL}/v1", api_key=KEY, max_retries=0)
TOOLS = [
    {
        "type": "function",
        "function": {"name": name, "description": DESCRIPTIONS[name], "parameters": SCHEMAS[name]},
    }
    for name in SCHEMAS
]
FLAT = [{"type": "function", **tool["function"]} for tool in TOOLS]


def named(name):
    return {"type": "function", "function": {"name": name}}


def ask(messages=QUESTION, **fields):
    fields = {"model": MODEL, "tools": TOOLS, "max_tokens": 500} | COLD | fields
    return client.chat.completions.create(messages=messages, **fields)


def conversation():
    """Two functions are called one after the other, and their results are answered."""
    messages = list(QUESTION)
    for choice in [named("add"), named("count_letters")]:
        reply = ask(messages, tool_choice=choice, parallel_tool_calls=False).choices[0]
        assert reply.finish_reason == "tool_calls", reply
        (call,) = reply.message.tool_calls
        assert call.id and call.function.name == choice["function"]["name"], call
        result = run(call.function.name, json.loads(call.function.arguments))
        messages += [reply.message, {"role": "tool", "tool_call_id": call.id, "content": result}]
    reply = ask(messages, tool_choice="none", max_tokens=24)
    assert reply.choices[0].message.content and not reply.choices[0].message.tool_calls
    reply = ask(messages, max_tokens=24)  # as it likes
    assert reply.choices[0].message.content or reply.choices[0].message.tool_calls
    return messages


def choices():
    # As many calls as it likes: the small model does not stop by itself.
    reply = ask(tool_choice="required").choices[0]
    assert reply.message.tool_calls
    for call in reply.message.tool_calls:
        run(call.function.name, json.loads(call.function.arguments))
    allowed = {"mode": "required", "tools": [named("count_letters")]}
    choice = {"type": "allowed_tools", "allowed_tools": allowed}
    reply = ask(tool_choice=choice, parallel_tool_calls=False).choices[0]
    assert {call.function.name for call in reply.message.tool_calls} == {"count_letters"}
    try:
        ask(tool_choice=named("nobody"))
        raise AssertionError("no error")
    except openai.BadRequestError as error:
        assert "nobody" in str(error), error


def streamed():
    fields = {"tool_choice": named("add"), "parallel_tool_calls": False}
    whole = ask(**fields).choices[0].message.tool_calls[0]
    arguments, names, ids, reasons = "", [], [], []
    for chunk in ask(**fields, stream=True):
        for choice in chunk.choices:
            reasons += [choice.finish_reason] if choice.finish_reason else []
            for call in choice.delta.tool_calls or []:
                assert call.index == 0, call
                names += [call.function.name] if call.function.name else []
                ids += [call.id] if call.id else []
                arguments += call.function.arguments or ""
    assert names == ["add"] and len(ids) == 1 and reasons == ["tool_calls"]
    assert json.loads(arguments) == json.loads(whole.function.arguments)
    # The library's own accumulation.
    with client.chat.completions.stream(
        model=MODEL, messages=QUESTION, tools=TOOLS, max_tokens=500, **COLD, **fields
    ) as stream:
        (call,) = stream.get_final_completion().choices[0].message.tool_calls
    assert call.function.name == "add"
    run("add", json.loads(call.function.arguments))


def typed():
    fields = {"model": MODEL, "messages": QUESTION, "max_tokens": 500, **COLD}
    parsed = client.chat.completions.parse(**fields, response_format=Item)
    item = parsed.choices[0].message.parsed
    assert isinstance(item, Item), parsed
    with client.chat.completions.stream(**fields, response_format=Item) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == item
    tool = openai.pydantic_function_tool(Item)
    choice = named("Item")
    called = client.chat.completions.parse(
        **fields, tools=[tool], tool_choice=choice, parallel_tool_calls=False
    )
    (call,) = called.choices[0].message.tool_calls
    assert isinstance(call.function.parsed_arguments, Item)
    try:
        client.chat.completions.parse(**fields | {"max_tokens": 3}, response_format=Item)
        raise AssertionError("no error")
    except openai.LengthFinishReasonError:
        pass
    loose = client.chat.completions.create(**fields, response_format={"type": "json_object"})
    assert loose.choices[0].message.content.lstrip().startswith("{")
    if loose.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(loose.choices[0].message.content), dict)


def responses():
    fields = {"model": MODEL, "max_output_tokens": 500, **COLD}
    parsed = client.responses.parse(**fields, input=QUESTION, text_format=Item)
    assert isinstance(parsed.output_parsed, Item), parsed
    items = list(QUESTION)
    for name in SCHEMAS:
        choice = {"type": "function", "name": name}
        reply = client.responses.create(
            **fields, input=items, tools=FLAT, tool_choice=choice, parallel_tool_calls=False
        )
        (call,) = [item for item in reply.output if item.type == "function_call"]
        result = run(call.name, json.loads(call.arguments))
        assert call.name == name and reply.status == "completed"
        output = {"type": "function_call_output", "call_id": call.call_id, "output": result}
        items += [*reply.output, output]
    reply = client.responses.create(
        **fields | {"max_output_tokens": 24}, input=items, tools=FLAT, tool_choice="none"
    )
    assert reply.output_text

    choice = {"type": "function", "name": "add"}
    events = list(
        client.responses.create(
            **fields, input=QUESTION, tools=FLAT, tool_choice=choice, stream=True,
            parallel_tool_calls=False,
        )
    )
    deltas = [e.delta for e in events if e.type == "response.function_call_arguments.delta"]
    (done,) = [e for e in events if e.type == "response.function_call_arguments.done"]
    assert "".join(deltas) == done.arguments
    run("add", json.loads(done.arguments))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    (item,) = events[-1].response.output
    assert events[-1].type == "response.completed" and item.arguments == done.arguments
    with client.responses.stream(**fields, input=QUESTION, text_format=Item) as stream:
        assert stream.get_final_response().output_parsed == parsed.output_parsed


conversation()
choices()
streamed()
typed()
responses()
print(f"openai {openai.__version__}: functions and typed answers: ok")
