# SPDX-License-Identifier: Apache-2.0
"""`isobar report` as users call it. ctest sets ISOBAR_PROGRAM."""
import json
import os
import pathlib
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from made_runs import browser, make_campaign  # noqa: E402
from mpi_launch import mpirun, run  # noqa: E402

PROGRAM = os.environ["ISOBAR_PROGRAM"]

# Trained in a second.
SHORT = ["data.cache_bytes=64KiB", "data.train={begin: 2019-03-01, end: 2019-03-07}",
         "data.validation={begin: 2019-03-21, end: 2019-03-21T02:00}", "data.test={begin: 2019-03-25, end: 2019-03-25T02:00}",
         "model.channels=4", "model.layers=1", "train.batch=1", "train.steps=20", "train.validate_every=0",
         "train.refit=false", "optimizer.warmup_steps=1"]


class CommandTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="isobar-report-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.campaign = make_campaign(self.folder, "small", {"nodes": ["1", "2"], "bucket-cap": ["1MiB", "4MiB"]})

    def report(self, *words, code=0, **variables):
        done = run([PROGRAM, "report", *words], **variables)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def test_writes_a_page_and_tables(self):
        page, tables = self.folder / "page.html", self.folder / "csv"
        said = self.report(self.campaign, "--output", page, "--csv", tables)
        self.assertIn(f"5 charts in {page}: open it in a browser", said)
        self.assertEqual(page.read_text().count('class="plot"'), 5)
        rows = (tables / "Campaign-small-points.csv").read_text().splitlines()
        self.assertEqual(len(rows), 5)
        self.assertTrue(rows[0].startswith("nodes,bucket-cap,runs,step time (s),"))

    def test_draws_pictures_or_says_what_that_takes(self):
        page, pictures = self.folder / "page.html", self.folder / "png"
        said = self.report(self.campaign, "--output", page, "--png", pictures, PATH="")
        self.assertIn("no pictures: they want a Chromium or Chrome on the PATH", said)
        self.assertFalse(pictures.exists())
        if browser() is None:
            self.skipTest("no Chromium or Chrome on the PATH")
        self.report(self.campaign, "--output", page, "--png", pictures)
        self.assertEqual(sorted(path.name for path in pictures.iterdir()), [f"chart-{n}.png" for n in range(1, 6)])
        for path in pictures.iterdir():
            self.assertGreater(path.stat().st_size, 10000, path)

    def train_and_claim_waits(self):
        """A run's folder, whose profile says that ranks wait half of a step for data that would fit into memory."""
        trained = run([*mpirun(2), PROGRAM, "train", "examples/experiments/quickstart.yaml", f"run.folder={self.folder}",
                       "run.name=slow", *SHORT])
        self.assertEqual(trained.returncode, 0, trained.stdout + trained.stderr)
        file = self.folder / "slow" / "profile.json"
        profile = json.loads(file.read_text())
        wait = profile["step_s"]
        profile["step_s"] *= 2
        for rank in profile["ranks"]:
            rank["seconds"]["data_wait"] += wait
        file.write_text(json.dumps(profile))
        return self.folder / "slow"

    def test_applies_a_cure_and_says_that_it_did_not_help(self):
        slow = self.train_and_claim_waits()
        before = {path: path.read_bytes() for path in slow.rglob("*") if path.is_file()}
        found, cured = self.folder / "found.json", self.folder / "cured.json"
        self.report(slow, "--json", found, "--output", self.folder / "page.html")
        finding = json.loads(found.read_text())["rows"][0]
        self.assertEqual((finding["cause"], finding["setting"]), ("data", "data.cache_bytes=8MiB"))
        said = self.report(slow, "--apply", "--repeats", "1", "--json", cured, "--launch", " ".join(mpirun(2)), code=1)
        self.assertIn("data.cache_bytes from 64KiB to 8MiB: a step takes", said)
        self.assertIn("it did not", said)
        row = json.loads(cured.read_text())["rows"][0]
        self.assertEqual((row["key"], row["now"], row["proposed"], row["helped"]),
                         ("data.cache_bytes", "64KiB", "8MiB", False))
        self.assertLess(row["measured_gain"], 0.4, "nothing was wrong with it")
        self.assertEqual({path: path.read_bytes() for path in before}, before)
        (slow / "record.json").unlink()
        self.assertIn("has no record.json that can be read", self.report(slow, "--apply", code=2))

    def test_ends_with_one_line(self):
        said = self.report(self.folder / "none", code=2)
        self.assertIn("report: there is no", said)
        self.assertEqual(len(said.splitlines()), 1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
