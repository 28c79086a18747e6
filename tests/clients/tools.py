"""What the sessions with functions and typed answers have in common.

The model is the built-in one behind a template that shows functions. It was not trained to
call them: where a client can say that it must, it does, and names and arguments have their
form because the server enforces the schemas. What they say is meaningless.
"""

import os
from typing import Literal, Optional

from pydantic import BaseModel, Field

BASE_URL = os.environ["BASE_URL"].rstrip("/")
MODEL = os.environ.get("TOOLS_MODEL", "caller")
KEY = os.environ.get("API_KEY", "unused")
QUESTION = [{"role": "user", "content": "What is 2 plus 3, and how long is 'a dog'?"}]
COLD = {"temperature": 0}


class Item(BaseModel):
    """Something in a shop. The bounds keep the small model from going on for ever."""

    name: str = Field(description="what it is", max_length=16)
    price: int = Field(ge=0, le=999)
    kind: Optional[Literal["food", "tool"]] = None
    sizes: list[Literal["small", "large"]] = Field(max_length=2)


NUMBER = {"type": "integer", "minimum": 0, "maximum": 99}
ADD = {
    "type": "object",
    "properties": {"a": NUMBER, "b": NUMBER},
    "required": ["a", "b"],
    "additionalProperties": False,
}
COUNT = {
    "type": "object",
    "properties": {"text": {"type": "string", "maxLength": 16}},
    "required": ["text"],
    "additionalProperties": False,
}
SCHEMAS = {"add": ADD, "count_letters": COUNT}
DESCRIPTIONS = {"add": "Adds two numbers", "count_letters": "Counts the letters of a text"}


def run(name, arguments):
    """Runs a call; arguments that are not those of the schema fail here."""
    if name == "add":
        assert set(arguments) == {"a", "b"}, arguments
        assert all(isinstance(n, int) and 0 <= n <= 99 for n in arguments.values()), arguments
        return str(arguments["a"] + arguments["b"])
    assert name == "count_letters" and set(arguments) == {"text"}, (name, arguments)
    assert len(arguments["text"]) <= 16, arguments
    return str(len(arguments["text"]))
