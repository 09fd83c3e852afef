# SPDX-License-Identifier: Apache-2.0
"""`isobar train` and `isobar evaluate` with compressed gradients."""

import json
import unittest

from cli_case import PROGRAM, Case, run


class CompressionTest(Case):
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

    def test_says_when_nothing_was_compressed(self):
        result = self.train("compress.method=acp_sgd", ranks=1)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("warning: acp_sgd: none of 4 steps compressed", self.log())


if __name__ == "__main__":
    unittest.main()
