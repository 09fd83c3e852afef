# SPDX-License-Identifier: Apache-2.0
"""isobar computes what anemoi-models does, whole and shared by ranks. Ends with 77 without anemoi-models.

    isobar_parity_test.py PROGRAM [MPIRUN ...]

MPIRUN starts ranks; without it one rank is tried. The graph and the weights are drawn here, and computed by
anemoi-models itself.
"""
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
sys.path[:0] = ["bench/baselines", "tests/parity"]
import anemoi_model
import python_torch

try:
    anemoi_model.prepare()
except python_torch.NoTorch as problem:
    print(f"skipped: {problem}")
    sys.exit(77)

import h5py
import make_anemoi_parity

PROGRAM, MPIRUN = sys.argv[1], sys.argv[2:]
CASE = ("--channels", "24", "--layers", "3", "--prognostic", "3", "--forcing", "2", "--diagnostic", "1", "--data-nodes",
        "300", "--hidden", "50", "--seed", "11")


def verify(file, ranks, *options):
    """Exit code and what was printed."""
    launcher = [*MPIRUN, "-n", str(ranks)] if MPIRUN else []
    done = subprocess.run([*launcher, PROGRAM, "verify-parity", str(file), *options], text=True, timeout=120,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode, done.stdout


class IsobarParity(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.file = Path(cls.folder.name, "case.h5")
        assert make_anemoi_parity.main([*CASE, "--output", str(cls.file)]) == 0

    def test_holds_whole_and_shared(self):
        for ranks in (1, 2, 3, 4) if MPIRUN else (1,):
            for options in (("--partition", "bands"), ("--partition", "bisection", "--activations", "recompute")):
                with self.subTest(ranks=ranks, options=options):
                    code, printed = verify(self.file, ranks, *options)
                    self.assertEqual(code, 0, printed)
                    self.assertIn("parity holds", printed)

    def test_fails_where_source_and_destination_are_swapped(self):
        # The weights of the first Linear: destination columns first, then source columns.
        with h5py.File(self.file, "a") as file:
            weight = file["weights/processor.proc.1.conv.edge_mlp.mlp.0.weight"]
            kept = weight[...]
            c = kept.shape[0]
            weight[:, :c], weight[:, c:2 * c] = kept[:, c:2 * c], kept[:, :c]
        code, printed = verify(self.file, 1)
        with h5py.File(self.file, "a") as file:
            file["weights/processor.proc.1.conv.edge_mlp.mlp.0.weight"][...] = kept
        self.assertEqual(code, 1, printed)
        self.assertIn("FAILS", printed)


unittest.main(argv=sys.argv[:1])
