# SPDX-License-Identifier: Apache-2.0
"""The program `isobar` with input that cannot be right, on two ranks."""

import pathlib
import unittest

from cli_case import DATA, EXPERIMENT, PROGRAM, SHORT, Case, run


class BadInputTest(Case):
    """One line that names the object, non-zero on every rank, and no hang."""

    def check(self, commands, *expected, code=None):
        codes = self.folder / "codes"
        script = self.folder / "rank"
        script.write_text(f'#!/bin/sh\n"$@"; code=$?; echo $code >>{codes}; exit $code\n')
        script.chmod(0o755)
        launch = ["mpirun"]
        for command in commands:
            launch += ["-n", str(2 // len(commands)), str(script), PROGRAM, *command, ":"]
        before = sorted(self.folder.glob("*"))
        result = run(launch[:-1])
        errors = [line for line in result.stderr.splitlines() if line.startswith("isobar: error: ")]
        self.assertEqual(len(errors), 1, result.stderr)
        for text in expected:
            self.assertIn(text, errors[0])
        self.assertNotEqual(result.returncode, 0)
        self.assertTrue(codes.read_text().split(), "no rank ended by itself")
        self.assertNotIn("0", codes.read_text().split())
        if code:
            self.assertEqual(set(codes.read_text().split()), {code})
        codes.unlink()
        self.assertEqual(sorted(self.folder.glob("*")), before, "a start that failed leaves no folder")

    def command(self, *overrides, experiment=EXPERIMENT):
        return ["train", experiment, f"run.folder={self.folder}", *SHORT, *overrides]

    def test_missing_experiment(self):
        self.check([self.command(experiment="absent.yaml")], "absent.yaml", code="2")

    def test_a_path_that_the_system_refuses(self):
        self.check([["evaluate", 300 * "a"]], "File name too long")

    def test_missing_data_file(self):
        self.check([self.command("data.path=absent.nc")], "absent.nc", code="1")

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
                   "matrix_approximation_rank", "1 or more, got 0")

    def test_one_rank_with_another_compression(self):
        self.check([self.command(), self.command("compress.method=power_sgd")], "rank 1", "compress.method=power_sgd")

    def test_period_outside_of_the_data(self):
        self.check([self.command("data.test={begin: 2030-01-01, end: 2030-02-01}")],
                   "data.test: no time of", "from 2030-01-01 until 2030-02-01", "2019-03-01T00:00 to 2019-03-31T23:00")

    def test_hidden_level_that_the_machine_cannot_hold(self):
        self.check([self.command("graph.hidden_level=10", "graph.margin_degrees=60", "model.channels=1024")],
                   "graph.hidden_level", "hidden nodes for 1617 data points", "of this machine, which has")

    def test_layouts_of_an_experiment_without_its_data(self):
        result = run([PROGRAM, "verify-layout", "examples/experiments/aifs_n320.yaml"])
        self.assertNotEqual(result.returncode, 0)
        self.assertRegex(result.stderr, r"^isobar: error: .*'aifs[^']*', is not there; isobar plan needs no data\n$")

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


if __name__ == "__main__":
    unittest.main()
