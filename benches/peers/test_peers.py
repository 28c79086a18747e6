"""Tests of the comparison's own parts: python3 -m unittest discover benches/peers

Nothing is measured. The documented tables and plots must be those of the stored figures.
"""

import json
import unittest
import xml.etree.ElementTree as xml
from pathlib import Path

import plot
import results
import rows

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
LIMITS = {"bandwidth_pct": 80.0, "peak_pct": 7.0}


def rounds_of(figures, candle=None):
    """Rounds of (ours, peer) with one configuration, and a slower second one."""
    def pair(ours, peer):
        return {"ours": ours, "peer": peer, "limits": LIMITS}

    return [{"pairs": {(0, 1): pair(a, b), (1, 1): pair(a, b / 2)}, "candle": candle}
            for a, b in figures]


class Rows(unittest.TestCase):
    def test_names(self):
        row = rows.parse("tg64x4@8192")
        self.assertEqual((row.prompt, row.n, row.batch, row.depth), (False, 64, 4, 8192))
        self.assertEqual(row.length, 8256)
        for wrong in ("", "tg", "pp0", "tg64x", "xy512", "pp512@"):
            with self.assertRaises(SystemExit):
                rows.parse(wrong)


class Results(unittest.TestCase):
    def test_the_best_peer_counts_and_ratios_are_of_pairs(self):
        found = results.result("m.gguf", "tg64", 2, rounds_of([(10, 8), (30, 10), (20, 20)], 5))
        self.assertEqual(found["peer_config"], "repack off, fa on")
        self.assertEqual((found["ours"], found["peer"]), (20, 10))
        self.assertEqual((found["low"], found["ratio"], found["high"]), (1, 1.25, 3))
        self.assertEqual(found["candle_ratio"], 4)
        self.assertIn("**1.25** (1.00–3.00)", results.table([found])[2])
        self.assertIn("80 % of the read bandwidth", results.table([found])[2])

    def test_start_is_in_seconds(self):
        pair = {"ours": 4, "peer": 2, "memory": 4.4e9, "peer_memory": 4.5e9}
        found = results.result("m.gguf", "start", 1, [{"pairs": {(0, 0): pair}, "candle": None}])
        line = results.table([found])[2]
        for cell in ("0.25 s |", "0.50 s (repack off, fa off) |", "**2.00** |", "4.40 GB"):
            self.assertIn(cell, line)


class Plot(unittest.TestCase):
    def test_it_is_xml_with_a_bar_for_each_row(self):
        found = [results.result("a<b>.gguf", name, 1, rounds_of([(10, 8), (30, 10)]))
                 for name in ("pp512", "tg64")]
        run = {"machine": "A & B", "date": "2026-01-01", "ours": "x", "peer": "y", "results": found}
        tree = xml.fromstring(plot.draw(json.loads(json.dumps(run))))
        bars = [e for e in tree.iter("{http://www.w3.org/2000/svg}rect") if e.get("height") == "14"]
        self.assertEqual([bar.get("class") for bar in bars], ["pp", "tg"])

    def test_the_documents_show_the_stored_figures(self):
        page = (DOCS / "benchmarks.md").read_text()
        stored = sorted((DOCS / "lab/data").glob("*.json"))
        self.assertTrue(stored)
        for path in stored:
            run = json.loads(path.read_text())
            drawn = DOCS / f"benchmarks-{path.stem}.svg"
            self.assertEqual(drawn.read_text(), plot.draw(run), f"draw {drawn.name} again")
            self.assertIn("\n".join(results.table(run["results"])), page)


if __name__ == "__main__":
    unittest.main()
