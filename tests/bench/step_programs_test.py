# SPDX-License-Identifier: Apache-2.0
"""The programs that measure a training step, on one and two ranks of this machine with tiny networks.

Run from the repository's root with ISOBAR_PROGRAMS set to their folder; ctest does.
"""
import functools
import json
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from launch import PROGRAMS, free_port, mpirun, run

CONTRACT = {"model", "ranks", "sync", "compress", "bucket_cap_bytes", "step_s", "forward_s", "backward_s",
            "exposed_comm_s", "optimizer_s", "payload_bytes", "sent_bytes", "goodput_gbit_s", "bound_s", "error"}
SMALL = ["--layers", "3", "--width", "32", "--batch", "4", "--repeats", "3", "--warmup", "1"]
PARAMETERS = 3 * 32 * 33
ISOBAR = [PROGRAMS / "isobar", "bench", "step"]
STREAM = ["--stream-seconds", "0.05"]
TORCH = Path("bench/baselines/torch_ddp.py")


@functools.cache
def torch_is_here():
    probe = "import sys; sys.path.insert(0, 'bench/baselines'); import python_torch; python_torch.prepare()"
    python = shutil.which("python3.11")
    return bool(python) and subprocess.run([python, "-B", "-c", probe], capture_output=True, check=False).returncode == 0


class Case(unittest.TestCase):
    def row(self, *command, fields=CONTRACT):
        result = run([*command, "--json", "-"], MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()))
        self.assertEqual(result.returncode, 0, result.stderr)
        report = json.loads(result.stdout)
        self.assertEqual(set(report), {"schema", "commit", "host", "command", "rows"})
        (row,) = report["rows"]
        self.assertEqual(fields - set(row), set())
        self.assertEqual(row["error"], 0)
        parts = ("zero_grad_s", "forward_s", "backward_s", "exposed_comm_s", "optimizer_s")
        self.assertTrue(all(row[part] >= 0 for part in parts), row)
        self.assertLessEqual(row["step_min_s"], row["step_s"])
        return row


class Isobar(Case):
    def test_counts_what_two_ranks_send(self):
        row = self.row(*mpirun(2), *ISOBAR, *SMALL, *STREAM, "--bucket-cap", "4KiB", "--first-bucket-cap", "1KiB")
        self.assertEqual((row["ranks"], row["sync"], row["compress"], row["model"]), (2, "ddp", "none", "mlp"))
        self.assertEqual((row["parameters"], row["payload_bytes"], row["sent_bytes"]), (PARAMETERS, 4 * PARAMETERS, 4 * PARAMETERS))
        self.assertEqual((row["bucket_cap_bytes"], row["first_bucket_cap_bytes"]), (4096, 1024))
        self.assertEqual(sum(bucket["bytes"] for bucket in row["buckets"]), 4 * PARAMETERS)
        self.assertEqual(row["first_bucket_s"], row["buckets"][0]["ready_s"])

    def test_computes_a_network_in_16_bits_and_few_edges_at_a_time(self):
        network = ["--model", "gnn", "--grid", "O8", "--hidden", "1", "--channels", "8", "--layers", "1", "--repeats", "2",
                   "--sync", "none", "--stream-seconds", "0"]
        row = self.row(*ISOBAR, *network, "--precision", "bf16", "--chunk-edges", "64", "--device", "cpu")
        self.assertEqual((row["precision"], row["chunk_edges"], row["device"]), ("bf16", 64, "cpu"))
        self.assertGreater(row["cores_busy"], 0)
        result = run([*ISOBAR, *SMALL, *STREAM, "--precision", "bf16"])
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("--precision and --chunk-edges are of --model gnn", result.stderr)

    def test_emulates_an_accelerator_that_takes_no_core(self):
        row = self.row(*mpirun(2), *ISOBAR, *SMALL, *STREAM, "--emulate-ms", "20")
        self.assertGreaterEqual(row["compute_forward_s"], 0.06)
        self.assertGreaterEqual(row["compute_backward_s"], 0.12)
        self.assertGreaterEqual(row["first_bucket_s"], 0.04)  # the gradients of a layer come after its pass
        result = run([*ISOBAR, *STREAM, "--model", "gnn", "--emulate-ms", "20"])
        self.assertIn("--emulate-ms is of --model mlp, got --model gnn", result.stderr)

    def test_bounds_the_step_by_its_formula(self):
        row = self.row(*mpirun(2), *ISOBAR, *SMALL, *STREAM)
        first = row["first_bucket_s"]
        rest = max(row["compute_backward_s"] - first, row["sent_bytes"] / (row["goodput_gbit_s"] * 1e9 / 8))
        self.assertAlmostEqual(row["bound_s"], row["compute_forward_s"] + first + rest + row["optimizer_s"])

    def test_of_one_rank_sends_nothing(self):
        row = self.row(*ISOBAR, *SMALL, "--optimizer", "adamw")
        self.assertEqual((row["ranks"], row["sent_bytes"], row["goodput_gbit_s"]), (1, 0, None))
        self.assertGreater(row["bound_s"], 0)

    def test_refuses_what_is_surely_a_slip(self):
        for option, value, complaint in [("--bucket-cap", "25", "'25' is 25 bytes; write 25MiB, or 25B if you mean that"),
                                         ("--json", "none/a.json", "there is no folder 'none'; make it first")]:
            result = run([*ISOBAR, *SMALL, option, value])
            self.assertEqual(result.returncode, 2, result.stderr)
            self.assertIn(complaint, result.stderr)
        result = run([*ISOBAR, *SMALL, "--bucket-cap", "25B"])
        self.assertEqual((result.returncode, "one rank: nothing is communicated" in result.stderr), (0, True), result.stderr)

    def test_without_synchronisation_hands_over_nothing(self):
        row = self.row(*mpirun(2), *ISOBAR, *SMALL, "--stream-seconds", "0", "--sync", "none")
        self.assertEqual((row["sync"], row["payload_bytes"], row["bucket_cap_bytes"]), ("none", 0, None))
        self.assertEqual((row["exposed_comm_s"], row["buckets"]), (0, []))
        self.assertGreater(row["bound_s"], 0)

    def test_trains_a_graph_network(self):
        row = self.row(*mpirun(2), *ISOBAR, "--model", "gnn", "--grid", "O8", "--hidden", "1", "--channels", "8",
                       "--layers", "2", "--prognostic", "3", "--forcing", "2", "--threads", "2", "--repeats", "2", *STREAM,
                       fields=CONTRACT | {"grid", "hidden", "channels", "prognostic", "forcing"})
        self.assertEqual((row["model"], row["grid"], row["threads"], row["batch"]), ("gnn", "O8", 2, 1))
        self.assertEqual(row["payload_bytes"], 4 * row["parameters"])

    def test_fuses_the_update_into_the_end_of_backward(self):
        row = self.row(*mpirun(2), *ISOBAR, *SMALL, *STREAM, "--update", "fused", "--optimizer", "adamw", "--buffers", "broadcast",
                       "--launch", "counted", "--last-bucket-cap", "1KiB")
        self.assertEqual((row["update"], row["buffers"], row["launch"], row["last_bucket_cap"]),
                         ("fused", "broadcast", "counted", "1KiB"))
        self.assertGreater(len(row["buckets"]), 1)

    def test_reduces_in_two_levels_on_a_grid(self):
        row = self.row(*mpirun(4), *ISOBAR, *SMALL, *STREAM, "--model-ranks", "2", "--levels", "two")
        self.assertEqual((row["ranks"], row["model_ranks"], row["levels"]), (4, 2, "two"))

    def test_compresses_and_checks_what_is_still_owed(self):
        # Weights of 32 x 32, biases as they are.
        payloads = {"bf16": 2 * PARAMETERS, "fp16": 2 * PARAMETERS, "acp_sgd": 4 * 3 * (4 * 32 + 32),
                    "power_sgd": 4 * 3 * (4 * 64 + 32)}
        for method, payload in payloads.items():
            row = self.row(*mpirun(2), *ISOBAR, *SMALL, *STREAM, "--compress", method)
            self.assertEqual((row["compress"], row["payload_bytes"], row["sent_bytes"]), (method, payload, payload))
        row = self.row(*mpirun(3), *ISOBAR, *SMALL, *STREAM, "--compress", "int8")
        self.assertLess(row["sent_bytes"], 2 * 2 * PARAMETERS * 2 / 3)

    def test_prints_a_table(self):
        result = run([*ISOBAR, *SMALL])
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn(f"mlp, {PARAMETERS} parameters, sync ddp through self: ranks 1", result.stdout)
        self.assertLessEqual(max(map(len, result.stdout.splitlines())), 80, "columns of a terminal")

    def test_wrong_usage_exits_with_two(self):
        wrong = {("--bucket-cap", "auto"): "give 25MiB", ("--compress", "zip"): "acp_sgd", ("--sync", "dpd"): "--sync",
                 ("--model", "cnn"): "--model", ("--levels", "three"): "--levels", ("--last-bucket-cap", "few"): "write 25MiB", ("--repeats", "few"): "write 20 or auto"}
        for words, advice in wrong.items():
            result = run([*ISOBAR, *words])
            self.assertEqual(result.returncode, 2, words)
            self.assertIn(advice, result.stderr)


class Compression(unittest.TestCase):
    def rows(self, *options):
        result = run([*mpirun(2), PROGRAMS / "isobar", "bench", "compression", *SMALL, *STREAM, *options, "--json", "-"])
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout)["rows"]

    def test_predicts_each_way_and_gives_one_advice(self):
        rows = self.rows("--matrix-approximation-rank", "1,4")
        names = ["none", "bf16", "fp16", "int8", "acp_sgd rank 1", "acp_sgd rank 4", "power_sgd rank 1", "power_sgd rank 4"]
        self.assertEqual([row["name"] for row in rows], names)
        self.assertEqual(sum(row["advised"] for row in rows), 1)
        self.assertEqual(rows[0]["predicted_ratio"], 1)
        self.assertEqual(rows[0]["payload_bytes"], 4 * PARAMETERS)
        self.assertLess(rows[4]["payload_bytes"], rows[5]["payload_bytes"])
        self.assertTrue(all(row["predicted_step_s"] > 0 and row["measured_step_s"] is None for row in rows))

    def test_measures_beside_it(self):
        for row in self.rows("--measure", "2"):
            self.assertEqual(row["error"], 0, row["name"])
            self.assertAlmostEqual(row["predicted_over_measured"], row["predicted_step_s"] / row["measured_step_s"])

    def test_stays_off_where_nothing_can_win(self):
        rows = self.rows("--margin", "0.99", "--methods", "int8")
        self.assertEqual([row["name"] for row in rows], ["none", "int8"])
        self.assertTrue(rows[0]["advised"])
        self.assertIn("stays off", rows[0]["advice"])


class Peers(Case):
    def test_the_bare_reducer_does_the_same_work(self):
        if not (PROGRAMS / "ddp_bare").exists():
            self.skipTest("ddp_bare was not built")
        row = self.row(*mpirun(2), PROGRAMS / "ddp_bare", *SMALL, *STREAM, "--bucket-cap", "4KiB", "--first-bucket-cap", "1KiB")
        self.assertEqual((row["ranks"], row["payload_bytes"]), (2, 4 * PARAMETERS))
        self.assertGreater(len(row["buckets"]), 1)
        self.assertEqual(sum(bucket["bytes"] for bucket in row["buckets"]), 4 * PARAMETERS)

    def test_the_bare_reducer_trains_the_same_graph_network(self):
        if not (PROGRAMS / "ddp_bare").exists():
            self.skipTest("ddp_bare was not built")
        model = ["--model", "gnn", "--grid", "O8", "--hidden", "1", "--channels", "8", "--layers", "2", "--repeats", "2", *STREAM]
        rows = [self.row(*mpirun(2), *program, *model) for program in ([PROGRAMS / "ddp_bare"], ISOBAR)]
        self.assertEqual(rows[0]["parameters"], rows[1]["parameters"])

    @unittest.skipUnless(torch_is_here(), "no Python torch; scripts/setup --baselines")
    def test_pytorch_does_the_same_work(self):
        for options, payload in ([], 4), (["--sync", "none"], 0), (["--hook", "bf16"], 2):
            with self.subTest(options):
                row = self.row(*mpirun(2), TORCH, *SMALL, *options)
                self.assertEqual((row["ranks"], row["parameters"]), (2, PARAMETERS))
                self.assertEqual(row["payload_bytes"], payload * PARAMETERS)

    @unittest.skipUnless(torch_is_here(), "no Python torch; scripts/setup --baselines")
    def test_pytorch_compresses_with_power_sgd(self):
        row = self.row(*mpirun(2), TORCH, *SMALL, "--hook", "powersgd", "--warmup", "3")
        # Three weights of 32 x 32 at rank 4, and three biases as they are.
        self.assertEqual((row["compress"], row["payload_bytes"]), ("power_sgd", 4 * 3 * (4 * 64 + 32)))
        self.assertGreater(row["deviation"], 0)


class Buffers(unittest.TestCase):
    def rows(self, model):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "rows.json"
            result = run([*mpirun(2), PROGRAMS / "buffer_broadcast", "--model", model, "--grid", "O8", "--hidden", "1",
                          "--channels", "8", "--steps", "5", "--json", file])
            self.assertEqual(result.returncode, 0, result.stderr)
            return json.loads(file.read_text())["rows"]

    def test_of_a_mesh_change_nothing_when_they_are_broadcast(self):
        (row,) = self.rows("gnn")
        self.assertEqual((row["steps"], row["steps_that_differ"], row["largest_difference"]), (5, 0, 0))
        self.assertGreater(row["buffers"], 10)

    def test_of_batch_normalisation_do(self):
        (row,) = self.rows("batch_norm")
        self.assertEqual((row["steps_that_differ"], row["buffers"]), (5, 2))
        self.assertGreater(row["largest_difference"], 0)


class Comparison(Case):
    def test_alternates_the_programs_and_gives_ratios(self):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "rows.json"
            result = run([sys.executable, "bench/steps", "--programs", "isobar,isobar_none", "--sweep", "1,2", "--rounds", "2",
                          "--repeats", "2", "--stream-seconds", "0", "--also", "--layers 2 --width 16 --batch 2",
                          "--folder", PROGRAMS, "--json", file])
            self.assertEqual(result.returncode, 0, result.stderr)
            report = json.loads(file.read_text())
        self.assertEqual([run["program"] for run in report["runs"]],
                         ["isobar@1", "isobar@2", "isobar_none", "isobar@2", "isobar_none", "isobar@1"])
        self.assertEqual([row["program"] for row in report["rows"]], ["isobar@1", "isobar@2", "isobar_none"])
        self.assertIn("step over isobar@1", result.stdout)


if __name__ == "__main__":
    unittest.main()
