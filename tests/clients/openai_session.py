"""A session of the official `openai` and `anthropic` libraries with a server.

BASE_URL=http://127.0.0.1:11434 [MODEL=storyteller] python openai_session.py
"""

import os

import anthropic
import openai

BASE_URL = os.environ["BASE_URL"].rstrip("/")
MODEL = os.environ.get("MODEL", "storyteller")
KEY = os.environ.get("API_KEY", "unused")
QUESTION = [{"role": "user", "content": "Tell me about a dog."}]
# Enough for a sentence, little for a slow machine; the same answer each time.
SAME = {"max_tokens": 16, "temperature": 0}

client = openai.OpenAI(base_url=f"{BASE_URL}/v1", api_key=KEY, max_retries=0)
claude = anthropic.Anthropic(base_url=BASE_URL, api_key=KEY, max_retries=0)


def refused(kind, call, *words):
    """`call` must end with an error of `kind` that says `words`."""
    try:
        call()
    except kind as error:
        for word in words:
            assert word in str(error), f"{word!r} is not in {error}"
        return error
    raise AssertionError(f"no {kind.__name__}")


def models():
    names = [model.id for model in client.models.list()]
    assert any(name.split(":")[0] == MODEL.split(":")[0] for name in names), names
    one = client.models.retrieve(MODEL)
    assert one.id == MODEL and one.object == "model" and one.owned_by
    refused(openai.NotFoundError, lambda: client.models.retrieve("some/nobody"), "not found")


def chat():
    reply = client.chat.completions.create(model=MODEL, messages=QUESTION, **SAME)
    text, usage = reply.choices[0].message.content, reply.usage
    assert text and reply.choices[0].message.role == "assistant"
    assert reply.id.startswith("chatcmpl-") and reply.choices[0].finish_reason == "length"
    assert usage.completion_tokens == 16
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens

    usage_too = {"stream": True, "stream_options": {"include_usage": True}}
    chunks = list(
        client.chat.completions.create(model=MODEL, messages=QUESTION, **SAME, **usage_too)
    )
    assert chunks[0].choices[0].delta.role == "assistant"
    said = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert said == text, (said, text)
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[-2].choices[0].finish_reason == "length"
    assert chunks[-1].choices == [] and chunks[-1].usage.total_tokens == usage.total_tokens
    # The library's own accumulation of a stream.
    word = text.split()[3]
    until = {"model": MODEL, "messages": QUESTION, "stop": word, **SAME}
    with client.chat.completions.stream(**until) as stream:
        whole = stream.get_final_completion()
    assert whole.choices[0].message.content == text.split(word)[0]
    return text


def chat_options(text):
    word = text.split()[3]
    reply = client.chat.completions.create(
        model=MODEL, messages=QUESTION, stop=[word], max_completion_tokens=16, temperature=0
    )
    assert reply.choices[0].finish_reason == "stop"
    assert reply.choices[0].message.content == text.split(word)[0]

    seeded = {"max_tokens": 12, "temperature": 1.5, "seed": 7}
    one, two = (
        client.chat.completions.create(model=MODEL, messages=QUESTION, **seeded) for _ in range(2)
    )
    assert one.choices[0].message.content == two.choices[0].message.content

    reply = client.chat.completions.create(
        model=MODEL, messages=QUESTION, logprobs=True, top_logprobs=2, **SAME
    )
    tokens = reply.choices[0].logprobs.content
    assert len(tokens) == 16
    assert all(len(token.top_logprobs) == 2 and token.logprob <= 0 for token in tokens)

    extra = {"num_ctx": 128, "keep_alive": "1m", "options": {"top_k": 5}}
    parts = [{"type": "text", "text": "Tell me"}, {"type": "text", "text": "about a dog."}]
    messages = [
        {"role": "developer", "content": "You tell stories."},
        {"role": "user", "content": parts},
    ]
    reply = client.chat.completions.create(
        model=MODEL, messages=messages, extra_body=extra, **SAME
    )
    assert reply.choices[0].message.content


def chat_errors():
    def ask(**fields):
        request = {"model": MODEL, "messages": QUESTION} | fields
        return lambda: client.chat.completions.create(**request)

    error = refused(openai.NotFoundError, ask(model="nobody"), "nobody", "not found")
    assert error.type == "not_found_error" and error.status_code == 404
    refused(openai.NotFoundError, ask(model="nobody", stream=True), "not found")
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    refused(openai.BadRequestError, ask(tools=[tool]), "does not support tools")
    refused(openai.BadRequestError, ask(response_format={"type": "xml"}), "json_schema")
    refused(openai.BadRequestError, ask(n=2), "n must be 1")
    refused(openai.BadRequestError, ask(messages=[]), "too short")
    picture = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]
    pictures = [{"role": "user", "content": picture}]
    refused(openai.BadRequestError, ask(messages=pictures), "images are not supported")


def completions():
    fields = {"model": MODEL, "prompt": "Once upon a time", **SAME}
    reply = client.completions.create(**fields)
    text = reply.choices[0].text
    assert text and reply.object == "text_completion" and reply.usage.completion_tokens == 16
    chunks = list(client.completions.create(**fields, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == text
    assert chunks[-1].choices[0].finish_reason == "length"
    logprobs = client.completions.create(**fields, logprobs=2).choices[0].logprobs
    assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(logprobs.top_logprobs) == 16
    tokens = fields | {"prompt": [1, 2, 3]}
    refused(openai.BadRequestError, lambda: client.completions.create(**tokens), "tokens")


def embeddings():
    # The library asks for base64 by itself and decodes it.
    coded = client.embeddings.create(model=MODEL, input=["a dog", "the sea"])
    plain = client.embeddings.create(
        model=MODEL, input=["a dog", "the sea"], encoding_format="float"
    )
    for one, two in zip(coded.data, plain.data):
        assert max(abs(a - b) for a, b in zip(one.embedding, two.embedding)) < 1e-6
        assert abs(sum(x * x for x in one.embedding) - 1) < 1e-3
    cut = client.embeddings.create(model=MODEL, input="a dog", dimensions=8)
    assert len(cut.data[0].embedding) == 8 and cut.usage.prompt_tokens > 0
    refused(openai.BadRequestError, lambda: client.embeddings.create(model=MODEL, input=[]), "input")


def responses():
    fields = {"model": MODEL, "input": "Tell me about a dog.", "temperature": 0}
    reply = client.responses.create(**fields, max_output_tokens=16, instructions="Be kind.")
    assert reply.output_text and reply.status == "incomplete"
    assert reply.incomplete_details.reason == "max_output_tokens"
    assert reply.usage.output_tokens == 16 and reply.instructions == "Be kind."

    events = list(
        client.responses.create(
            **fields, max_output_tokens=16, instructions="Be kind.", stream=True
        )
    )
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created" and events[-1].type == "response.incomplete"
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert "".join(deltas) == reply.output_text
    assert events[-1].response.output_text == reply.output_text

    # One that comes to its end, accumulated by the library.
    word = reply.output_text.split()[3]
    stop = {"options": {"stop": [word]}}
    with client.responses.stream(**fields, instructions="Be kind.", extra_body=stop) as stream:
        whole = stream.until_done().get_final_response()
    assert whole.status == "completed" and whole.output_text == reply.output_text.split(word)[0]

    again = fields | {"previous_response_id": reply.id}
    refused(openai.BadRequestError, lambda: client.responses.create(**again), "keeps no")


def messages():
    # Newer versions of the library have no argument for the temperature.
    cold = {"extra_body": {"temperature": 0}}
    fields = {"model": MODEL, "messages": QUESTION, "max_tokens": 16, **cold}
    reply = claude.messages.create(**fields, system="Be kind.")
    text = reply.content[0].text
    assert text and reply.type == "message" and reply.stop_reason == "max_tokens"
    assert reply.usage.output_tokens == 16 and reply.usage.input_tokens > 3
    with claude.messages.stream(**fields, system="Be kind.") as stream:
        assert "".join(stream.text_stream) == text
        final = stream.get_final_message()
    assert final.stop_reason == "max_tokens" and final.usage.output_tokens == 16
    assert final.usage.input_tokens == reply.usage.input_tokens
    word = text.split()[3]
    reply = claude.messages.create(**fields, system="Be kind.", stop_sequences=[word])
    assert reply.stop_reason == "stop_sequence" and reply.stop_sequence == word
    assert reply.content[0].text == text.split(word)[0]

    nobody = fields | {"model": "nobody"}
    error = refused(anthropic.NotFoundError, lambda: claude.messages.create(**nobody), "not found")
    assert error.body["error"]["type"] == "not_found_error"
    tools = fields | {"tools": [{"name": "f", "input_schema": {"type": "object"}}]}
    refused(anthropic.BadRequestError, lambda: claude.messages.create(**tools), "support tools")


def habits():
    """What programs do with these libraries that no documentation shows."""
    # An answer that was only a thought, or was cancelled.
    past = [*QUESTION, {"role": "assistant", "content": None}, {"role": "user", "content": "Go on."}]
    reply = client.chat.completions.create(model=MODEL, messages=past, **SAME)
    assert reply.choices[0].message.content

    # A base URL with a slash too many.
    for url in (f"{BASE_URL}/v1/", f"{BASE_URL}//v1"):
        other = openai.OpenAI(base_url=url, api_key=KEY, max_retries=0)
        assert [model.id for model in other.models.list()]
        assert other.chat.completions.create(model=MODEL, messages=QUESTION, **SAME).choices
    other = anthropic.Anthropic(base_url=f"{BASE_URL}/", api_key=KEY, max_retries=0)
    assert other.messages.create(model=MODEL, messages=QUESTION, max_tokens=2).content
    counted = other.messages.count_tokens(model=MODEL, messages=QUESTION)

    # An answer that is begun by the client.
    begun = [*QUESTION, {"role": "assistant", "content": "Once upon a time, there was a dog named"}]
    reply = client.chat.completions.create(model=MODEL, messages=begun, **SAME)
    said = other.messages.create(
        model=MODEL, messages=begun, max_tokens=16, extra_body={"temperature": 0}
    )
    assert said.content[0].text == reply.choices[0].message.content
    assert reply.choices[0].message.content.startswith(" "), reply.choices[0].message.content
    assert said.usage.input_tokens > counted.input_tokens
    thinking = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
    # Of a model that does not think, as clients ask every model for it.
    asked = other.messages.create(
        model=MODEL, messages=QUESTION, max_tokens=2, extra_body=thinking
    )
    assert [block.type for block in asked.content] == ["text"], asked


def cancelled():
    """The prompt of an answer that the client gave up is not computed again."""
    long = [{"role": "user", "content": "Tell me about a dog and a cat. " * 15}]
    asked = {"model": MODEL, "messages": long, "temperature": 0}
    with client.chat.completions.create(**asked, max_tokens=100, stream=True) as stream:
        for _ in zip(range(5), stream):
            pass
    usage = client.chat.completions.create(**asked, max_tokens=1).usage
    assert usage.prompt_tokens > 100, usage
    assert usage.prompt_tokens_details.cached_tokens >= usage.prompt_tokens - 64, usage


def main():
    models()
    text = chat()
    chat_options(text)
    chat_errors()
    completions()
    embeddings()
    responses()
    messages()
    habits()
    cancelled()
    print(f"openai {openai.__version__}, anthropic {anthropic.__version__}: all as expected")


if __name__ == "__main__":
    main()
