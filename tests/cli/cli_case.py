# SPDX-License-Identifier: Apache-2.0
"""What tests of the program `isobar` share. Run them from the repository's root with ISOBAR_PROGRAM set; ctest does."""

import json
import os
import pathlib
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from mpi_launch import mpirun, run  # noqa: E402

PROGRAM = os.environ["ISOBAR_PROGRAM"]
EXPERIMENT = "examples/experiments/quickstart.yaml"
DATA = "examples/data/era5_t2m_uk_2019-03.nc"
SHORT = ["train.steps=4", "train.log_every=2", "train.validate_every=2", "optimizer.warmup_steps=1",
         "train.refit=false", "data.validation.begin=2019-03-24", "data.train.end=2019-03-24"]


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="isobar-cli-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def train(self, *overrides, ranks=2):
        launcher = mpirun(ranks) if ranks > 1 else []
        return run(launcher + [PROGRAM, "train", EXPERIMENT, f"run.folder={self.folder}", *SHORT, *overrides])

    def events(self, name="quickstart"):
        lines = (self.folder / name / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    def record(self, name="quickstart"):
        return json.loads((self.folder / name / "record.json").read_text())

    def log(self, name="quickstart"):
        return (self.folder / name / "log" / "rank_0000.log").read_text()
