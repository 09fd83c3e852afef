# SPDX-License-Identifier: Apache-2.0
"""`isobar graph build` and `isobar graph info`, as users start them."""

import json
import unittest

from cli_case import PROGRAM, Case, run

O32 = ["--grid", "O32", "--hidden", "3"]


class GraphTest(Case):
    def run_graph(self, *arguments, launcher=()):
        return run([*launcher, PROGRAM, "graph", *arguments], cwd=self.folder)

    def rows(self, *arguments, kind=None):
        result = self.run_graph(*arguments, "--json", "-")
        self.assertEqual(result.returncode, 0, result.stderr)
        return [row for row in json.loads(result.stdout)["rows"] if kind in (None, row["kind"])]

    def test_info_gives_nodes_and_edges(self):
        row = self.rows("info", *O32)[0]
        self.assertEqual((row["grid"], row["hidden"]), ("O32", "ico3"))
        self.assertEqual((row["data_nodes"], row["hidden_nodes"]), (5248, 642))
        self.assertEqual([row[f"{part}_edges"] for part in ("encoder", "processor", "decoder")], [7568, 5040, 15744])
        self.assertEqual((row["uncovered"], row["capped_nodes"], row["capped_edges"]), (0, 0, 0))

    def test_info_gives_halo_rows_by_rank(self):
        for method in ["bands", "bisection"]:
            ranks = self.rows("info", *O32, "--ranks", 4, "--partition", method, kind="rank")
            self.assertEqual([row["rank"] for row in ranks], [0, 1, 2, 3])
            self.assertEqual({row["partition"] for row in ranks}, {method})
            self.assertEqual(sum(row["data_nodes"] for row in ranks), 5248)
            self.assertEqual(sum(row["decoder_edges"] for row in ranks), 15744)
            self.assertTrue(all(0 < row["encoder_halo_rows"] < 400 for row in ranks), ranks)
        cuts = self.rows("info", *O32, "--ranks", 4, kind="partition")
        self.assertLess(cuts[1]["gathered_share"], cuts[0]["gathered_share"])

    def test_info_says_what_is_amiss(self):
        result = self.run_graph("info", "--grid", "N16", "--hidden", 2)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("warning: 16 of 1688 data nodes have no encoder edge", result.stdout)
        warning = self.rows("info", "--grid", "N16", "--hidden", 2, kind="warning")[0]["text"]
        self.assertIn("cutoff_factor", warning)
        result = self.run_graph("info", *O32)
        self.assertIn("nothing is amiss", result.stdout)
        self.assertNotIn("warning", result.stderr)

    def test_a_mesh_finer_than_the_grid_is_a_warning(self):
        for command in ["info", "build"]:
            result = self.run_graph(command, "--grid", "N16", "--hidden", 4)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertIn("isobar: warning: graph.hidden_level: 4: about 2562 hidden nodes, more than the 1688 data points",
                          result.stderr)

    def test_info_reads_what_build_wrote(self):
        built = self.run_graph("build", *O32, "--max-neighbours", 7, "--output", "mesh.h5")
        self.assertEqual(built.returncode, 0, built.stderr)
        self.assertIn("wrote mesh.h5", built.stdout)
        from_file = self.rows("info", "mesh.h5", "--ranks", 2)
        self.assertEqual(from_file, self.rows("info", *O32, "--max-neighbours", 7, "--ranks", 2))
        self.assertGreater(from_file[0]["capped_edges"], 0)

    def test_build_names_the_file_itself_and_reports(self):
        row = self.rows("build", "--grid", "O32", "--hidden", "N16", "--area", "voronoi")[0]
        self.assertEqual(row["file"], "O32-N16.h5")
        self.assertEqual(row["bytes"], (self.folder / "O32-N16.h5").stat().st_size)
        self.assertEqual(row["processor_edges"], 6 * 1688)

    def test_one_rank_speaks_under_a_launcher(self):
        result = self.run_graph("info", *O32, launcher=["mpirun", "-n", "2"])
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(result.stdout.count("O32, hidden mesh ico3"), 1)

    def test_a_damaged_file_is_an_error_of_one_line(self):
        self.assertEqual(self.run_graph("build", *O32, "--output", "mesh.h5").returncode, 0)
        file = self.folder / "mesh.h5"
        damaged = bytearray(file.read_bytes())
        damaged[len(damaged) // 2] ^= 4
        file.write_bytes(damaged)
        result = self.run_graph("info", "mesh.h5")
        self.assertEqual(result.returncode, 1)
        errors = [line for line in result.stderr.splitlines() if line.startswith("isobar: error: ")]
        self.assertEqual(len(errors), 1, result.stderr)
        self.assertIn("mesh.h5: ", errors[0])

    def test_the_aifs_experiment_is_the_published_network(self):
        # Parameters of the network are the same on any grid, and N320's graph takes seconds.
        small = ["graph.grid=N16", "graph.hidden_level=2"]
        result = run([PROGRAM, "plan", "examples/experiments/aifs_n320.yaml", *small, "--json", "-"])
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(json.loads(result.stdout)["rows"][0]["parameters"]["network"], 183_015_512)

    def test_wrong_usage_exits_with_two(self):
        for arguments in (["build"], ["info"], ["info", "mesh.h5", "--grid", "O32"], ["info", "--grid", "N33"],
                          ["info", *O32, "--partition", "metis"], ["info", *O32, "--ranks", "0"],
                          ["build", "--grid", "O32", "--hidden", "11"], ["build", "--grid", "O32", "--hidden", "ico"]):
            self.assertEqual(self.run_graph(*arguments).returncode, 2, arguments)
        self.assertEqual(self.run_graph("info", "absent.h5").returncode, 1)


if __name__ == "__main__":
    unittest.main()
