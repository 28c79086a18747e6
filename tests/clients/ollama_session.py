"""A session of the official `ollama` client (PyPI) with the server at BASE_URL.

With REGISTRY (host:port of a registry that speaks http) a model is pushed and pulled.
"""

import os

import ollama

client = ollama.Client(host=os.environ["BASE_URL"])
M = "storyteller"


def refused(status, work):
    try:
        work()
    except ollama.ResponseError as error:
        assert error.status_code == status, (error.status_code, error.error)
        return error.error
    raise AssertionError("no error")


# What is here.
names = [model.model for model in client.list().models]
assert names == ["storyteller:latest"], names
about = client.show(M)
assert about.details.family == "llama" and about.modelinfo["general.architecture"] == "llama"
assert "completion" in about.capabilities

# Completion, streamed and whole.
options = {"temperature": 0, "num_predict": 24}
whole = client.generate(M, "Once upon a time", options=options)
assert whole.done and whole.done_reason == "length" and whole.eval_count == 24
assert whole.prompt_eval_count > 0 and whole.eval_duration > 0 and whole.total_duration > 0
pieces = list(client.generate(M, "Once upon a time", options=options, stream=True))
assert "".join(piece.response for piece in pieces) == whole.response
assert pieces[-1].done and not any(piece.done for piece in pieces[:-1])
more = client.generate(M, "and then", context=whole.context, options=options)
assert more.prompt_eval_count > whole.prompt_eval_count

# Conversation.
question = {"role": "user", "content": "Tell me a story about a cat."}
answer = client.chat(M, [question], options=options)
assert answer.message.role == "assistant" and answer.message.content
streamed = client.chat(M, [question], options=options, stream=True)
assert "".join(part.message.content for part in streamed) == answer.message.content
history = [question, answer.message, {"role": "user", "content": "Go on."}]
assert client.chat(M, history, options=options).message.content
logged = client.chat(M, [question], logprobs=True, top_logprobs=2, options={"num_predict": 3})
assert len(logged.logprobs) == 3 and len(logged.logprobs[0].top_logprobs) == 2

# Vectors.
vectors = client.embed(M, ["a cat", "a dog"]).embeddings
assert len(vectors) == 2 and abs(sum(x * x for x in vectors[0]) - 1) < 1e-3
assert len(client.embeddings(M, "a cat").embedding) == len(vectors[0])
assert len(client.embed(M, "a cat", dimensions=16).embeddings[0]) == 16

# In memory, and out of it.
running = client.ps().models
assert [model.model for model in running] == ["storyteller:latest"] and running[0].size > 0
client.generate(M, keep_alive=0)

# Models of one's own.
steps = client.create("mario", from_=M, system="You are Mario.", parameters={"num_predict": 5},
                      stream=True)
assert [step.status for step in steps][-1] == "success"
assert client.show("mario").modelfile.find("SYSTEM You are Mario.") >= 0
assert client.generate("mario", "Once").eval_count == 5
client.copy("mario", "luigi")
assert {m.model for m in client.list().models} == {
    "mario:latest", "luigi:latest", "storyteller:latest"
}

# A blob of one's own.
blob = client.create_blob(os.environ["GGUF"])
assert blob.startswith("sha256:")
assert client.create("fromfile", files={"model.gguf": blob}).status == "success"
assert client.generate("fromfile", "Once", options=options).response

# A registry.
registry = os.environ.get("REGISTRY")
if registry:
    name = f"{registry}/me/mario:v1"
    client.copy("mario", name)
    assert list(client.push(name, insecure=True, stream=True))[-1].status == "success"
    client.delete(name)
    refused(404, lambda: client.show(name))
    seen = [step.status for step in client.pull(name, insecure=True, stream=True)]
    assert seen[0] == "pulling manifest" and seen[-1] == "success", seen
    assert client.generate(name, "Once").eval_count == 5
    client.delete(name)
    try:
        client.pull(f"{registry}/me/nothing", insecure=True)
        raise AssertionError("no error")
    except ollama.ResponseError as error:
        assert "file does not exist" in error.error, error.error

# Errors.
assert refused(404, lambda: client.chat("missing", [question])) == "model 'missing' not found"
assert refused(404, lambda: client.show("missing")) == "model 'missing:latest' not found"
assert "thinking" in refused(400, lambda: client.chat(M, [question], think=True))
tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
assert "does not support tools" in refused(400, lambda: client.chat(M, [question], tools=tools))
refused(404, lambda: client.delete("missing"))

# What is loaded keeps the name that it was loaded by.
client.generate("mario", keep_alive=0)
for name in ["mario", "luigi", "fromfile"]:
    client.delete(name)
assert [model.model for model in client.list().models] == ["storyteller:latest"]
print("ollama (PyPI): ok")
