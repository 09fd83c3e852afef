# SPDX-License-Identifier: Apache-2.0
"""The program `isobar` as users start it: on one rank, and on two under mpirun."""

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios
import unittest

from cli_case import DATA, EXPERIMENT, PROGRAM, SHORT, Case, mpirun, run
from mpi_launch import ENVIRONMENT


class ProgramsTest(Case):
    def assert_fits(self, text):
        """A terminal of 80 columns."""
        self.assertLessEqual(max(map(len, text.splitlines())), 80, text)

    def test_shares_a_model_without_changing_what_is_learnt(self):
        """In threads of one rank, whatever the launcher starts: the others would print it again."""
        result = run([*mpirun(2), PROGRAM, "verify-layout", EXPERIMENT, "--steps", "2", "--json", "-",
                      "model.edge_table=4", "train.batch=100000"])
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

    def test_inspects_what_a_file_holds(self):
        result = run([PROGRAM, "data", "inspect", DATA, "--json", "-"])
        self.assertEqual(result.returncode, 0, result.stderr)
        rows = {row["variable"]: row for row in json.loads(result.stdout)["rows"]}
        t2m = rows["t2m"]
        self.assertEqual((t2m["dims"], t2m["type"], t2m["units"], t2m["missing"]),
                         ("valid_time 744, latitude 33, longitude 49", "float32", "K", 0))
        self.assertTrue(250 < t2m["minimum"] < t2m["maximum"] < 300, t2m)
        self.assertIsNone(rows["expver"]["minimum"])
        result = run([PROGRAM, "data", "verify", DATA])
        self.assertEqual((result.returncode, result.stdout), (0, "1 variables looked at, 0 findings\n"), result.stderr)
        result = run([PROGRAM, "data", "verify", DATA, "--select", "levl=850"])
        self.assertEqual((result.returncode, result.stdout), (2, ""), result.stderr)
        self.assertIn("--select levl: no variable has such a dimension", result.stderr)

    def test_plans_a_step_and_says_where_it_does_not_fit(self):
        result = run([*mpirun(2), PROGRAM, "plan", EXPERIMENT, "--device-memory", "1GiB", "--json", "-"])
        self.assertEqual(result.returncode, 0, result.stderr)
        row = json.loads(result.stdout)["rows"][0]
        self.assertTrue(row["fits"] and row["activations"] == "keep" and row["flops"] > 0, row)
        result = run([PROGRAM, "plan", EXPERIMENT, "--device-memory", "1MiB"])
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertIn("does not fit", result.stdout)
        self.assert_fits(result.stdout)

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
        self.assertEqual((result.returncode, result.stdout), (2, ""))
        self.assertIn("--node-ranks", result.stderr)
        self.assertEqual(run([PROGRAM, "plan", EXPERIMENT, "--nodes", "4"]).returncode, 2)
        result = run([PROGRAM, "plan", EXPERIMENT, "--nodes", "4", "--node-gbit-s", "100"])
        self.assert_fits("\n".join(result.stdout.splitlines()[:-1]))  # the last line is a sentence

    def test_records_the_memory_that_was_planned_and_what_it_took(self):
        for activations in ["keep", "recompute"]:
            self.assertEqual(self.train(f"model.activations={activations}", "run.name=" + activations).returncode, 0)
            memory = self.record(activations)["memory"]
            self.assertEqual(memory["activations"], activations)
            self.assertAlmostEqual(memory["measured_peak_bytes"] / memory["predicted_peak_bytes"], 1, delta=0.15)
            self.assertIn("% of the plan", self.log(activations))

    def test_trains_in_16_bits(self):
        losses = {}
        for precision in ["float32", "bf16", "fp16"]:
            result = self.train(f"train.precision={precision}", "train.steps=2", "run.name=" + precision, ranks=1)
            self.assertEqual(result.returncode, 0, result.stderr)
            losses[precision] = [e["loss"] for e in self.events(precision) if e["event"] == "step"]
            self.assertGreater(self.record(precision)["memory"]["measured_peak_bytes"], 0)
        for precision in ["bf16", "fp16"]:
            for narrow, wide in zip(losses[precision], losses["float32"], strict=True):
                self.assertAlmostEqual(narrow / wide, 1, delta=0.05)

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

    def test_ends_with_where_the_time_of_its_steps_went(self):
        result = self.train("profile.detail=true", "train.steps=8", "train.validate_every=0")
        self.assertEqual(result.returncode, 0, result.stderr)
        table = result.stdout[result.stdout.index("profile of steps 3 to 8: "):]
        self.assert_fits(table)
        self.assertIn("MFU n/a", table)
        with open(f"{self.folder}/quickstart/profile.json", encoding="utf-8") as file:
            profile = json.load(file)
        self.assertEqual((profile["world"], len(profile["ranks"]), profile["steps"]), (2, 2, 6))
        for part in profile["parts"]:
            self.assertIn(f"\n {part} ", table)
        for row in profile["collectives"]:
            self.assertRegex(table, rf"\n {row['asker']} +{row['operation']} ")
        self.assertGreater(profile["flop_per_step"], 0)

    def test_ends_all_ranks_where_a_step_sends_more_than_it_may(self):
        result = self.train("profile.collectives={loss: 2}", "train.validate_every=0")
        self.assertEqual(result.returncode, 1, result.stderr)
        self.assertEqual(result.stderr.count("'gradients' made "), 1, result.stderr)

    def test_trains_on_two_ranks_and_scores_the_test_period_last(self):
        result = self.train()
        self.assertEqual(result.returncode, 0, result.stderr)
        last = self.events()[-1]
        self.assertEqual((last["event"], last["split"], last["lead_hours"]), ("validation", "test", 6))
        self.assertAlmostEqual(last["persistence"]["t2m"], 2.683, places=3)
        self.assertAlmostEqual(last["previous_day"]["t2m"], 1.497, places=3)
        self.assertIn("24 h earlier", result.stdout)
        self.assert_fits(result.stdout)
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

    def test_refits_for_fewer_steps_than_the_warm_up(self):
        # Nothing is learnt, and the first of equal checkpoints is the best.
        result = self.train("train.refit=true", "optimizer.warmup_steps=4", "optimizer.learning_rate=0",
                            "optimizer.average_decay=0", ranks=1)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual((self.record()["training"]["best_step"], self.record()["refit"]["steps"]), (2, 2))
        self.assertIn("optimizer.warmup_steps, 4, is more than the 2 steps of this training", self.log())

    def test_forecasts_several_steps_ahead(self):
        self.assertEqual(self.train("data.input_hours=[-12,-6,0]", "test.lead_hours=[6,12,24]").returncode, 0)
        leads = [e["lead_hours"] for e in self.events() if e.get("split") == "test"]
        self.assertEqual(leads, [24, 12, 6])
        samples = {e["samples"] for e in self.events() if e.get("split") == "test"}
        self.assertEqual(len(samples), 1, "all on the same target times")

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

    def test_the_doctor_of_a_cluster_says_a_verdict_a_line(self):
        arguments = ["--cluster", "local", "--folder", self.folder, "--backend", "gloo"]
        result = run([*mpirun(2), PROGRAM, "doctor", *arguments])
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)
        lines = result.stdout.splitlines()
        self.assertTrue(all(line.startswith(("ok ", "warn ")) for line in lines[:-1]), result.stdout)
        self.assertTrue({"profile", "link", "all-reduce", "folder", "cores"} <= {line.split()[1] for line in lines})
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_the_doctor_of_a_cluster_fails_with_one_line(self):
        result = run([*mpirun(2), PROGRAM, "doctor", "--cluster", "local", "--folder", self.folder / "missing"])
        self.assertEqual(result.returncode, 1)
        self.assertRegex(result.stdout, r"FAIL  folder .*missing: open: No such file or directory; wanted")

    def test_the_doctor_says_where_ranks_run(self):
        result = run([*mpirun(2), PROGRAM, "doctor", "--binding", "--json", "-"], ISOBAR_CLUSTER="local")
        report = json.loads(result.stdout)
        self.assertEqual([place["rank"] for place in report["found"]["ranks"]], [0, 1])
        self.assertEqual([row["what"] for row in report["rows"]][:3], ["profile", "cores", "GPUs"])
        self.assertEqual(report["found"]["nodes"], [], "nothing is measured")

    def test_the_doctor_looks_at_nodes_and_at_where_ranks_run(self):
        result = run([PROGRAM, "doctor", "--binding", "--cluster", "local", "--folder", self.folder / "missing"])
        self.assertEqual(result.returncode, 1, result.stdout)
        self.assertRegex(result.stdout, r"(?m)^ +0 .* 0 ")
        self.assertIn("missing: open: No such file or directory", result.stdout)

    def test_the_doctor_wants_gpus_where_the_machine_has_them(self):
        for device, code in (([], 1), (["--device", "cpu"], 0)):
            result = run([PROGRAM, "doctor", "--binding", *device], ISOBAR_CLUSTER="leonardo", CUDA_VISIBLE_DEVICES="")
            self.assertEqual("FAIL  GPUs        rank 0 can use no GPU" in result.stdout, code == 1, result.stdout)

    def test_the_doctor_refuses_options_that_it_would_not_look_at(self):
        for words, said in ((["--folder", "."], "--folder: is for all nodes; add --cluster"),
                            (["--backend", "gloo"], "--backend: is for all nodes; add --cluster"),
                            (["--device", "cpu"], "--device: is for all nodes; add --cluster"),
                            (["--binding", "--folder", "."], "--folder: is for all nodes; add --cluster"),
                            (["--cluster", "--folder", "--json", "f"], "wants a folder, got '--json'"),
                            (["--cluster", "--folder", ""], "the folder's name is empty"),
                            (["--cluster", "--folder", ".", "x"], "x")):
            with self.subTest(words=words):
                result = run([PROGRAM, "doctor", *words])
                self.assertEqual((result.returncode, result.stdout), (2, ""), result.stderr)
                self.assertIn(said, result.stderr)
                self.assertEqual(len(result.stderr.splitlines()), 1)

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

    def test_wrong_usage_exits_with_two_and_says_what_was_meant(self):
        for command, text in [(["trian"], "did you mean 'train'?"), (["bench", "stpe"], "did you mean 'step'?"),
                              (["train", EXPERIMENT, "--jsom"], "isobar train: no option '--jsom'"),
                              (["plan", EXPERIMENT, "--jsom"], "did you mean '--json'?"),
                              (["plan", EXPERIMENT, "--nodes", "2", "--node-gbit-s", "0"], "above 0, got 0")]:
            result = run([PROGRAM, *command])
            self.assertEqual((result.returncode, result.stdout), (2, ""))
            self.assertEqual(len(result.stderr.splitlines()), 1, result.stderr)
            self.assertIn(text, result.stderr)

    def test_fails_where_its_output_does_not_arrive(self):
        with open("/dev/full", "w", encoding="utf-8") as full:
            result = subprocess.run([PROGRAM, "completion"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        self.assertEqual(result.returncode, 1)
        self.assertIn("standard output: No space left", result.stderr)

    def test_lists_its_commands_where_one_is_missing(self):
        for command, names in [([], ["train", "bench", "doctor"]), (["graph"], ["build", "info"])]:
            result = run([PROGRAM, *command])
            self.assertEqual(result.returncode, 2)
            for name in names:
                self.assertRegex(result.stdout, rf"\n  {name} ")

    def test_gives_an_example_of_every_command(self):
        page = run([PROGRAM, "man"]).stdout
        sections = page.split(".SS ")[1:]
        self.assertGreater(len(sections), 14)
        groups = [s for s in sections if any(other.startswith(s.splitlines()[0] + " ") for other in sections)]
        for section in sections:
            if section not in groups:
                self.assertIn("Example:", section)
        for words in [[], *(section.splitlines()[0].replace("\\-", "-").split()[1:] for section in sections)]:
            for line in run([PROGRAM, *words, "--help"]).stdout.splitlines():
                self.assertLessEqual(len(line), 80, (words, line))

    def test_completes_commands_options_and_their_words_in_bash(self):
        script = run([PROGRAM, "completion"]).stdout
        for words, expected in [("tr", ["train"]), ("bench st", ["step"]), ("bench step --sh", ["--shard"]),
                                ("bench step --sync ", ["none", "ddp"]), ("train exp", [])]:
            words = ["isobar", *words.split(" ")]
            quoted = " ".join(f"'{word}'" for word in words)
            bash = f'{script}\nCOMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _isobar; echo "${{COMPREPLY[@]}}"'
            self.assertEqual(run(["bash", "-c", bash]).stdout.split(), expected)

    def test_writes_an_experiment_that_trains(self):
        output = self.folder / "mine.yaml"
        command = [PROGRAM, "init", DATA, "--output", str(output)]
        result = run(command)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn(f"isobar train {output}", result.stdout)
        result = run([PROGRAM, "train", str(output), f"run.folder={self.folder}", "run.name=mine", "train.steps=2",
                      "train.log_every=1", "train.validate_every=2"])
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("optimizer.warmup_steps, 50, is more than the 2 steps", self.log("mine"))
        result = run(command)
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("is there already", result.stderr)

    def test_looks_at_the_grid_of_a_data_file(self):
        result = run([PROGRAM, "graph", "info", DATA])
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("suggested", result.stdout)
        self.assert_fits("\n".join(line for line in result.stdout.splitlines() if not line.startswith("warning")))

    def test_shows_a_bar_where_mpirun_has_a_terminal(self):
        """Of 80 columns, with the loss, the rate and the time left."""
        here, there = pty.openpty()
        fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        command = [*mpirun(2), PROGRAM, "train", EXPERIMENT, f"run.folder={self.folder}", *SHORT, "train.log_every=1"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=there, env=ENVIRONMENT)
        os.close(there)
        shown = b""
        try:
            while chunk := os.read(here, 4096):
                shown += chunk
        except OSError:  # the terminal's other end is closed
            pass
        os.close(here)
        self.assertEqual(process.wait(), 0, shown)
        bars = re.findall(r"\r\x1b\[K([^\r\n]*training \d+/4[^\r\n]*)", shown.decode())
        self.assertTrue(bars, shown)
        self.assertLess(max(map(len, bars)), 80)
        self.assertTrue(any(re.search(r"loss [\d.]+, [\d.]+ step/s, .* left", bar) for bar in bars), bars)


class QuickstartTest(Case):
    def test_forecasts_better_than_persistence_and_the_value_24_h_earlier(self):
        command = [*mpirun(2), PROGRAM, "train", EXPERIMENT, f"run.folder={self.folder}"]
        result = run(command, limit=900)
        self.assertEqual(result.returncode, 0, result.stderr)
        last = self.events()[-1]
        self.assertEqual((last["event"], last["split"], last["lead_hours"]), ("validation", "test", 6))
        self.assertLessEqual(last["rmse"]["t2m"], 0.52 * last["persistence"]["t2m"])
        self.assertLess(last["rmse"]["t2m"], last["previous_day"]["t2m"])


if __name__ == "__main__":
    unittest.main()
