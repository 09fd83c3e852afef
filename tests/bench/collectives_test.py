# SPDX-License-Identifier: Apache-2.0
"""The arithmetic of bench/collectives. Run from the repository's root; ctest does."""
import importlib.machinery
import importlib.util
import sys
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
loader = importlib.machinery.SourceFileLoader("collectives", "bench/collectives")
collectives = importlib.util.module_from_spec(importlib.util.spec_from_loader("collectives", loader))
loader.exec_module(collectives)


def run_of(program, number, seconds, busbw=1.0, goodput=1.25, error=0):
    return {"op": "allreduce", "backend": program, "program": program, "round": number, "ranks": 4, "nodes": 4,
            "bytes": 1024, "type": "float32", "in_flight": 1, "repeats": 3, "median_s": seconds, "start_s": 0.0,
            "busbw_gbit_s": busbw, "goodput_gbit_s": goodput, "comm_thread_cpu": 0.1, "process_cpu": 0.2,
            "softirq_cpu": 0.3, "error": error}


class Ratios(unittest.TestCase):
    def test_compare_within_a_round(self):
        # Twice as slow in every round, though the rounds differ by more than that.
        runs = [run_of(name, i, factor * (1 + i)) for i in range(10) for name, factor in [("auto", 1), ("peer", 2)]]
        auto, peer = collectives.summarize(runs, ["auto", "peer"])
        self.assertEqual(auto["time_over_first"], {"ratio": 1, "low": 1, "high": 1})
        self.assertEqual(peer["time_over_first"], {"ratio": 2, "low": 2, "high": 2})
        self.assertEqual((peer["median_s"], peer["min_s"], peer["max_s"]), (11, 2, 20))
        self.assertEqual((peer["rounds"], peer["repeats"]), (10, 30))

    def test_take_each_run_with_its_own_stream(self):
        runs = [run_of("auto", i, 1, busbw=0.9 * rate, goodput=rate) for i, rate in enumerate([1.0, 2.0, 4.0])]
        (row,) = collectives.summarize(runs, ["auto"])
        self.assertAlmostEqual(row["busbw_of_goodput"]["ratio"], 0.9)
        self.assertAlmostEqual(row["busbw_of_goodput"]["high"], 0.9)

    def test_do_without_a_stream(self):
        (row,) = collectives.summarize([run_of("auto", 0, 1, goodput=None)], ["auto"])
        self.assertIsNone(row["busbw_of_goodput"])
        self.assertIn(" - ", collectives.table([row], "auto"))

    def test_leave_out_a_round_that_was_not_finished(self):
        runs = [run_of("auto", 0, 1), run_of("peer", 0, 2), run_of("peer", 1, 5)]
        self.assertEqual([row["median_s"] for row in collectives.summarize(runs, ["auto", "peer"])], [1, 2])

    def test_keep_the_largest_error(self):
        (row,) = collectives.summarize([run_of("auto", 0, 1), run_of("auto", 1, 1, error=2)], ["auto"])
        self.assertEqual(row["error"], 2)


class Programs(unittest.TestCase):
    def test_follow_from_the_backends_name(self):
        def command(name, op="allreduce"):
            return " ".join(collectives.program_of(name, op, Path("bin")))

        self.assertEqual(command("gloo_bare"), "bin/gloo_bare --op allreduce")
        self.assertEqual(command("mpi_iallreduce"), "bin/mpi_bare --op allreduce --nonblocking")
        self.assertEqual(command("mpi_alltoall", "all_to_all"), "bin/mpi_bare --op all_to_all")
        self.assertEqual(command("mpi"), "bin/isobar bench collective --op allreduce --backend mpi")
        with self.assertRaisesRegex(collectives.Failure, "choose mpi_bcast or mpi_ibcast"):
            command("mpi_allreduce", "broadcast")


if __name__ == "__main__":
    unittest.main()
