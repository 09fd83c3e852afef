# SPDX-License-Identifier: Apache-2.0
"""The programs that measure collectives, on two ranks of this machine with tiny sizes.

Run from the repository's root with ISOBAR_PROGRAMS set to their folder; ctest does.
"""
import json
import tempfile
import unittest
from pathlib import Path

from launch import PROGRAMS, free_port, mpirun, run

MPIRUN = mpirun(2)
SHORT = ["--repeats", "3", "--stream-seconds", "0.05"]
CONTRACT = {"op", "backend", "ranks", "bytes", "median_s", "p95_s", "busbw_gbit_s", "goodput_gbit_s",
            "comm_thread_cpu", "error"}
OPERATIONS = ["allreduce", "reduce_scatter", "all_gather", "all_to_all", "broadcast", "barrier", "send_receive"]


class Case(unittest.TestCase):
    def rows(self, *command):
        result = run([*command, *SHORT, "--json", "-"])
        self.assertEqual(result.returncode, 0, result.stderr)
        report = json.loads(result.stdout)
        self.assertEqual(set(report), {"schema", "commit", "host", "command", "rows"})
        for row in report["rows"]:
            self.assertEqual(CONTRACT - set(row), set())
            self.assertEqual((row["ranks"], row["error"]), (2, 0))
            self.assertLessEqual(row["min_s"], row["median_s"])
            self.assertLessEqual(row["median_s"], row["p95_s"])
        return report["rows"]

    def need(self, name):
        if not (PROGRAMS / name).exists():
            self.skipTest(f"{name} was not built")
        return PROGRAMS / name


class Isobar(Case):
    def test_measures_each_size(self):
        rows = self.rows(*MPIRUN, PROGRAMS / "isobar", "bench", "collective", "--bytes", "1KiB..16KiBx4")
        self.assertEqual([row["bytes"] for row in rows], [1024, 4096, 16384])
        for row in rows:
            self.assertAlmostEqual(row["busbw_gbit_s"], 8e-9 * row["bytes"] / row["median_s"])
            self.assertEqual((row["goodput_path"], row["nodes"], row["repeats"]), ("loopback", 1, 3))
            self.assertGreater(row["goodput_gbit_s"], 0)

    def test_measures_each_operation(self):
        for op in OPERATIONS:
            with self.subTest(op):
                (row,) = self.rows(*MPIRUN, PROGRAMS / "isobar", "bench", "collective", "--op", op, "--bytes", "4KiB",
                                   "--in-flight", "2")
                self.assertEqual((row["op"], row["bytes"]), (op, 0 if op == "barrier" else 4096))

    def test_prints_a_table_and_needs_no_launcher(self):
        result = run([PROGRAMS / "isobar", "bench", "collective", "--bytes", "64,1KiB"])
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("ranks 1, nodes 1", result.stdout)
        self.assertIn("1.0 KiB", result.stdout)
        self.assertLessEqual(max(map(len, result.stdout.splitlines())), 80, "columns of a terminal")

    def test_wrong_usage_exits_with_two(self):
        for words in (["--op", "allredcue"], ["--bytes", "4..2"], ["--type", "float"], ["--repeats", "few"]):
            result = run([PROGRAMS / "isobar", "bench", "collective", *words])
            self.assertEqual(result.returncode, 2, words)
            self.assertIn(words[0], result.stderr)


class Peers(Case):
    def test_mpi_measures_each_operation(self):
        program = self.need("mpi_bare")
        for number, op in enumerate(OPERATIONS):  # the two ways by turns, each start takes a second
            with self.subTest(op):
                way, prefix = [([], "mpi_"), (["--nonblocking"], "mpi_i")][number % 2]
                (row,) = self.rows(*MPIRUN, program, "--op", op, "--bytes", "4KiB", *way)
                self.assertTrue(row["backend"].startswith(prefix), row["backend"])

    def test_gloo_measures_an_operation_of_each_kind(self):
        program = self.need("gloo_bare")
        for op in ("allreduce", "reduce_scatter", "all_to_all", "send_receive"):
            with self.subTest(op):
                (row,) = self.rows(*MPIRUN, program, "--op", op, "--bytes", "4KiB", "--address",
                                   f"127.0.0.1:{free_port()}")
                self.assertEqual(row["backend"], "gloo_bare")

    def test_hold_nothing_of_isobars_communication(self):
        for name in ("mpi_bare", "gloo_bare"):
            with self.subTest(name):
                program = self.need(name)
                self.assertNotIn("isobar::Communicator", run(["nm", "-C", program]).stdout)
        self.assertNotIn("libmpi", run(["readelf", "--dynamic", self.need("gloo_bare")]).stdout)

    def test_the_queue_is_compared_with_the_bare_call(self):
        program = self.need("queue_cost")
        for op in ("allreduce", "barrier"):
            result = run([*MPIRUN, program, "--backend", "mpi", "--op", op, "--repeats", "20", "--json", "-"])
            self.assertEqual(result.returncode, 0, result.stderr)
            (row,) = json.loads(result.stdout)["rows"]
            self.assertEqual((row["bare"], row["error"], row["repeats"]), (f"mpi_{op}", 0, 20))
            self.assertLessEqual(row["queue_low_us"], row["queue_us"])


class ControlScale(Case):
    def test_every_rank_starts_and_hears_of_a_kill(self):
        program = self.need("control_scale")
        result = run([program, "--ranks", "8,64", "--seconds", "0.2", "--json", "-"])
        self.assertEqual(result.returncode, 0, result.stderr)
        rows = json.loads(result.stdout)["rows"]
        self.assertEqual([(row["ranks"], row["error"]) for row in rows], [(8, 0), (64, 0)])
        for row in rows:
            self.assertLess(row["start_bytes"], 1024 * row["ranks"])


class Comparison(Case):
    def test_alternates_the_programs_and_gives_ratios(self):
        self.need("mpi_bare")
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "rows.json"
            result = run(["bench/collectives", "--bytes", "1KiB,4KiB", "--backends", "mpi,mpi_allreduce", "--rounds", "2",
                          "--stream-seconds", "0", "--launch", " ".join(MPIRUN), "--programs", PROGRAMS, "--json", file])
            self.assertEqual(result.returncode, 0, result.stderr)
            report = json.loads(file.read_text())
        self.assertEqual([run["program"] for run in report["runs"][::2]], ["mpi", "mpi_allreduce", "mpi_allreduce", "mpi"])
        self.assertEqual([(row["bytes"], row["program"]) for row in report["rows"]],
                         [(size, name) for size in (1024, 4096) for name in ("mpi", "mpi_allreduce")])
        self.assertIn("time over mpi", result.stdout)

    def test_names_what_failed(self):
        result = run(["bench/collectives", "--backends", "no_such", "--rounds", "1", "--programs", PROGRAMS])
        self.assertEqual(result.returncode, 1)
        self.assertIn("no backend 'no_such'", result.stderr)


if __name__ == "__main__":
    unittest.main()
