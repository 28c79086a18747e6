"""Judges answers under constraints: every one that ended by itself must be valid.

A line of the file: {"schema": …, "draft": …, "name": …, "ended": bool, "text": …}.
"""
import json
import re
import sys
from collections import Counter

import jsonschema

VALIDATORS = {
    "draft2020-12": jsonschema.Draft202012Validator,
    "draft7": jsonschema.Draft7Validator,
}
counts, wrong = Counter(), []
for line in open(sys.argv[1], encoding="utf-8"):
    case = json.loads(line)
    if not case["ended"]:
        counts["cut"] += 1
        continue
    counts["ended"] += 1
    validator = VALIDATORS[case["draft"]]
    checker = validator.FORMAT_CHECKER
    try:
        value = json.loads(case["text"])
        problems = list(validator(case["schema"], format_checker=checker).iter_errors(value))
    except re.error:
        # Python has no Unicode classes in patterns.
        counts["not judged"] += 1
        continue
    except ValueError as error:
        problems = [error]
    if problems:
        counts["wrong"] += 1
        wrong.append((case["draft"], case["name"], case["text"][:200], str(problems[0])[:200]))
print(f"answers under constraints: {dict(counts)}")
for case in wrong[:20]:
    print("WRONG:", *case, sep="\n    ")
if counts["ended"] < 1000 or wrong:
    sys.exit(1)
