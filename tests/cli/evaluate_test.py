# SPDX-License-Identifier: Apache-2.0
"""`isobar evaluate` as users start it: anomaly correlations, rollouts and spectra."""

import json
import math
import unittest

from cli_case import PROGRAM, Case, mpirun, run


class EvaluateTest(Case):
    def test_scores_every_step_of_a_rollout_against_the_climatology(self):
        self.assertEqual(self.train("data.input_hours=[-12,-6,0]", "test.lead_hours=[12]").returncode, 0)
        reports, spectra = [], []
        for ranks, overrides in [(1, []), (2, []), (2, ["model.ranks=2"])]:
            launcher = mpirun(ranks) if ranks > 1 else []
            result = run(launcher + [PROGRAM, "evaluate", str(self.folder / "quickstart"), *overrides, "--rollout", "2",
                                     "--spectra", "--json", "-"])
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertIn("climatology", result.stderr)
            report = json.loads(result.stdout)
            reports.append(report["rows"])
            spectra.append(report["spectra"])
        self.assertEqual([row["lead_hours"] for row in reports[0]], [6, 12])
        result = run([PROGRAM, "evaluate", str(self.folder / "quickstart"), "--climatology", "none", "--json", "-"])
        scored = json.loads(result.stdout)["rows"][0]
        self.assertAlmostEqual(scored["rmse"], self.events()[-1]["rmse"]["t2m"], places=4)
        self.assertEqual(reports[0][1]["samples"], scored["samples"] - 6, "all steps of a rollout lie in the period")
        for rows in reports:
            for row, first in zip(rows, reports[0]):
                self.assertTrue(-1 <= row["acc"] <= 1, row)
                self.assertAlmostEqual(row["acc"], first["acc"], places=4)
                self.assertEqual(row["samples"], first["samples"])
        self.check_spectra(spectra)

    def check_spectra(self, reports):
        """Of two lead times on rows of 49 points, the same however points and samples are shared."""
        wanted = [(lead, k) for lead in (6, 12) for k in range(1, 25)]
        self.assertEqual([(row["lead_hours"], row["wavenumber"]) for row in reports[0]], wanted)
        for rows in reports:
            for row, first in zip(rows, reports[0]):
                self.assertGreater(row["truth"], 0)
                self.assertAlmostEqual(row["ratio"], row["forecast"] / row["truth"], places=9)
                self.assertAlmostEqual(row["truth"], first["truth"], delta=1e-9 * first["truth"])
                self.assertAlmostEqual(row["forecast"], first["forecast"], delta=1e-3 * first["forecast"])
        self.assertLess(reports[0][23]["truth"], 0.01 * reports[0][0]["truth"], "temperatures are smooth")

    def test_maps_the_last_sample_that_it_scores(self):
        self.assertEqual(self.train(ranks=1).returncode, 0)
        files = []
        for ranks, overrides in [(1, []), (2, ["model.ranks=2"])]:
            files.append(self.folder / f"maps{ranks}.json")
            launcher = mpirun(ranks) if ranks > 1 else []
            result = run(launcher + [PROGRAM, "evaluate", str(self.folder / "quickstart"), *overrides, "--climatology", "none",
                                     "data.test={begin: 2019-03-31T23:00, end: 2019-04-01}", "--maps", str(files[-1]),
                                     "--json", "-"])
            self.assertEqual(result.returncode, 0, result.stderr)
        row = json.loads(result.stdout)["rows"][0]
        self.assertEqual(row["samples"], 1)
        whole, shared = (json.loads(file.read_text()) for file in files)
        (one,), (two,) = whole["maps"], shared["maps"]
        self.assertEqual((one["variable"], one["lead_hours"], one["time"]), ("t2m", 6, "2019-03-31T23:00"))
        self.assertEqual(one["truth"], two["truth"])
        weights = [math.cos(math.radians(latitude)) for latitude in whole["latitudes"]]
        self.assertEqual({len(weights)}, {len(whole["longitudes"]), len(one["truth"]), len(one["forecast"])})
        for each in (one, two):
            squares = [weight * (a - b) ** 2 for weight, a, b in zip(weights, each["forecast"], each["truth"])]
            # The score's areas are those of cells, at the region's edge not quite the cosine.
            self.assertAlmostEqual(math.sqrt(sum(squares) / sum(weights)), row["rmse"], delta=0.02 * row["rmse"])

    def test_goes_without_the_training_period_where_asked(self):
        self.assertEqual(self.train(ranks=1).returncode, 0)
        command = [PROGRAM, "evaluate", str(self.folder / "quickstart"), "--climatology", "none"]
        result = run(command)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertNotIn("climatology", result.stderr)
        self.assertNotIn("ACC", result.stdout)
        row = json.loads(run([*command, "--json", "-"]).stdout)["rows"][0]
        self.assertIsNone(row["acc"])
        self.assertGreater(row["rmse"], 0)

    def test_takes_the_experiments_communicator(self):
        self.assertEqual(self.train(ranks=1).returncode, 0)
        command = mpirun(2) + [PROGRAM, "evaluate", str(self.folder / "quickstart"), "--climatology", "none"]
        result = run([*command, "comm.backend=self"])
        self.assertEqual(result.stdout, "")
        self.assertRegex(result.stderr, "isobar: error: .*self")
        self.assertEqual(run([*command, "comm.backend=mpi"]).returncode, 0)

    def test_says_what_its_scores_are_of(self):
        self.assertEqual(self.train(ranks=1).returncode, 0)
        command = [PROGRAM, "evaluate", str(self.folder / "quickstart"), "--climatology", "none", "--json", "-"]
        result = run(command)
        self.assertNotIn("warning", result.stderr)
        self.assertEqual(json.loads(result.stdout)["warnings"], [])
        result = run(mpirun(2) + [*command, "train.steps=9", "data.test={begin: 2019-03-23, end: 2019-03-25}"])
        self.assertEqual(result.returncode, 0, result.stderr)
        warnings = json.loads(result.stdout)["warnings"]
        self.assertEqual(len(warnings), 2, warnings)
        self.assertEqual(warnings[0], "train.steps=9 plays no part in these scores")
        self.assertIn("data.test at 6 h: 24 of 48 target times are of the period that the model was trained on",
                      warnings[1])
        for warning in warnings:
            self.assertEqual(result.stderr.count(f"isobar: warning: {warning}\n"), 1, result.stderr)
        result = run(mpirun(2) + [*command, "data.step_hours=12"])
        self.assertEqual((result.returncode, result.stdout), (2, ""))
        self.assertRegex(result.stderr, "isobar: error: evaluate: data.step_hours=12: the model was trained with 6")

    def test_scores_a_refit_as_trained_on_the_validation_period(self):
        self.assertEqual(self.train("train.refit=true", ranks=1).returncode, 0)
        command = [PROGRAM, "evaluate", str(self.folder / "quickstart"), "--climatology", "none"]
        self.assertNotIn("warning", run(command).stderr)
        result = run([*command, "--split", "validation"])
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("target times are of the period that the model was trained on, 2019-03-01 to", result.stderr)

    def test_shows_spectra_by_scale(self):
        self.assertEqual(self.train(ranks=1).returncode, 0)
        result = run([PROGRAM, "evaluate", str(self.folder / "quickstart"), "--spectra"])
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertRegex(result.stdout, r"variable +1-2 +3-8 +9-24 ")
        self.assertIn("ACC", result.stdout)


if __name__ == "__main__":
    unittest.main()
