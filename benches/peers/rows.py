"""Names of rows: TEST[xBATCH][@DEPTH], as in pp512, tg64, tg64x4, tg64@8192."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    name: str
    prompt: bool  # pp: a prompt of n tokens; tg: n steps of one token
    n: int
    batch: int
    depth: int

    @property
    def length(self):
        """Positions that each sequence needs."""
        return self.depth + self.n


def parse(name):
    found = re.fullmatch(r"(pp|tg)(\d+)(?:x(\d+))?(?:@(\d+))?", name)
    if not found or not int(found[2]):
        raise SystemExit(f"row {name!r}: expected TEST[xBATCH][@DEPTH], as in tg64x4@8192")
    batch, depth = int(found[3] or 1), int(found[4] or 0)
    return Row(name, found[1] == "pp", int(found[2]), batch, depth)
