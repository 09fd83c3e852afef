# SPDX-License-Identifier: Apache-2.0
"""`isobar report` as users call it. ctest sets ISOBAR_PROGRAM."""
import os
import pathlib
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from made_runs import browser, make_campaign  # noqa: E402
from mpi_launch import run  # noqa: E402

PROGRAM = os.environ["ISOBAR_PROGRAM"]


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

    def test_ends_with_one_line(self):
        said = self.report(self.folder / "none", code=2)
        self.assertIn("report: there is no", said)
        self.assertEqual(len(said.splitlines()), 1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
