"""A session of `langchain-ollama` with the server at BASE_URL."""

import os

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM

base_url = os.environ["BASE_URL"]
model = "storyteller"

chat = ChatOllama(model=model, base_url=base_url, temperature=0, num_predict=24)
whole = chat.invoke([SystemMessage("Be short."), HumanMessage("Tell me a story about a cat.")])
assert isinstance(whole, AIMessage) and whole.content
assert whole.response_metadata["done_reason"] == "length"
assert whole.usage_metadata["output_tokens"] == 24
parts = list(chat.stream([SystemMessage("Be short."), HumanMessage("Tell me a story about a cat.")]))
assert "".join(part.content for part in parts) == whole.content
assert len(parts) > 3
answers = chat.batch(["Tell me a story.", "Tell me a tale."])
assert all(answer.content for answer in answers)

text = OllamaLLM(model=model, base_url=base_url, temperature=0, num_predict=8)
assert text.invoke("Once upon a time")

vectors = OllamaEmbeddings(model=model, base_url=base_url)
assert len(vectors.embed_documents(["a cat", "a dog"])) == 2
assert vectors.embed_query("a cat")

try:
    ChatOllama(model="missing", base_url=base_url).invoke("hi")
    raise AssertionError("no error")
except Exception as error:  # noqa: BLE001: whatever class it is, it must name the model
    assert "missing" in str(error), error
print("langchain-ollama: ok")
