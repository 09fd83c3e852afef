# SPDX-License-Identifier: Apache-2.0
"""bench/baselines/anemoi_gnn.py on a small graph. Ends with 77 without anemoi-models.

Run from the repository's root; ctest does.
"""
import contextlib
import io
import json
import struct
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

import anemoi_gnn
import anemoi_work
import h5py
import numpy
import random_graph
import resident_memory
from make_anemoi_parity import graph_datasets

SIZES = anemoi_model.Network(channels=16, layers=2, prognostic=3, forcing=1)
NETWORK = ["--channels", "16", "--layers", "2", "--prognostic", "3", "--forcing", "1", "--repeats", "2"]


def write_safetensors(file, tensors):
    header, body = {}, b""
    for name, values in tensors.items():
        data = values.astype("<f4").tobytes()
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    Path(file).write_bytes(struct.pack("<Q", len(text)) + text + body)


class Baseline(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.graph = Path(cls.folder.name) / "graph.h5"
        graph, area = random_graph.draw_graph(120, 20, numpy.random.default_rng(1))
        with h5py.File(cls.graph, "w") as file:
            for name, values in graph_datasets(graph):
                file[name] = values
            file["area_weights"] = area
        with h5py.File(cls.graph) as file:
            cls.work = anemoi_work.AnemoiWork(file, SIZES, 0)

    def row(self, *options):
        """(exit code, row)."""
        file = Path(self.folder.name) / "rows.json"
        with contextlib.redirect_stdout(io.StringIO()):
            code = anemoi_gnn.main(["--graph", str(self.graph), *NETWORK, *options, "--json", str(file)])
        (row,) = json.loads(file.read_text(encoding="utf-8"))["rows"]
        return code, row

    def test_learns_the_same_with_and_without_recomputation(self):
        code, plain = self.row("--warmup", "4")
        self.assertEqual((code, plain["error"], plain["recompute"], plain["threads"]), (0, 0, False, 1))
        code, recompute = self.row("--warmup", "4", "--recompute")
        self.assertEqual((code, recompute["error"], recompute["processor_chunks"]), (0, 0, 2))
        self.assertEqual(plain["losses"], recompute["losses"])
        self.assertLess(plain["losses"][3], plain["losses"][0])
        self.assertEqual((plain["parameters"], plain["data_nodes"], plain["hidden_nodes"]),
                         (recompute["parameters"], 120, 20))
        parts = sum(plain[part] for part in ("zero_grad_s", "forward_s", "backward_s", "optimizer_s"))
        self.assertGreater(plain["step_high_s"] + 1e-3, parts)

    def test_compares_its_gradients_with_those_that_are_given(self):
        gradients = {name: values.copy() for name, values in self.work.gradients(anemoi_model.Saving()).items()}
        self.assertTrue({"data_table", "processor_table", "encoder.emb_nodes_src.mlp.0.weight",
                         "processor.1.node_mlp.layer_norm.bias"} <= set(gradients))
        file = Path(self.folder.name) / "gradients.safetensors"
        write_safetensors(file, gradients)
        self.assertEqual(self.row("--gradients", str(file))[0], 0)
        gradients["decoder.node_data_extractor.mlp.4.bias"][0] *= 1.01
        write_safetensors(file, gradients)
        code, row = self.row("--gradients", str(file))
        self.assertEqual(code, 1)
        self.assertGreater(row["error"], 1e-4)

    def test_compares_the_target_with_the_output_without_the_last_step(self):
        network = self.work.network(anemoi_model.Saving())
        raw = anemoi_model.predict(network, self.work.steps) - self.work.steps[-1, :, :SIZES.prognostic]
        target = anemoi_work.random_values((1, 120, SIZES.prognostic), 1, 0, "target 0")[0]
        wanted = (self.work.area.numpy() @ (raw.detach().numpy() - target) ** 2).mean()
        self.assertAlmostEqual(self.work.loss(network).item() / wanted.item(), 1, places=5)

    def test_says_what_is_wrong_with_a_file(self):
        with self.assertRaisesRegex(SystemExit, "anemoi_gnn: error: absent.h5: "):
            anemoi_gnn.main(["--graph", "absent.h5"])
        with self.assertRaises(SystemExit), contextlib.redirect_stderr(io.StringIO()) as said:
            anemoi_gnn.main(["--graph", str(self.graph), "--layers", "3", "--recompute"])
        self.assertIn("3 layers are no multiple of --processor-chunks 2", said.getvalue())


class Areas(unittest.TestCase):
    def test_of_gaussian_rows_are_their_weights(self):
        sines, weights = numpy.polynomial.legendre.leggauss(4)
        points = numpy.array([3, 5, 5, 3])
        latitude = numpy.repeat(numpy.arcsin(-sines), points).astype("f4")
        numpy.testing.assert_allclose(anemoi_work.gaussian_areas(latitude), numpy.repeat(weights / 2 / points, points), rtol=1e-6)

    def test_of_other_points_are_not_guessed(self):
        with self.assertRaisesRegex(ValueError, "not Gaussian"):
            anemoi_work.gaussian_areas(numpy.linspace(1, -1, 9, dtype="f4"))


class Memory(unittest.TestCase):
    def test_counts_what_was_there_for_a_moment(self):
        size = 64 << 20
        before, added, kept = resident_memory.added_bytes(lambda: int(numpy.ones(size // 8).sum()))
        self.assertEqual(kept, size // 8)
        self.assertGreater(before, 0)
        self.assertTrue(0.9 * size < added < 1.5 * size, added)

    def test_forgets_an_earlier_peak(self):
        numpy.ones(16 << 20)
        _, added, _ = resident_memory.added_bytes(lambda: None)
        self.assertLess(added, 16 << 20)


if __name__ == "__main__":
    unittest.main()
