"""Writes jinja2_vectors.json: expressions and templates with what Python's jinja2 makes of them.

The environment is that of `apply_chat_template` in Hugging Face transformers
(`_compile_jinja_template`). The clock stands at 2025-01-15 12:34:56. `null` in place of an
output: jinja2 refuses the template or its rendering.

    pip install jinja2==3.1.6
    python3 jinja2_vectors.py > jinja2_vectors.json
"""

import datetime
import json
import sys

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox

from jinja2_cases import CONTEXT, EXPRESSIONS, TEMPLATES


class Generation(jinja2.ext.Extension):
    """`{% generation %}`: its body, in a scope of its own, as transformers' tracker renders it."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        call = self.call_method("_render")
        return jinja2.nodes.CallBlock(call, [], [], body).set_lineno(line)

    def _render(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(
        x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def strftime_now(format):
    return datetime.datetime(2025, 1, 15, 12, 34, 56).strftime(format)


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = strftime_now
    return env


def outcome(env, source):
    try:
        return env.from_string(source).render(**CONTEXT)
    except Exception as error:
        print(f"{source!r}: {type(error).__name__}: {error}", file=sys.stderr)
        return None


def main():
    env = environment()
    groups = {
        group: [[source, outcome(env, "{{ " + source + " }}")] for source in sources]
        for group, sources in EXPRESSIONS.items()
    }
    templates = [[source, outcome(env, source)] for source in TEMPLATES]
    vectors = {"context": CONTEXT, "expressions": groups, "templates": templates}
    text = json.dumps(vectors, ensure_ascii=False, separators=(",", ":"))
    # One vector a line.
    print(text.replace("],[", "],\n["))


if __name__ == "__main__":
    main()
