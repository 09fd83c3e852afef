# SPDX-License-Identifier: Apache-2.0
"""The comparison of what is learnt with compression. Run from the repository's root; ctest does.

A program stands in for `isobar train`: it writes what a run leaves, with errors that the test chooses.
"""
import contextlib
import importlib
import io
import json
import pathlib
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, "bench")
learning = importlib.import_module("compression_learning")

PROGRAM = '''#!/usr/bin/env python3
import json, pathlib, sys
keys = dict(text.split("=", 1) for text in sys.argv[3:])
method, seed = keys["compress.method"], int(keys["seed"])
plan = json.loads(pathlib.Path(__file__).with_name("plan.json").read_text())
folder = pathlib.Path(keys["run.folder"]) / keys["run.name"]
folder.mkdir()
if seed in plan["fail"]:
    sys.exit("isobar: error: no such data")
steps = int(keys.get("train.steps", 40))
start = int(keys.get("compress.start_step", 0))
compressed = 0 if method == "none" else steps - start
totals = {"steps": steps, "compressed_steps": compressed, "best_step": steps, "gradient_bytes": 1000 * steps,
          "payload_bytes": 1000 * (steps - compressed) + 10 * compressed, "sent_bytes": 7}
record = {"ranks": 2, "isobar": {"commit": "abc"}, "training": totals}
if keys["train.refit"] == "true":
    record["refit"] = dict(totals, compressed_steps=compressed // 2)
(folder / "record.json").write_text(json.dumps(record))
rmse = (2 + seed) * plan["ratio"].get(method, 1)
lines = [{"event": "validation", "split": split, "step": step, "lead_hours": lead, "rmse": {"t2m": value}}
         for split, step, lead, value in [("validation", 1, 6, 99), ("validation", steps, 12, 2 * rmse),
                                          ("validation", steps, 6, rmse), ("test", steps, 12, rmse), ("test", steps, 6, rmse)]]
(folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\\n" for line in lines))
'''


class LearningTest(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="isobar-learning-")
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name)
        (self.folder / "isobar").write_text(PROGRAM)
        (self.folder / "isobar").chmod(0o755)

    def compare(self, *argv, ratio=None, fail=()):
        """(exit code, output, errors, report)"""
        (self.folder / "plan.json").write_text(json.dumps({"ratio": ratio or {}, "fail": list(fail)}))
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = learning.main(["e.yaml", "--program", str(self.folder / "isobar"), "--launch", "env",
                                  "--json", str(self.folder / "report.json"), *argv])
        return code, out.getvalue(), err.getvalue(), json.loads((self.folder / "report.json").read_text())

    def test_compares_each_seed_with_its_own_uncompressed_run(self):
        code, out, _, report = self.compare("--seeds", "0,3", ratio={"acp_sgd": 1.005})
        self.assertEqual(code, 0)
        self.assertEqual([(row["method"], row["seed"]) for row in report["rows"]],
                         [("none", 0), ("acp_sgd", 0), ("none", 3), ("acp_sgd", 3)])
        for row in report["rows"]:
            self.assertAlmostEqual(row["test_ratio"], 1.005 if row["method"] == "acp_sgd" else 1)
        self.assertEqual(report["rows"][3]["lead_hours"], 6)
        self.assertAlmostEqual(report["rows"][3]["validation_rmse"], 5 * 1.005)
        self.assertAlmostEqual(report["rows"][1]["payload_factor"], 40000 / 4360)
        self.assertEqual(report["commit"], "abc")
        self.assertIn("none: test RMSE 3.5000 on average, standard deviation 2.1213 over 2 seeds", out)
        self.assertIn("acp_sgd: test ratio 1.0050 on average, standard deviation 0.0000, 1.0050 to 1.0050; within 1 %", out)

    def test_fails_where_the_mean_is_beyond_the_limit(self):
        self.assertEqual(self.compare("--methods", "none,acp_sgd,power_sgd", ratio={"power_sgd": 1.02})[0], 1)
        self.assertEqual(self.compare("--methods", "none,acp_sgd,power_sgd", "--within", "0.03",
                                      ratio={"power_sgd": 1.02})[0], 0)

    def test_runs_that_hardly_compress_prove_nothing(self):
        code, _, err, report = self.compare("--seeds", "0", "compress.start_step=5")
        self.assertEqual(code, 1)
        self.assertIn("acp_sgd-0: 35 of 40 steps compressed, wanted 90 %", err)
        self.assertEqual(len(report["rows"]), 1)

    def test_looks_at_a_refit_too(self):
        code, _, err, _ = self.compare("--seeds", "0", "train.refit=true")
        self.assertEqual(code, 1)
        self.assertIn("acp_sgd-0: 18 of 40 steps compressed", err)

    def test_settings_go_to_every_run_and_start_follows_the_steps(self):
        report = self.compare("--seeds", "0", "train.steps=100")[3]
        self.assertEqual([row["steps"] for row in report["rows"]], [100, 100])
        self.assertEqual(report["rows"][1]["compressed_steps"], 90)

    def test_says_which_run_failed(self):
        code, _, err, report = self.compare("--seeds", "0,1", fail=[1])
        self.assertEqual((code, len(report["rows"])), (1, 2))
        self.assertIn("run.name=none-1", err)
        self.assertIn("no such data", err)


if __name__ == "__main__":
    unittest.main()
