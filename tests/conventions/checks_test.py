# SPDX-License-Identifier: Apache-2.0
"""Each check accepts a sound tree and finds each fault planted in one."""
import shutil
import tempfile
import unittest
from pathlib import Path

import check_docs
import check_format
import check_layers
import check_sources

SPDX = "// SPDX-License-Identifier: Apache-2.0\n"
HEADER = SPDX + "#pragma once\n"


class CheckTest(unittest.TestCase):
    def setUp(self):
        self.root = Path(tempfile.mkdtemp()).resolve()
        self.addCleanup(shutil.rmtree, self.root)

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def assert_finds(self, check, *places):
        found = [problem.split(": ")[0] for problem in check.check(self.root)]
        self.assertEqual(found, list(places))


class Layers(CheckTest):
    def test_accepts_an_edge_of_the_diagram(self):
        self.write("include/isobar/comm/work.hpp", "#include <isobar/core/error.hpp>\n#include <isobar/comm/x.hpp>\n")
        self.write("lib/cli/main.cpp", "#include <isobar/model/loss.hpp>\n#include <isobar/train/task.hpp>\n")
        self.write("tests/data/x_test.cpp", "#include <isobar/graph/grid.hpp>\n")
        self.assert_finds(check_layers)

    def test_finds_an_upward_include_of_a_public_header(self):
        self.write("include/isobar/core/error.hpp", "\n#include <isobar/comm/work.hpp>\n")
        self.assert_finds(check_layers, "include/isobar/core/error.hpp:2")

    def test_finds_a_private_header_of_another_layer(self):
        self.write("lib/data/loader.cpp", '#include "data/field.hpp"\n#include "graph/point_tree.hpp"\n')
        self.assert_finds(check_layers, "lib/data/loader.cpp:2")

    def test_finds_a_relative_include_of_another_layer(self):
        self.write("lib/comm/backend.hpp", "")
        self.write("lib/model/mlp.cpp", '#include "../comm/backend.hpp"\n')
        self.assert_finds(check_layers, "lib/model/mlp.cpp:1")

    def test_finds_communication_in_the_model(self):
        self.write("lib/model/mlp.cpp", "#  include <isobar/comm/communicator.hpp>\n")
        self.assert_finds(check_layers, "lib/model/mlp.cpp:1")

    def test_finds_weather_in_the_trainer(self):
        self.write("include/isobar/train/task.hpp", "#include <isobar/graph/grid.hpp>\n")
        self.assert_finds(check_layers, "include/isobar/train/task.hpp:1")

    def test_finds_a_layer_that_nobody_drew(self):
        self.write("lib/utils/misc.cpp", "")
        self.assert_finds(check_layers, "lib/utils/misc.cpp:1")


class Sources(CheckTest):
    def test_accepts_a_sound_tree(self):
        self.write("include/isobar/ddp/data_parallel.hpp", HEADER + "#include <torch/nn/module.h>\n")
        self.write("include/isobar/comm/work.hpp", SPDX + "// Why.\n#pragma once\n#include <ATen/core/Tensor.h>\n")
        self.write("lib/comm/work.cpp", SPDX + "#include <ATen/ATen.h>\n  state.abort(); void abort(int); // TODO(#12): exit(1)\n")
        self.write("lib/cli/main.cpp", SPDX + 'fmt::print("x"); std::cout << 1; std::exit(1);\n')
        self.write("tests/comm/work_test.cpp", SPDX + "#include <torch/torch.h>\n")
        self.write("scripts/run.py", "#!/usr/bin/env python3\n# SPDX-License-Identifier: Apache-2.0\n")
        self.assert_finds(check_sources)

    def test_finds_a_header_without_its_two_first_lines(self):
        self.write("include/isobar/core/a.hpp", "#pragma once\n")
        self.write("include/isobar/core/b.hpp", SPDX + "\n#pragma once\n")
        self.assert_finds(check_sources, "include/isobar/core/a.hpp:1", "include/isobar/core/b.hpp:2")

    def test_finds_a_source_without_licence(self):
        self.write("lib/core/CMakeLists.txt", "isobar_add_layer(core)\n")
        self.write("lib/core/a.cpp", "int a;\n")
        self.assert_finds(check_sources, "lib/core/CMakeLists.txt:1", "lib/core/a.cpp:1")

    def test_finds_heavy_headers_of_libtorch(self):
        self.write("include/isobar/comm/work.hpp", HEADER + "#include <ATen/ATen.h>\n#include <torch/nn/module.h>\n")
        self.write("lib/train/task.cpp", SPDX + "#include <torch/torch.h>\n")
        self.assert_finds(check_sources, "include/isobar/comm/work.hpp:3", "include/isobar/comm/work.hpp:4",
                          "lib/train/task.cpp:2")

    def test_finds_printing_and_leaving_in_the_library(self):
        self.write("lib/comm/a.cpp", SPDX + 'std::cerr << 1;\n  printf("x");\nstd::exit(1);\n')
        self.assert_finds(check_sources, *(f"lib/comm/a.cpp:{line}" for line in (2, 3, 4)))

    def test_finds_unfinished_words_and_paths_of_a_machine(self):
        self.write("docs/page.md", "TODO later\nsee /home/someone/data\n")
        self.assert_finds(check_sources, "docs/page.md:1", "docs/page.md:2")


class Docs(CheckTest):
    def test_accepts_links_and_snippets_that_hold(self):
        self.write("src/a.cpp", "int main() {\n  f();\n  g();\n}\n")
        self.write("docs/a.md", "[b](b.md#part) [c](https://x.org/y) `[d](e)`\n"
                                "<!-- from src/a.cpp -->\n```cpp\nf();\ng();\n```\n")
        self.write("docs/b.md", "[up](../docs/a.md)\n")
        self.assert_finds(check_docs)

    def test_finds_a_dead_link(self):
        self.write("README.md", "text\n[there](docs/nowhere.md)\n")
        self.assert_finds(check_docs, "README.md:2")

    def test_finds_a_snippet_that_its_file_outgrew(self):
        self.write("a.cpp", "f();\nh();\n")
        self.write("README.md", "<!-- from a.cpp -->\n```cpp\nf();\ng();\n```\n")
        self.assert_finds(check_docs, "README.md:1")

    def test_finds_a_program_that_is_not_shown_whole(self):
        program = "#include <a>\n\nint main() {\n  f();\n}\n"
        self.write("a.cpp", "// What it does\n" + program)
        self.write("README.md", f"<!-- from a.cpp -->\n```cpp\n{program}```\n"
                                "<!-- from a.cpp -->\n```cpp\nint main() {\n  f();\n```\n")
        self.assert_finds(check_docs, "README.md:9")

    def test_finds_a_snippet_without_file_or_block(self):
        self.write("a.cpp", "f();\n")
        self.write("README.md", "<!-- from b.cpp -->\n```\nf();\n```\n<!-- from a.cpp -->\n\n```\nf();\n```\n")
        self.assert_finds(check_docs, "README.md:1", "README.md:5")


@unittest.skipIf(check_format.clang_format() is None, "no clang-format 14 here")
class Format(CheckTest):
    def setUp(self):
        super().setUp()
        self.write(".clang-format", "BasedOnStyle: Google\n")

    def test_accepts_formatted_code(self):
        self.write("lib/a.cpp", "int f() { return 1; }\n")
        self.assert_finds(check_format)

    def test_names_each_file_once(self):
        self.write("lib/a.cpp", "int f() { return 1; }\n\nint  g() { return  1; }\n")
        self.write("lib/b.cpp", "int  h();\n")
        self.assert_finds(check_format, "lib/a.cpp:3", "lib/b.cpp:1")


if __name__ == "__main__":
    unittest.main()
