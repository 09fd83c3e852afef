# SPDX-License-Identifier: Apache-2.0
"""make_anemoi_parity.py: what it writes, and that its check notices what is wrong. Ends with 77 without anemoi-models.

Run from the repository's root; ctest does.
"""
import contextlib
import io
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
import numpy
import random_graph

CHANNELS, LAYERS, PROGNOSTIC, FORCING, DIAGNOSTIC, DATA, HIDDEN = 8, 2, 3, 2, 1, 90, 20
CASE = ["--channels", CHANNELS, "--layers", LAYERS, "--prognostic", PROGNOSTIC, "--forcing", FORCING,
        "--diagnostic", DIAGNOSTIC, "--data-nodes", DATA, "--hidden", HIDDEN, "--seed", 3]


def start(*options):
    """(exit code, what was printed)."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        code = make_anemoi_parity.main([str(option) for option in options])
    return code, out.getvalue()


def datasets(file):
    found = {}
    with h5py.File(file) as opened:
        opened.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
    return found


class Files(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.file = Path(cls.folder.name) / "case.h5"
        code, said = start(*CASE, "--output", cls.file)
        assert code == 0, said
        cls.values = datasets(cls.file)

    def changed(self, name, change):
        """A copy of the file with one dataset changed."""
        copy = Path(self.folder.name) / "changed.h5"
        copy.write_bytes(self.file.read_bytes())
        with h5py.File(copy, "r+") as file:
            values = file[name][()]
            file[name][...] = change(values)
        return copy

    def test_have_the_layout(self):
        outputs = PROGNOSTIC + DIAGNOSTIC
        shapes = {"input": (2, DATA, PROGNOSTIC + FORCING), "target": (DATA, outputs), "output": (DATA, outputs), "loss": (),
                  "area_weights": (DATA,), "adamw/loss": (6,), "ref64/adamw_loss": (6,), "ref64/loss": (),
                  "ref64/output": (DATA, outputs), "taps/enc_data_latent": (DATA, CHANNELS),
                  "taps/enc_hidden_latent": (HIDDEN, CHANNELS), "taps/proc_00_nodes": (HIDDEN, CHANNELS),
                  "taps/proc_01_nodes": (HIDDEN, CHANNELS), "taps/dec_output_before_residual": (DATA, outputs),
                  "graph/nodes/data/latlon": (DATA, 2), "graph/nodes/hidden/sincos": (HIDDEN, 4),
                  "weights/decoder.0.node_data_extractor.mlp.4.weight": (outputs, CHANNELS),
                  "weights/node_attributes.trainable_tensors.hidden.trainable": (HIDDEN, 8)}
        self.assertEqual({name: self.values[name].shape for name in shapes}, shapes)
        wide = {name for name, values in self.values.items() if values.dtype == "f8"}
        self.assertEqual(wide, {name for name in self.values if name.startswith("ref64/")} | {"loss", "adamw/loss"})
        weights, *gradients = ({name.removeprefix(prefix) for name in self.values if name.startswith(prefix)}
                               for prefix in ("weights/", "grads/", "ref64/grads/"))
        self.assertEqual(gradients, [weights, weights])
        # Nine MLPs and two a processor layer with a norm, one without, and five tables.
        self.assertEqual(len(weights), 8 * (9 + 2 * LAYERS) + 6 + 5)

    def test_pass_the_check(self):
        code, said = start("--check", self.file)
        self.assertEqual(code, 0, said)
        self.assertIn(f"diagnostic={DIAGNOSTIC}", said)

    def test_follow_from_the_seed(self):
        again, other = Path(self.folder.name) / "again.h5", Path(self.folder.name) / "other.h5"
        start(*CASE, "--output", again)
        start(*CASE, "--seed", 4, "--output", other)
        again, other = datasets(again), datasets(other)
        given = [name for name in self.values if name.startswith(("graph/", "weights/")) or name in ("input", "target")]
        self.assertTrue(all(numpy.array_equal(self.values[name], again[name]) for name in given))
        self.assertFalse(numpy.array_equal(self.values["input"], other["input"]))

    def test_keep_the_residual_off_what_is_diagnostic(self):
        change = self.values["output"] - self.values["taps/dec_output_before_residual"]
        numpy.testing.assert_allclose(change[:, :PROGNOSTIC], self.values["input"][1, :, :PROGNOSTIC], atol=1e-6)
        self.assertEqual(abs(change[:, PROGNOSTIC:]).max(), 0)

    def test_are_refused_where_something_is_wrong(self):
        swapped = numpy.r_[CHANNELS:2 * CHANNELS, :CHANNELS, 2 * CHANNELS:3 * CHANNELS]
        mistakes = {
            "output": ("weights/encoder.0.proc.conv.edge_mlp.mlp.0.weight", lambda w: w[:, swapped]),  # x_dst and x_src
            "loss": ("area_weights", lambda a: numpy.full_like(a, 1 / len(a))),
            "grads": ("grads/processor.proc.1.node_mlp.layer_norm.bias", lambda g: 1.001 * g),
            "taps": ("taps/proc_last_edges", lambda t: t[::-1]),
            "ref64/grads": ("ref64/grads/encoder.0.emb_edges.mlp.0.bias", lambda g: g.astype("f4")),
            "adamw/loss": ("adamw/loss", lambda values: values[[0, 1, 2, 3, 5, 4]]),
        }
        for quantity, (name, change) in mistakes.items():
            with self.subTest(name):
                code, said = start("--check", self.changed(name, change))
                self.assertEqual(code, 1)
                (line,) = [line for line in said.splitlines() if line.startswith(quantity + " ")]
                self.assertIn("too far", line)

    def test_that_lack_a_parameter_are_named(self):
        copy = self.changed("loss", lambda loss: loss)
        with h5py.File(copy, "r+") as file:
            del file["weights/decoder.0.emb_edges.mlp.0.bias"]
        code, said = start("--check", copy)
        self.assertEqual(code, 1)
        self.assertIn("decoder.0.emb_edges.mlp.0.bias", said)


class Graphs(unittest.TestCase):
    def test_are_sorted_and_cover_all(self):
        graph, area = random_graph.draw_graph(DATA, HIDDEN, numpy.random.default_rng(5))
        for part, edges in graph.edges.items():
            source, destination = edges.index.astype("i8")
            self.assertTrue((numpy.diff(destination * DATA + source) > 0).all(), part)
            self.assertEqual(len(set(destination)), DATA if part == "decoder" else HIDDEN, part)
            self.assertAlmostEqual(edges.attr[:, 0].std(ddof=1), 1, places=5)
            self.assertAlmostEqual(edges.attr[:, 1:].std(ddof=1), 1, places=5)
        self.assertEqual(set(graph.edges["encoder"].index[0]), set(range(DATA)))
        self.assertAlmostEqual(float(area.sum()), 1, places=5)

    def test_have_directions_seen_from_the_destination_turned_to_the_pole(self):
        generator = numpy.random.default_rng(6)
        places = random_graph.scattered(12, generator)
        index = numpy.stack([numpy.arange(11), numpy.arange(1, 12)])
        found = random_graph.edge_attributes(places, places, index)
        points, length, direction = random_graph.on_sphere(places), [], []
        for source, destination in index.T:
            latitude, longitude = places[destination].astype("f8")
            turn, tilt = longitude, numpy.pi / 2 - latitude
            to_meridian = numpy.array([[numpy.cos(turn), numpy.sin(turn), 0], [-numpy.sin(turn), numpy.cos(turn), 0], [0, 0, 1]])
            to_pole = numpy.array([[numpy.cos(tilt), 0, -numpy.sin(tilt)], [0, 1, 0], [numpy.sin(tilt), 0, numpy.cos(tilt)]])
            rotation = to_meridian.T @ to_pole @ to_meridian
            numpy.testing.assert_allclose(rotation @ points[destination], [0, 0, 1], atol=1e-12)
            moved = (rotation @ points[source])[:2]
            direction.append(moved / numpy.linalg.norm(moved))
            length.append(numpy.arccos(points[source] @ points[destination]))
        length, direction = numpy.array(length), numpy.array(direction)
        numpy.testing.assert_allclose(found[:, 0], length / length.std(ddof=1), rtol=1e-5)
        numpy.testing.assert_allclose(found[:, 1:], direction / direction.std(ddof=1), atol=1e-5)


if __name__ == "__main__":
    unittest.main()
