# SPDX-License-Identifier: Apache-2.0
"""The program `isobar` as users start it: on one rank, and on two under mpirun.

Run from the repository's root with ISOBAR_PROGRAM set; ctest does.
"""

import json
import os
import pathlib
import subprocess
import tempfile
import time
import unittest

PROGRAM = os.environ["ISOBAR_PROGRAM"]
EXPERIMENT = "examples/experiments/quickstart.yaml"
DATA = "examples/data/era5_t2m_uk_2019-03.nc"
SHORT = ["train.steps=4", "train.log_every=2", "train.validate_every=2", "optimizer.warmup_steps=1",
         "train.refit=false", "data.validation.begin=2019-03-24", "data.train.end=2019-03-24"]
LIMIT_S = 60

ENVIRONMENT = dict(
    os.environ,
    OMP_NUM_THREADS="1",
    OMPI_ALLOW_RUN_AS_ROOT="1",
    OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
    OMPI_MCA_hwloc_base_binding_policy="none",
    OMPI_MCA_rmaps_base_oversubscribe="1",
    OMPI_MCA_btl_vader_single_copy_mechanism="none",
)


def run(command, **keywords):
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=LIMIT_S, **keywords)


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="isobar-cli-"))
        self.addCleanup(lambda: subprocess.run(["rm", "-rf", str(self.folder)], check=False))

    def train(self, *overrides, ranks=2):
        launcher = ["mpirun", "-n", str(ranks)] if ranks > 1 else []
        return run(launcher + [PROGRAM, "train", EXPERIMENT, f"run.folder={self.folder}", *SHORT, *overrides])

    def events(self, name="quickstart"):
        lines = (self.folder / name / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def record(self, name="quickstart"):
        return json.loads((self.folder / name / "record.json").read_text())

    def log(self, name="quickstart"):
        return (self.folder / name / "log" / "rank_0000.log").read_text()


class ProgramsTest(Case):
    def test_shares_a_model_without_changing_what_is_learnt(self):
        result = run([PROGRAM, "verify-layout", EXPERIMENT, "--steps", "2", "--json", "-", "model.edge_table=4"])
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        rows = json.loads(result.stdout)["rows"]
        self.assertEqual({row["layout"] for row in rows}, {"1x4", "2x2", "4x1"})
        self.assertTrue(any("sharded" in row["quantity"] for row in rows))

    def test_trains_with_two_ranks_a_model_as_with_one(self):
        losses = []
        for overrides in (["model.ranks=2", "run.name=shared"], ["run.name=whole"]):
            result = self.train(*overrides, ranks=2 if "run.name=shared" in overrides else 1)
            self.assertEqual(result.returncode, 0, result.stderr)
            name = overrides[-1].split("=")[1]
            losses.append([e["loss"] for e in self.events(name) if e["event"] == "step"])
        for shared, whole in zip(*losses):
            self.assertAlmostEqual(shared, whole, delta=1e-4 * abs(whole))

    def test_plans_a_step_and_says_where_it_does_not_fit(self):
        result = run([PROGRAM, "plan", EXPERIMENT, "--device-memory", "1GiB", "--json", "-"])
        self.assertEqual(result.returncode, 0, result.stderr)
        row = json.loads(result.stdout)["rows"][0]
        self.assertTrue(row["fits"] and row["activations"] == "keep" and row["flops"] > 0, row)
        result = run([PROGRAM, "plan", EXPERIMENT, "--device-memory", "1MiB"])
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn("does not fit", result.stdout)

    def test_plans_the_sums_of_gradients_over_nodes(self):
        result = run([PROGRAM, "plan", EXPERIMENT, "model.channels=64", "--nodes", "4", "--node-gbit-s", "0.01,1000",
                      "--json", "-"])
        self.assertEqual(result.returncode, 0, result.stderr)
        rows = [row for row in json.loads(result.stdout)["rows"] if row["kind"] == "sums"]
        self.assertEqual([row["node_gbit_s"] for row in rows], [0.01] * 4 + [1000] * 4)
        slow = {row["method"].split()[0]: row for row in rows[:4]}
        self.assertEqual(slow["bf16"]["payload_bytes"] * 2, slow["none"]["payload_bytes"])
        self.assertLess(slow["acp_sgd"]["payload_bytes"], slow["bf16"]["payload_bytes"])
        for row in rows:  # of a ring
            self.assertAlmostEqual(row["sent_bytes"], 1.5 * row["payload_bytes"], delta=64)
        self.assertIn("acp_sgd", rows[0]["advice"])
        self.assertTrue(rows[4]["advice"].startswith("compression stays off"), rows[4]["advice"])
        result = run([PROGRAM, "plan", EXPERIMENT, "model.ranks=3", "--nodes", "4", "--node-gbit-s", "100"])
        self.assertEqual((result.returncode, result.stdout), (1, ""))
        self.assertIn("--node-ranks", result.stderr)
        self.assertEqual(run([PROGRAM, "plan", EXPERIMENT, "--nodes", "4"]).returncode, 2)

    def test_records_the_memory_that_was_planned_and_what_it_took(self):
        for activations in ["keep", "recompute"]:
            self.assertEqual(self.train(f"model.activations={activations}", "run.name=" + activations).returncode, 0)
            memory = self.record(activations)["memory"]
            self.assertEqual(memory["activations"], activations)
            self.assertAlmostEqual(memory["measured_peak_bytes"] / memory["predicted_peak_bytes"], 1, delta=0.15)
            self.assertIn("% of the plan", self.log(activations))

    def test_keeps_graphs_in_a_folder(self):
        cache = self.folder / "graphs"
        for name in ["built", "loaded"]:
            result = self.train(f"graph.cache={cache}", f"run.name={name}")
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertEqual(len(list(cache.glob("*.h5"))), 1)
        self.assertEqual(*[[e["loss"] for e in self.events(n) if e["event"] == "step"] for n in ["built", "loaded"]])
        for file in cache.glob("*.h5"):
            file.write_bytes(file.read_bytes()[:-100])
        self.assertEqual(self.train(f"graph.cache={cache}", "run.name=mended").returncode, 0)
        self.assertIn(str(cache), self.log("mended"), "a file that is not whole is told")

    def test_trains_on_two_ranks_and_scores_the_test_period_last(self):
        result = self.train()
        self.assertEqual(result.returncode, 0, result.stderr)
        last = self.events()[-1]
        self.assertEqual((last["event"], last["split"], last["lead_hours"]), ("validation", "test", 6))
        self.assertAlmostEqual(last["persistence"]["t2m"], 2.683, places=3)
        self.assertAlmostEqual(last["previous_day"]["t2m"], 1.497, places=3)
        self.assertIn("24 h earlier", result.stdout)
        record = self.record()
        self.assertEqual(record["ranks"], 2)
        self.assertEqual(record["training"]["steps"], 4)
        self.assertEqual(record["training"]["compressed_steps"], 0)
        self.assertEqual(record["training"]["payload_bytes"], record["training"]["gradient_bytes"])

    def test_one_rank_and_two_see_the_same_samples(self):
        self.assertEqual(self.train("train.batch=2", "run.name=one", ranks=1).returncode, 0)
        self.assertEqual(self.train("train.batch=1", "run.name=two").returncode, 0)
        for a, b in zip(self.events("one"), self.events("two")):
            if a["event"] == "step":
                self.assertAlmostEqual(a["loss"], b["loss"], places=4)

    def test_evaluates_a_run_as_training_did(self):
        self.assertEqual(self.train("test.lead_hours=[6]").returncode, 0)
        result = run([PROGRAM, "evaluate", str(self.folder / "quickstart"), "--json", "-"])
        self.assertEqual(result.returncode, 0, result.stderr)
        report = json.loads(result.stdout)
        self.assertEqual(report["schema"], "isobar.evaluate.1")
        self.assertAlmostEqual(report["rows"][0]["rmse"], self.events()[-1]["rmse"]["t2m"], places=5)

    def test_refits_on_all_days_before_the_test(self):
        self.assertEqual(self.train("train.refit=true").returncode, 0)
        record = self.record()
        self.assertEqual(record["refit"]["steps"], record["training"]["best_step"])
        self.assertTrue(record["refit"]["best_checkpoint"].startswith("checkpoints/refit/"))

    def test_forecasts_several_steps_ahead(self):
        self.assertEqual(self.train("data.input_hours=[-12,-6,0]", "test.lead_hours=[6,12,24]").returncode, 0)
        leads = [e["lead_hours"] for e in self.events() if e.get("split") == "test"]
        self.assertEqual(leads, [24, 12, 6])

    def test_compresses_gradients_on_two_ranks(self):
        for method, start in [("acp_sgd", "start_step 1: as given"), ("power_sgd", "start_step 1: as given")]:
            result = self.train(f"compress.method={method}", "compress.start_step=1", "ddp.bucket_cap_bytes=1MiB",
                                "compress.matrix_approximation_rank=2", "train.refit=true", f"run.name={method}")
            self.assertEqual(result.returncode, 0, result.stderr)
            record = self.record(method)
            for section in ["training", "refit"]:
                totals = record[section]
                self.assertEqual(totals["compressed_steps"], totals["steps"] - 1, "each trains with a new compressor")
                self.assertLess(totals["payload_bytes"], totals["gradient_bytes"])
                self.assertEqual(totals["sent_bytes"], totals["payload_bytes"])  # 2 (n - 1) / n of it on two ranks
            steps = [event for event in self.events(method) if event["event"] == "step"]
            self.assertEqual(steps[1]["payload_bytes"], record["training"]["payload_bytes"])
            self.assertIn(f"compressing by {method} rank 2 ", self.log(method))
            self.assertIn(start, self.log(method))
            self.assertIn(f"{method}: 3 of 4 steps compressed; payload ", self.log(method))

    def test_evaluates_a_run_that_compressed(self):
        self.assertEqual(self.train("compress.method=acp_sgd").returncode, 0)
        result = run([PROGRAM, "evaluate", str(self.folder / "quickstart"), "--json", "-"])
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertAlmostEqual(json.loads(result.stdout)["rows"][0]["rmse"], self.events()[-1]["rmse"]["t2m"], places=5)

    def test_starts_to_compress_when_the_learning_rate_is_warm(self):
        for warmup, source in [(3, "start_step 3: optimizer.warmup_steps"), (0, "start_step 0: a tenth of train.steps")]:
            result = self.train("compress.method=acp_sgd", f"optimizer.warmup_steps={warmup}", f"run.name={warmup}")
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertEqual(self.record(str(warmup))["training"]["compressed_steps"], 4 - warmup)
            self.assertIn(source, self.log(str(warmup)))

    def test_decides_by_measurement_and_says_why(self):
        result = self.train("compress.method=auto", "train.refit=true")
        self.assertEqual(result.returncode, 0, result.stderr)
        decision = self.record()["compression"]
        self.assertIn(decision["method"], ["none", "bf16", "acp_sgd", "power_sgd"])
        self.assertIn(decision["reason"], self.log())
        self.assertIn(" ms", decision["reason"])
        self.assertEqual(self.log().count("compress.method auto:"), 1, "it decides once")

    def test_scales_the_learning_rate_by_the_models_that_train_together(self):
        rates = {}
        for name, ranks, scaled in [("plain", 2, "false"), ("one", 1, "true"), ("two", 2, "true")]:
            result = self.train(f"optimizer.scale_by_replicas={scaled}", "optimizer.final_learning_rate=1.0e-3",
                                f"run.name={name}", ranks=ranks)
            self.assertEqual(result.returncode, 0, result.stderr)
            rates[name] = [e["learning_rate"] for e in self.events(name) if e["event"] == "step"]
        self.assertEqual(rates["one"], rates["plain"])
        self.assertEqual(rates["two"], [2 * rate for rate in rates["plain"]])
        self.assertEqual(self.record("two")["learning_rate"], {"peak": 8e-3, "final": 2e-3, "scaled_by_replicas": 2})
        self.assertNotIn("learning_rate", self.record("plain"))
        self.assertIn("learning rate 0.008 (final 0.002): the experiment's times 2 replicas", self.log("two"))

    def test_says_when_nothing_was_compressed(self):
        result = self.train("compress.method=acp_sgd", ranks=1)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("warning: acp_sgd: none of 4 steps compressed", self.log())

    def test_the_doctor_gives_a_verdict(self):
        result = run([PROGRAM, "doctor"])
        self.assertEqual(result.returncode, 0)
        self.assertIn("verdict      isobar can train here", result.stdout)
        rows = json.loads(run([PROGRAM, "doctor", "--json", "-"]).stdout)["rows"]
        self.assertIn("HDF5", [row["what"] for row in rows])

    def test_the_version_names_what_it_was_built_with(self):
        text = run([PROGRAM, "--version"]).stdout
        for name in ["isobar", "LibTorch", "MPI", "NCCL", "HDF5"]:
            self.assertIn(name, text)

    def test_wrong_usage_exits_with_two(self):
        self.assertEqual(run([PROGRAM, "trian"]).returncode, 2)
        self.assertEqual(run([PROGRAM]).returncode, 2)


class BadInputTest(Case):
    """One line that names the object, non-zero on every rank, and no hang."""

    def check(self, commands, *expected):
        codes = self.folder / "codes"
        script = self.folder / "rank"
        script.write_text(f'#!/bin/sh\n"$@"; code=$?; echo $code >>{codes}; exit $code\n')
        script.chmod(0o755)
        launch = ["mpirun"]
        for command in commands:
            launch += ["-n", str(2 // len(commands)), str(script), PROGRAM, *command, ":"]
        begin = time.monotonic()
        result = run(launch[:-1])
        self.assertLess(time.monotonic() - begin, 30)
        errors = [line for line in result.stderr.splitlines() if line.startswith("isobar: error: ")]
        self.assertEqual(len(errors), 1, result.stderr)
        for text in expected:
            self.assertIn(text, errors[0])
        self.assertNotEqual(result.returncode, 0)
        self.assertTrue(codes.read_text().split(), "no rank ended by itself")
        self.assertNotIn("0", codes.read_text().split())

    def command(self, *overrides, experiment=EXPERIMENT):
        return ["train", experiment, f"run.folder={self.folder}", *SHORT, *overrides]

    def test_missing_experiment(self):
        self.check([self.command(experiment="absent.yaml")], "absent.yaml")

    def test_missing_data_file(self):
        self.check([self.command("data.path=absent.nc")], "absent.nc")

    def test_truncated_data_file(self):
        file = self.folder / "short.nc"
        file.write_bytes(pathlib.Path(DATA).read_bytes()[:1_000_000])
        self.check([self.command(f"data.path={file}")], "short.nc")

    def test_variable_that_is_not_in_the_file(self):
        self.check([self.command("data.variables=[t2n]")], "t2n", "t2m")

    def test_misspelt_key(self):
        self.check([self.command("optimizer.learning_rat=1")], "learning_rat", "learning_rate")

    def test_method_of_compression_that_does_not_exist(self):
        self.check([self.command("compress.method=acp_sdg")], "compress.method", "did you mean 'acp_sgd'")

    def test_compression_that_makes_no_sense(self):
        self.check([self.command("compress.method=acp_sgd", "compress.matrix_approximation_rank=0")],
                   "matrix_approximation_rank", "positive, got 0")

    def test_one_rank_with_another_compression(self):
        self.check([self.command(), self.command("compress.method=power_sgd")], "rank 1", "compress.method=power_sgd")

    def test_batch_larger_than_the_data(self):
        self.check([self.command("train.batch=1000")], "1000")

    def test_one_rank_with_another_configuration(self):
        self.check([self.command(), self.command("optimizer.weight_decay=0.5")],
                   "rank 1", "weight_decay=0.5", "weight_decay=0.1")

    def test_one_rank_without_its_data(self):
        self.check([self.command(), self.command("data.path=absent.nc")], "rank 1", "absent.nc")

    def test_a_gpu_that_is_not_there(self):
        if "none usable" not in run([PROGRAM, "doctor"]).stdout:
            self.skipTest("this machine has a GPU; run it where there is none")
        for backend in ["auto", "gloo"]:
            command = self.command("device=cuda", f"comm.backend={backend}")
            self.check([command], "rank 0 of 2: device: cuda, but no GPU")

    def test_several_steps_that_need_unknown_fields(self):
        self.check([self.command("test.lead_hours=[6,12]")], "test.lead_hours", "hour -12")

    def test_rollout_that_needs_unknown_fields(self):
        self.assertEqual(self.train(ranks=1).returncode, 0)
        self.check([["evaluate", str(self.folder / "quickstart"), "--rollout", "2"]], "--rollout", "hour -12")


class QuickstartTest(Case):
    def test_forecasts_better_than_persistence_and_the_value_24_h_earlier(self):
        command = ["mpirun", "-n", "2", PROGRAM, "train", EXPERIMENT, f"run.folder={self.folder}"]
        result = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=900)
        self.assertEqual(result.returncode, 0, result.stderr)
        last = self.events()[-1]
        self.assertEqual((last["event"], last["split"], last["lead_hours"]), ("validation", "test", 6))
        self.assertLessEqual(last["rmse"]["t2m"], 0.52 * last["persistence"]["t2m"])
        self.assertLess(last["rmse"]["t2m"], last["previous_day"]["t2m"])


if __name__ == "__main__":
    unittest.main()
