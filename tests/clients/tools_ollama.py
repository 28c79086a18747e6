"""Functions and typed answers with the official `ollama` client (PyPI) and `langchain-ollama`.

Neither can say that a function must be called, so the built-in model does not: what is tested
is that functions may be there, that a history with calls and results reaches the model, and
that answers have the form that was asked for.
"""

import ollama
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama

from tools import BASE_URL, COLD, MODEL, QUESTION, Item

client = ollama.Client(host=BASE_URL)
OPTIONS = COLD | {"num_predict": 24}
SCHEMA = Item.model_json_schema()


def add(a: int, b: int) -> int:
    """Adds two numbers.

    Args:
        a: the first
        b: the second
    """
    return a + b


def count_letters(text: str) -> int:
    """Counts the letters of a text.

    Args:
        text: the text
    """
    return len(text)


def chat(messages=QUESTION, **fields):
    return client.chat(MODEL, messages, **{"options": OPTIONS} | fields)


def functions():
    """Functions may be called, and calls of the past reach the model."""
    assert "tools" in client.show(MODEL).capabilities
    plain = chat()
    told = chat(tools=[add, count_letters])
    assert told.message.role == "assistant" and told.message.content
    assert told.prompt_eval_count > plain.prompt_eval_count + 50, "the functions are not shown"
    parts = list(chat(tools=[add, count_letters], stream=True))
    assert "".join(part.message.content or "" for part in parts) == told.message.content
    assert parts[-1].done and parts[-1].done_reason == told.done_reason

    calls = [
        {"function": {"name": "add", "arguments": {"a": 2, "b": 3}}},
        {"function": {"name": "count_letters", "arguments": {"text": "a dog"}}},
    ]
    history = [
        *QUESTION,
        {"role": "assistant", "tool_calls": calls},
        {"role": "tool", "content": "5", "tool_name": "add"},
        {"role": "tool", "content": "5", "tool_name": "count_letters"},
    ]
    after = chat(history, tools=[add, count_letters])
    assert after.message.content
    assert after.prompt_eval_count > told.prompt_eval_count + 20, "the calls are not shown"
    # Without functions the history is as good.
    assert chat(history).message.content
    try:
        client.chat("storyteller", QUESTION, tools=[add])
        raise AssertionError("no error")
    except ollama.ResponseError as error:
        assert error.status_code == 400 and "does not support tools" in error.error, error.error


def typed():
    """Answers of a schema, whole and streamed, by chat and generate."""
    options = COLD | {"num_predict": 500}
    whole = chat(format=SCHEMA, options=options)
    item = Item.model_validate_json(whole.message.content)
    assert whole.done_reason == "stop", whole.done_reason
    parts = list(chat(format=SCHEMA, options=options, stream=True))
    assert "".join(part.message.content or "" for part in parts) == whole.message.content
    made = client.generate(MODEL, "An item:", format=SCHEMA, options=options)
    Item.model_validate_json(made.response)
    # With functions beside it: a call or the item.
    both = chat(format=SCHEMA, tools=[add], options=options)
    if not both.message.tool_calls:
        Item.model_validate_json(both.message.content)
    cut = chat(format=SCHEMA, options=COLD | {"num_predict": 3})
    assert cut.done_reason == "length" and whole.message.content.startswith(cut.message.content)
    # A lively answer is of the schema too.
    for seed in range(3):
        lively = chat(format=SCHEMA, options={"temperature": 1.5, "seed": seed, "num_predict": 500})
        Item.model_validate_json(lively.message.content)
    return item


def refused():
    try:
        chat(format={"type": "object", "properties": {"a": {"not": {"type": "string"}}}})
        raise AssertionError("no error")
    except ollama.ResponseError as error:
        assert error.status_code == 400 and "#/properties/a/not" in error.error, error.error


def langchain(item):
    model = ChatOllama(model=MODEL, base_url=BASE_URL, temperature=0, num_predict=500)
    tools = {"add": tool(add), "count_letters": tool(count_letters)}
    short = ChatOllama(model=MODEL, base_url=BASE_URL, temperature=0, num_predict=24)
    # Of 512 tokens of context, conversation and functions leave little.
    able = short.bind_tools([tools["add"]])
    question = HumanMessage(QUESTION[0]["content"])
    first = able.invoke([question])
    assert isinstance(first, AIMessage) and (first.content or first.tool_calls)
    # A call of the past, as it keeps them: with an id that it does not send.
    calls = [
        {"name": "add", "args": {"a": 2, "b": 3}, "id": "1", "type": "tool_call"},
        {"name": "count_letters", "args": {"text": "a dog"}, "id": "2", "type": "tool_call"},
    ]
    results = [tools[call["name"]].invoke(call) for call in calls]
    after = able.invoke([question, AIMessage("", tool_calls=calls), *results])
    assert after.content or after.tool_calls
    assert after.usage_metadata["input_tokens"] > first.usage_metadata["input_tokens"]

    typed = model.with_structured_output(Item)
    assert typed.invoke(QUESTION[0]["content"]) == item
    asked = model.with_structured_output(Item, method="json_mode", include_raw=True)
    raw = asked.invoke(QUESTION[0]["content"])["raw"]
    assert raw.content.lstrip().startswith("{"), raw.content


functions()
item = typed()
refused()
langchain(item)
print("ollama (PyPI), langchain-ollama: functions and typed answers: ok")
