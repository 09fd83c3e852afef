#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Does graph_test notice a graph that is wrong? Makes one mistake at a time, builds, and runs the test.

    tests/graph/mutations.py build/release [NAME ...]

The sources are changed in place, one file at a time, and put back; what is not committed there is refused. Exit code
0: every mistake was noticed.
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from mutation import Mistake, main  # noqa: E402

SHARD = "lib/graph/graph_shard.cpp"
CUT = "lib/graph/partition.cpp"
FILE = "lib/graph/graph_file.cpp"
ARRAYS, DATES = "lib/hdf5/arrays.cpp", "lib/hdf5/file.cpp"
CACHE = "lib/graph/graph_cache.cpp"
VORONOI = "lib/graph/voronoi.cpp"
EDGES = "lib/graph/edges.cpp"
DOCTOR = "lib/graph/doctor.cpp"

MISTAKES = [
    Mistake("border nodes first", SHARD, "{rows_of(own & ~border), rows_of(own & border)}",
            "{rows_of(own & border), rows_of(own & ~border)}"),
    Mistake("encoder alone makes the border", SHARD, "  processor.mark_border(hidden_border);\n", ""),
    Mistake("halo by node, not by peer", SHARD, "peers.index_select(0, rows) * edges.sources +",
            "peers.index_select(0, rows) * 0 +"),
    Mistake("sends what it receives", SHARD, "sent(whole, edges.to, rows_of(edges.out_of & ~edges.into)",
            "sent(whole, edges.from, rows_of(edges.into & ~edges.out_of)"),
    Mistake("interior one short", SHARD, "? shard.edges.destinations\n", "? shard.edges.destinations - 1\n"),
    Mistake("partition of another graph", SHARD, 'check_owners(partition.hidden, graph.hidden_nodes(), ranks, "hidden");\n',
            ""),
    Mistake("remainder to the last ranks", CUT, "std::min<int64_t>(rank, nodes % ranks)",
            "std::max<int64_t>(0, rank - ranks + nodes % ranks)"),
    Mistake("always across the poles' axis", CUT, "if (high - low > extent * alike)", "if (false)"),
    Mistake("hash of the whole unread", FILE, "if (reader.hash() != wanted)", "if (false)"),
    Mistake("indices unchecked", FILE, "ends.max().item<int64_t>() >= nodes", "false"),
    Mistake("bytes unchecked", ARRAYS, "if (array.hash != written)", "if (false)"),
    Mistake("dated groups", DATES, "H5Pset_obj_track_times(creation.get(), false)",
            "H5Pset_obj_track_times(creation.get(), true)"),
    Mistake("foreign file believed", CACHE, "if (key_of(stored.graph.data, stored.options) == key) ", ""),
    Mistake("options not in the key", CACHE, "  hash.add(to_json(options).dump());\n", ""),
    Mistake("areas of the file", CACHE, "      result.graph.data = grid;\n", ""),
    Mistake("stops one neighbour early", VORONOI, "return 4 * square / (1 + square);",
            "return 2 * square / (1 + square);"),
    Mistake("coincident points unshared", VORONOI, " / static_cast<double>(shared.sharing)", ""),
    Mistake("a node is its own neighbour", EDGES, "found.erase(self != found.end() ? self : found.end() - 1);",
            "found.pop_back();"),
    Mistake("sources unsorted", EDGES, "      std::sort(source.begin() + first, source.end());\n", ""),
    Mistake("a row for each edge", DOCTOR, "std::get<0>(at::_unique(keys, /*sorted=*/true))", "keys"),
    Mistake("capped edges uncounted", DOCTOR, "(within - options.max_neighbours).clamp_min(0)",
            "(within - options.max_neighbours)"),
]

if __name__ == "__main__":
    sys.exit(main(__doc__, MISTAKES, "graph_test"))
