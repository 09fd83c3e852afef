# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of bench/steps. Run from the repository's root; ctest does."""
import importlib.machinery
import importlib.util
import sys
import unittest

sys.dont_write_bytecode = True
loader = importlib.machinery.SourceFileLoader("steps", "bench/steps")
steps = importlib.util.module_from_spec(importlib.util.spec_from_loader("steps", loader))
loader.exec_module(steps)


def run_of(program, number, seconds, bound=0.5, error=0):
    times = {key: 0.1 for key in steps.TIMES} | {"bound_s": bound}
    return {**{key: None for key in steps.FIXED}, **times, "program": program, "round": number, "repeats": 5,
            "step_s": seconds, "error": error}


class Ratios(unittest.TestCase):
    def test_compare_within_a_round(self):
        # Half as fast in every round, though the rounds differ by more than that.
        runs = [run_of(name, i, factor * (1 + i)) for i in range(10) for name, factor in [("isobar", 1), ("peer", 2)]]
        isobar, peer = steps.summarize(runs, ["isobar", "peer"])
        self.assertEqual(isobar["step_over_first"], {"ratio": 1, "low": 1, "high": 1})
        self.assertEqual(peer["step_over_first"], {"ratio": 2, "low": 2, "high": 2})
        self.assertEqual((peer["step_s"], peer["step_min_s"], peer["step_max_s"]), (11, 2, 20))
        self.assertEqual((peer["rounds"], peer["repeats"]), (10, 50))

    def test_take_each_run_with_its_own_bound(self):
        runs = [run_of("isobar", i, 1.2 * bound, bound) for i, bound in enumerate([1.0, 2.0, 4.0])]
        (row,) = steps.summarize(runs, ["isobar"])
        self.assertAlmostEqual(row["step_over_bound"]["low"], 1.2)
        self.assertAlmostEqual(row["step_over_bound"]["high"], 1.2)

    def test_do_without_a_bound(self):
        (row,) = steps.summarize([run_of("isobar", 0, 1, bound=None)], ["isobar"])
        self.assertEqual((row["bound_s"], row["step_over_bound"]), (None, None))
        self.assertIn(" - ", steps.table([row], "isobar"))

    def test_leave_out_a_round_that_was_not_finished(self):
        runs = [run_of("isobar", 0, 1), run_of("peer", 0, 2), run_of("peer", 1, 5)]
        self.assertEqual([row["step_s"] for row in steps.summarize(runs, ["isobar", "peer"])], [1, 2])
        self.assertEqual(steps.summarize(runs[:1], ["isobar", "peer"]), [])

    def test_keep_the_largest_error(self):
        (row,) = steps.summarize([run_of("isobar", 0, 1), run_of("isobar", 1, 1, error=2)], ["isobar"])
        self.assertEqual(row["error"], 2)


class Programs(unittest.TestCase):
    def command(self, label, *options):
        return " ".join(steps.program_of(label, steps.parse(["--folder", "bin", *options])))

    def test_follow_from_their_name(self):
        self.assertEqual(self.command("isobar", "--backend", "gloo", "--isobar", "--model gnn"),
                         "bin/isobar bench step --sync ddp --backend gloo --stream-seconds 0.5 --model gnn")
        self.assertIn("--sync none", self.command("isobar_none"))
        self.assertIn("--sync ddp --update fused", self.command("isobar_fused@4"))
        self.assertIn("--transport-levels flat --levels two", self.command("grid_two@4"))
        self.assertIn("ddp_bare --sync none", self.command("bare_none"))
        self.assertEqual(self.command("ddp_bare@4"), "bin/ddp_bare --bucket-cap 4MiB --stream-seconds 0.5")
        self.assertTrue(self.command("torch_powersgd@4").endswith("torch_ddp.py --hook powersgd --bucket-cap-mb 4"))
        with self.assertRaisesRegex(steps.Failure, "no program 'pytorch'; choose from isobar, "):
            self.command("pytorch")
        with self.assertRaisesRegex(steps.Failure, "isobar_none has no buckets"):
            self.command("isobar_none@4")

    def test_are_swept_over_the_caps_that_they_have(self):
        arguments = steps.parse(["--programs", "isobar,isobar_none,torch_ddp", "--sweep", "0.5,25"])
        self.assertEqual(arguments.labels, ["isobar@0.5", "isobar@25", "isobar_none", "torch_ddp@0.5", "torch_ddp@25"])


if __name__ == "__main__":
    unittest.main()
