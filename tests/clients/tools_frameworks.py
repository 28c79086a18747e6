"""Typed answers with `instructor`, functions and typed answers with `pydantic-ai`."""

import instructor
import openai
from pydantic_ai import Agent, NativeOutput
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.ollama import OllamaProvider
from pydantic_ai.providers.openai import OpenAIProvider

from tools import BASE_URL, COLD, KEY, MODEL, QUESTION, Item, run

SETTINGS = {"temperature": 0, "max_tokens": 500, "parallel_tool_calls": False}


def instructed():
    client = openai.OpenAI(base_url=f"{BASE_URL}/v1", api_key=KEY, max_retries=0)
    for mode in [instructor.Mode.TOOLS, instructor.Mode.JSON_SCHEMA]:
        ask = instructor.from_openai(client, mode=mode).chat.completions.create
        single = {"parallel_tool_calls": False} if mode == instructor.Mode.TOOLS else {}
        fields = {"model": MODEL, "messages": QUESTION, "max_tokens": 500, **COLD, **single}
        item = ask(**fields, response_model=Item, max_retries=0)
        assert isinstance(item, Item), item


class CallsFirst(AbstractCapability):
    """The first answer must call a function, the later ones must not."""

    def get_model_settings(self):
        return lambda context: {"tool_choice": ["add"] if context.run_step == 1 else "none"}


def agents(provider):
    model = OpenAIChatModel(MODEL, provider=provider(base_url=f"{BASE_URL}/v1", api_key=KEY))
    question = QUESTION[0]["content"]
    for output in [Item, NativeOutput(Item)]:
        result = Agent(model, output_type=output, model_settings=SETTINGS).run_sync(question)
        assert isinstance(result.output, Item), result

    called = []

    def add(a: int, b: int) -> str:
        """Adds two numbers."""
        called.append((a, b))
        return str(a + b)

    agent = Agent(
        model, tools=[add], capabilities=[CallsFirst()], model_settings=SETTINGS
    )
    result = agent.run_sync(question)
    assert result.output and called, result


instructed()
agents(OpenAIProvider)
agents(OllamaProvider)
print("instructor, pydantic-ai: functions and typed answers: ok")
