# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of bench/model_steps, and how it starts programs. Run from the repository's root; ctest does."""
import contextlib
import importlib.machinery
import importlib.util
import io
import json
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

sys.dont_write_bytecode = True
loader = importlib.machinery.SourceFileLoader("model_steps", "bench/model_steps")
model_steps = importlib.util.module_from_spec(importlib.util.spec_from_loader("model_steps", loader))
loader.exec_module(model_steps)

FACTORS = {"isobar": 1, "isobar_recompute": 2, "anemoi": 4, "anemoi_recompute": 6}


def row_of(name, seconds, **more):
    return {"parameters": 7, "repeats": 5, "step_s": seconds, "forward_s": 0.1, "error": 0, **more}


def run_of(name, number, hidden=3, **more):
    """Rounds differ by more than programs do."""
    return {"program": name, "round": number, "hidden": hidden, **row_of(name, FACTORS[name] * (1 + 10 * number), **more)}


def exact(ratio):
    return {"ratio": ratio, "low": ratio, "high": ratio}


class Ratios(unittest.TestCase):
    def rows(self, runs, *options):
        return {(row["hidden"], row["program"]): row for row in model_steps.summarize(runs, model_steps.parse(list(options)))}

    def test_compare_with_as_much_recomputation_and_with_none(self):
        rows = self.rows([run_of(name, i, hidden) for i in range(10) for hidden in (3, 4) for name in FACTORS])
        self.assertEqual(len(rows), 8)
        recompute = rows[4, "isobar_recompute"]
        self.assertEqual((recompute["step_over_peer"], recompute["step_over_plain"]), (exact(2 / 6), exact(2)))
        self.assertEqual(rows[3, "isobar"]["step_over_peer"], exact(1 / 4))
        self.assertEqual(rows[3, "anemoi"]["step_over_peer"], exact(1))
        self.assertEqual((recompute["rounds"], recompute["repeats"]), (10, 50))

    def test_of_memory_are_there_where_both_programs_tell(self):
        told = {"anemoi": 100, "isobar": 50}
        runs = [run_of(name, 0, added_bytes=told.get(name)) for name in FACTORS]
        rows = self.rows(runs, "--hidden", "3")
        self.assertEqual(rows[3, "isobar"]["added_over_peer"], exact(0.5))
        self.assertIsNone(rows[3, "isobar_recompute"]["added_over_peer"])
        self.assertEqual((rows[3, "isobar"]["added_bytes"], rows[3, "isobar_recompute"]["added_bytes"]), (50, None))

    def test_do_without_programs_that_were_not_asked_for(self):
        rows = self.rows([run_of("isobar", 0)], "--programs", "isobar", "--hidden", "3")
        self.assertIsNone(rows[3, "isobar"]["step_over_peer"])
        self.assertIn(" - ", model_steps.table(list(rows.values())))

    def test_leave_out_a_round_that_was_not_finished(self):
        runs = [*(run_of(name, 0) for name in FACTORS), run_of("isobar", 1)]
        self.assertEqual({row["rounds"] for row in self.rows(runs, "--hidden", "3").values()}, {1})
        self.assertEqual(self.rows(runs[:2]), {})


class Programs(unittest.TestCase):
    def command(self, name, *options):
        files = ("graph.h5", "gradients.safetensors")
        return " ".join(model_steps.command_of(name, model_steps.parse(["--folder", "bin", *options]), 4, files))

    def test_get_the_same_network(self):
        network = "--channels=128 --layers=8 --prognostic=10 --forcing=2 --threads=2 --seed=0 --optimizer=adamw"
        for name in FACTORS:
            self.assertIn(network, self.command(name))
            self.assertEqual("--recompute" in self.command(name), name.endswith("_recompute"))
        self.assertIn("bin/isobar bench step --model gnn --sync none --stream-seconds 0 --memory --grid O32 --hidden 4",
                      self.command("isobar"))
        self.assertIn("--graph graph.h5 --gradients gradients.safetensors", self.command("anemoi"))
        self.assertTrue(self.command("anemoi", "--anemoi", "--mapper-chunks 2").endswith("--mapper-chunks 2"))

    def test_are_known_by_name(self):
        with self.assertRaisesRegex(model_steps.Failure, "no program 'anemone'; choose from isobar, "):
            self.command("anemone")


class Rounds(unittest.TestCase):
    """With programs that are answered for."""

    def start(self, answer, *options):
        """(exit code, report, what was started)."""
        started = []

        def measured(command, _):
            started.append(command)
            return {"commit": "c", "rows": [answer(command)]}

        with tempfile.TemporaryDirectory() as folder, mock.patch.object(model_steps, "measure", measured), \
                contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            file = Path(folder) / "rows.json"
            code = model_steps.main(["--rounds", "2", "--json", str(file), *options])
            return code, json.loads(file.read_text(encoding="utf-8")), started

    def test_rotate_after_isobar_has_written_its_graph_of_each_mesh(self):
        code, report, started = self.start(lambda _: row_of("any", 1.0))
        self.assertEqual(code, 0)
        self.assertEqual(["--dump-graph" in command for command in started[:3]], [True, True, False])
        self.assertEqual(len(started), 2 + 2 * 2 * 4)
        first = [run["program"] for run in report["runs"]]
        self.assertEqual((first[0], first[4], first[8]), ("isobar", "isobar", "isobar_recompute"))
        self.assertEqual([run["hidden"] for run in report["runs"][:8]], [3] * 4 + [4] * 4)

    def test_refuse_to_compare_other_networks(self):
        code, report, _ = self.start(lambda command: row_of("any", 1.0) | {"parameters": 8 if "--graph" in command else 7})
        self.assertEqual(code, 1)
        self.assertEqual(report["rows"], [])

    def test_fail_where_gradients_were_wrong(self):
        code, _, _ = self.start(lambda command: row_of("any", 1.0) | {"error": 1e-3 if "--graph" in command else 0})
        self.assertEqual(code, 1)


if __name__ == "__main__":
    unittest.main()
