# SPDX-License-Identifier: Apache-2.0
"""Each check accepts a sound tree and finds each fault planted in one."""
import shutil
import tempfile
import unittest
from pathlib import Path

import check_builds
import check_docs
import check_format
import check_layers
import check_names
import check_private
import check_reference
import check_sites
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
        self.write("lib/comm/meet.cpp", "#include <isobar/launch/environment.hpp>\n")
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

    def test_finds_communication_in_what_precedes_it(self):
        self.write("lib/launch/node.cpp", "#include <isobar/comm/work.hpp>\n")
        self.assert_finds(check_layers, "lib/launch/node.cpp:1")

    def test_finds_a_layer_that_nobody_drew(self):
        self.write("lib/utils/misc.cpp", "")
        self.assert_finds(check_layers, "lib/utils/misc.cpp:1")


class Private(CheckTest):
    """What is known to be wrong in this repository is nothing to these trees."""

    def assert_finds_but(self, known, *places):
        found = [problem.split(": ")[0] for problem in check_private.check(self.root, known)]
        self.assertEqual(found, list(places))

    def setUp(self):
        super().setUp()
        self.write("lib/data/rows.hpp", "")
        self.write("tests/data/nc_writer.hpp", "")

    def test_accepts_a_layers_own_headers_and_tests_of_it(self):
        self.write("lib/data/loader.cpp", '#include "rows.hpp"\n#include "data/rows.hpp"\n')
        self.write("tests/data/loader_test.cpp", '#include "data/rows.hpp"\n#include "data/nc_writer.hpp"\n')
        self.write("tests/cli/init_test.cpp", '#include "data/nc_writer.hpp"\n#include <isobar/data/rows.hpp>\n')
        self.write("bench/kernels/rows.cpp", '#include "data/rows.hpp"\n')
        self.assert_finds_but(())

    def test_finds_a_private_header_whoever_includes_it(self):
        for name in ("lib/train/a.cpp", "lib/cli/b.cpp", "tests/train/c_test.cpp", "bench/d.cpp", "examples/e.cpp"):
            self.write(name, '\n#include "data/rows.hpp"\n')
        self.write("include/isobar/train/f.hpp", '#include "../../../lib/data/rows.hpp"\n')
        self.assert_finds_but((), "bench/d.cpp:2", "examples/e.cpp:2", "include/isobar/train/f.hpp:1", "lib/cli/b.cpp:2",
                              "lib/train/a.cpp:2", "tests/train/c_test.cpp:2")

    def test_takes_what_is_known_as_long_as_it_is_true(self):
        self.write("bench/d.cpp", '#include "data/rows.hpp"\n')
        self.assert_finds_but((("bench/*", "lib/data/*"),))
        self.assert_finds_but((("bench/*", "lib/data/*"), ("lib/*", "lib/cli/*")), "tests/conventions/check_private.py:1")


class Names(CheckTest):
    def assert_finds_but(self, known, *places):
        found = [problem.split(": ")[0] for problem in check_names.check(self.root, known)]
        self.assertEqual(found, list(places))

    def write_two(self, first, second, layer="data"):
        self.write("lib/data/a.cpp", first)
        self.write(f"lib/{layer}/b.cpp", second)

    def test_accepts_one_name_in_one_file_or_in_two_layers(self):
        local = "namespace isobar {\nnamespace {\n\nint f(int a) { return a; }\n"
        self.write_two(local + "int f(double b) { return f(1); }\n", local, layer="graph")
        self.assert_finds_but({})

    def test_accepts_overloads_that_headers_declare(self):
        self.write_two("namespace isobar {\nvoid save(const A& a) {}\n}\n", "namespace isobar {\nvoid save(const B& b) {}\n}\n")
        self.assert_finds_but({})

    def test_accepts_members_and_declarations(self):
        self.write("lib/data/a.hpp", "namespace isobar {\nclass A;\nint f(int a = {});\nstruct A::Impl {\n  int f() { return 1; }\n};\n}\n")
        self.write_two("namespace isobar {\nA::A() : a_{1} {}\nA::~A() {}\nint A::f(int a) { return g(a); }\n}\n",
                       "namespace isobar {\nclass A {\n  int f();\n};\nint f(int a) { return 1; }\n}\n")
        self.assert_finds_but({})

    def test_accepts_absence_and_an_alias_of_one_type(self):
        self.write("lib/comm/mpi.cpp", "namespace {\nint f() { return 1; }\nusing Clock = std::chrono::steady_clock;\n}\n")
        self.write("lib/comm/no_mpi.cpp", "namespace {\nint f() { return 1; }\n}\n")
        self.write("lib/comm/queue.cpp", "namespace {\nusing Clock = std::chrono::steady_clock;\n}\n")
        self.assert_finds_but({})

    def test_finds_two_functions_of_one_name(self):
        self.write_two("namespace {\n// int g() {}\n[[noreturn]] void fail(int a = 1) { x(); }\nint g() { return 1; }\n}\n",
                       'namespace {\nconst char* k = "{";\ntemplate <typename T>\nvoid fail(T t) {}\n}  // namespace\nint g() { return 2; }\n')
        self.assert_finds_but({}, "lib/data/b.cpp:3", "lib/data/b.cpp:6")

    def test_finds_two_types_and_two_constants_of_one_name(self):
        self.write_two("namespace a {\nstruct Row {\n  int f();\n};\nconstexpr int kTries = 4;\nenum class E { a };\n}\n",
                       "namespace b {\nclass Row final : Base {\n};\nconst std::array<int, 2> kTries{1, 2};\nusing E = int;\n}\n")
        self.assert_finds_but({}, "lib/data/b.cpp:2", "lib/data/b.cpp:4", "lib/data/b.cpp:5")

    def test_takes_what_is_known_as_long_as_it_is_true(self):
        self.write_two("namespace {\nint f() { return 1; }\n}\n", "namespace {\nint f() { return 1; }\n}\n")
        self.assert_finds_but({"data": {"f"}})
        self.assert_finds_but({"data": {"f", "g"}}, "tests/conventions/check_names.py:1")


class Builds(CheckTest):
    def test_accepts_targets_and_headers_of_the_command_line(self):
        self.write("lib/cli/CMakeLists.txt", "add_executable(isobar_program main.cpp ${PROJECT_SOURCE_DIR}/lib/cli/a.cpp)\n")
        self.write("bench/CMakeLists.txt", "# lib/cli/options.cpp is in it:\ntarget_link_libraries(a isobar_bench_programs)\n")
        self.write("bench/a.cpp", '#include "cli/options.hpp"\n')
        self.assert_finds(check_builds)

    def test_finds_a_source_of_the_command_line_in_another_target(self):
        self.write("bench/CMakeLists.txt", "add_executable(a a.cpp\n  ${PROJECT_SOURCE_DIR}/lib/cli/options.cpp)\n")
        self.write("tests/bench/CMakeLists.txt", "list(TRANSFORM sources PREPEND ../../lib/cli/)\n")
        self.write("tests/bench/a_test.cpp", '#include "cli/options.cpp"\n')
        self.assert_finds(check_builds, "bench/CMakeLists.txt:2", "tests/bench/CMakeLists.txt:1", "tests/bench/a_test.cpp:1")

    def test_finds_an_exception_that_nothing_needs(self):
        name = "tests/cli/CMakeLists.txt"
        self.write(name, "isobar_add_test(cli_test ${PROJECT_SOURCE_DIR}/lib/cli/main.cpp)\n")
        self.assertEqual(check_builds.check(self.root, {name}), [])
        self.write(name, "isobar_add_test(cli_test)\n")
        self.assertEqual([problem.split(": ")[0] for problem in check_builds.check(self.root, {name})], [f"{name}:1"])


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

    def test_finds_a_namespace_for_private_code_outside_core(self):
        self.write("include/isobar/core/a.hpp", HEADER + "namespace isobar::detail {\n")
        self.write("lib/data/rows.hpp", HEADER + "namespace isobar::detail {\n")
        self.write("lib/data/rows.cpp", SPDX + "namespace isobar {\nnamespace detail {\n")
        self.assert_finds(check_sources, "lib/data/rows.cpp:3", f"lib/data/rows.hpp:{HEADER.count(chr(10)) + 1}")

    def test_finds_a_source_without_licence(self):
        self.write("lib/core/CMakeLists.txt", "isobar_add_layer(core)\n")
        self.write("lib/core/a.cpp", "int a;\n")
        self.assert_finds(check_sources, "lib/core/CMakeLists.txt:1", "lib/core/a.cpp:1")

    def test_accepts_a_long_source_that_opens_with_a_comment_and_a_short_one_without(self):
        self.write("lib/core/long.cpp", SPDX + "// Who.\n//\n// Where.\n// Why.\n" + "int a;\n" * 200)
        self.write("lib/core/short.cpp", SPDX + "int a;\n" * 149)
        self.write("tests/core/long_test.cpp", SPDX + "int a;\n" * 200)
        self.assert_finds(check_sources)

    def test_finds_a_long_source_that_does_not_say_who_calls_it(self):
        self.write("lib/core/a.cpp", SPDX + "int a;\n" * 150)
        self.write("lib/core/b.cpp", SPDX + "// Who.\n//\n// Why.\n#include <a>\n" + "int a;\n" * 150)
        self.write("lib/core/c.cpp", SPDX + "#include <a>\n// Who.\n// Where.\n// Why.\n" + "int a;\n" * 150)
        self.assert_finds(check_sources, *(f"lib/core/{name}.cpp:2" for name in "abc"))

    def test_finds_a_command_line_that_grows_a_library(self):
        opening = SPDX + "// Who.\n// Where.\n// Why.\n"
        half = check_sources.COMMAND_LINE // 2
        self.write("lib/cli/a.cpp", opening + "int a;\n" * (half - 5))
        self.write("lib/cli/b.cpp", opening + "int b;\n" * (half - 4))
        self.assert_finds(check_sources)
        self.write("lib/cli/c.hpp", HEADER)
        self.assert_finds(check_sources, "lib/cli")

    def test_finds_heavy_headers_of_libtorch(self):
        self.write("include/isobar/comm/work.hpp", HEADER + "#include <ATen/ATen.h>\n#include <torch/nn/module.h>\n")
        self.write("lib/train/task.cpp", SPDX + "#include <torch/torch.h>\n")
        self.assert_finds(check_sources, "include/isobar/comm/work.hpp:3", "include/isobar/comm/work.hpp:4",
                          "lib/train/task.cpp:2")

    def test_finds_printing_and_leaving_in_the_library(self):
        self.write("lib/comm/a.cpp", SPDX + 'std::cerr << 1;\n  printf("x");\nstd::exit(1);\n')
        self.assert_finds(check_sources, *(f"lib/comm/a.cpp:{line}" for line in (2, 3, 4)))

    def test_finds_who_asks_the_system_beside_those_who_answer(self):
        self.write("lib/launch/variables.cpp", SPDX + "std::getenv(name);\n")
        self.write("lib/core/machine.cpp", SPDX + "gethostname(name, 256);\n")
        self.write("lib/comm/a.cpp", SPDX + "// getenv() is launch's\nint my_getenv(int);\n::getenv(name);\n")
        self.write("lib/cli/b.cpp", SPDX + "gethostname(name, 256);\n")
        self.write("tests/comm/c.cpp", SPDX + "std::getenv(name);\n")
        self.assert_finds(check_sources, "lib/cli/b.cpp:2", "lib/comm/a.cpp:4")

    def test_finds_unfinished_words_and_paths_of_a_machine(self):
        self.write("docs/page.md", "TODO later\nsee /home/someone/data\n")
        self.assert_finds(check_sources, "docs/page.md:1", "docs/page.md:2")


class Sites(CheckTest):
    PROFILE = ("detection:\n  host_name: '[ab]login\\d+|lrd-n\\d{4}(\\.site)?|cn\\d'\n"
               "queues:\n  normal: {partition: some_usr_prod, qos: gpu}\n"
               "network:\n  hcas: [mlx_0, mlx_1]\n  interfaces: hs0,hs1\n")

    def setUp(self):
        super().setUp()
        self.write("scripts/slurm/clusters/a.yaml", self.PROFILE)

    def problems(self, ordinary=frozenset({"gpu"})):
        return [problem.split(": ")[0] for problem in check_sites.check(self.root, ordinary)]

    def test_reads_names_off_the_profiles(self):
        words, hosts = check_sites.site_names(self.root)
        self.assertEqual(words, {"some_usr_prod", "gpu", "mlx_0", "mlx_1", "hs0", "hs1"})
        self.assertEqual(hosts, {"alogin", "blogin", "lrd-n"})

    def test_accepts_ordinary_words_longer_words_and_what_is_not_looked_at(self):
        self.write("lib/core/a.cpp", 'auto a = "gpu"; int hs01, my_hs0; // blogins, cn1\n')
        self.write("tests/cluster/a_test.cpp", '"some_usr_prod lrd-n0001"\n')
        self.write("docs/clusters.md", "`some_usr_prod`\n")
        self.assertEqual(self.problems(), [])

    def test_finds_partitions_hosts_and_interfaces(self):
        self.write("bench/run.sh", "ok\nNCCL_SOCKET_IFNAME=hs0,hs1\n")
        self.write("include/isobar/a.hpp", "// such as mlx_1\n")
        self.write("lib/a.cpp", '"some_usr_prod"\n"alogin3"\n"lrd-n\\\\d+"\n')
        self.write("scripts/slurm/job.sh", "#SBATCH --partition=some_usr_prod\n")
        self.assertEqual(self.problems(), ["bench/run.sh:2", "include/isobar/a.hpp:1", "lib/a.cpp:1", "lib/a.cpp:2",
                                           "lib/a.cpp:3", "scripts/slurm/job.sh:1"])

    def test_wants_ordinary_words_struck_out_that_no_profile_has(self):
        self.assertEqual(self.problems(frozenset({"gpu", "long"})), ["tests/conventions/check_sites.py:1"])


class Docs(CheckTest):
    def test_accepts_links_and_snippets_that_hold(self):
        self.write("src/a.cpp", "int main() {\n  f();\n  g();\n}\n")
        self.write("docs/a.md", "[b](b.md#a-part) [c](https://x.org/y) `[d](e)`\n"
                                "<!-- from src/a.cpp -->\n```cpp\nf();\ng();\n```\n")
        self.write("docs/b.md", "[up](../docs/a.md)\n## A part\n")
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

    def test_finds_lines_that_are_too_long(self):
        self.write("docs/a.md", "x " * 50 + "\n" + "x " * 50 + "y\n" + "[x](https://" + 100 * "y" + ") z\n" + 101 * "z" + "\n")
        row = "| " + "x " * 50 + "|\n"
        self.write("docs/b.md", row)
        self.write("docs/results/b.md", row + "x " * 51 + "\n")
        self.assert_finds(check_docs, "docs/a.md:2", "docs/b.md:1", "docs/results/b.md:2")

    def test_finds_errors_that_no_source_has(self):
        self.write("lib/a.cpp", 'fail("rank ", rank, " is gone: its "\n     "connection closed", \'"\');\n')
        self.write("docs/a.md", 'It says **"is gone: its\nconnection closed"**, **"rank ... is gone"**.\n')
        self.assert_finds(check_docs)
        self.write("docs/b.md", 'It says **"rank ... is away"**, and "whatever".\n')
        self.assert_finds(check_docs, "docs/b.md:1")

    def test_finds_files_that_are_not_there(self):
        self.write("lib/a.cpp", "")
        self.write("docs/a.md", "`lib/a.cpp`, `lib/*.cpp`, `tests/x/run --all`, `lib/<layer>`, `bench/b.cpp`\n")
        self.assert_finds(check_docs, "docs/a.md:1", "docs/a.md:1")

    def test_finds_a_heading_that_is_not_there(self):
        self.write("docs/a.md", "# One\n[x](#one) [y](b.md#two-and-3) [z](b.md#three) [w](#four)\n")
        self.write("docs/b.md", "## Two, and 3\n```\n# three\n```\n")
        self.assert_finds(check_docs, "docs/a.md:2", "docs/a.md:2")

    def test_finds_a_snippet_without_file_or_block(self):
        self.write("a.cpp", "f();\n")
        self.write("README.md", "<!-- from b.cpp -->\n```\nf();\n```\n<!-- from a.cpp -->\n\n```\nf();\n```\n")
        self.assert_finds(check_docs, "README.md:1", "README.md:5")


class Reference(CheckTest):
    HEADER = """
#define ISOBAR_CHECK(condition, ...) \\
  do { int hidden; } while (false)
namespace isobar {
class Elsewhere;
namespace detail { struct Hidden {}; }
/// A `Comment {` of no importance.
template <typename T>
concept Number = true;
enum class Kind { one, two };
struct Options {
  int value = 0;
  std::vector<int> list = {};
  int member() const { return 1; }
};
using Callback = std::function<void(int)>;
inline constexpr int kLimit{3};
class [[nodiscard]] Thing final : public Base {
  void method();
  friend struct Friend;
};
std::map<std::string, std::function<int()>> make(const Options& options = {}, char c = '{');
template <typename T>
T inlined(T value) { return value; }
template <ConfigValue T>
bool operator==(T, T);
}  // namespace isobar
"""
    NAMES = ["ISOBAR_CHECK", "Number", "Kind", "Options", "Callback", "kLimit", "Thing", "make", "inlined"]

    def test_knows_what_a_header_declares(self):
        self.assertEqual(check_reference.declared(self.HEADER), self.NAMES)

    def test_accepts_names_that_a_page_or_an_example_shows(self):
        self.write("include/isobar/core/a.hpp", self.HEADER)
        self.write("README.md", "`ISOBAR_CHECK(x)`\n```cpp\nNumber Kind(Options)\n```\n\n    Callback kLimit;\n")
        self.write("docs/reference/core.md", "## [a.hpp](../../include/isobar/core/a.hpp)\n| `Thing`, `make` | for |\n")
        self.write("examples/01_a.cpp", "int x = inlined(3);\n")
        self.assert_finds(check_reference)

    def test_finds_names_that_nothing_shows(self):
        self.write("include/isobar/core/a.hpp", "namespace isobar {\nvoid shown();\nvoid said();\nvoid noted();\n}\n")
        self.write("docs/a.md", "`shown()` is said here.\n")
        self.write("examples/01_a.cpp", "// noted\n")
        self.assert_finds(check_reference, "include/isobar/core/a.hpp:1", "include/isobar/core/a.hpp:1")

    def test_finds_rows_about_what_is_not_there(self):
        self.write("include/isobar/core/a.hpp", "namespace isobar {\nvoid shown();\n}\n")
        self.write("docs/reference/core.md", "## [a.hpp](../../include/isobar/core/a.hpp)\n\n| `shown`, `gone` | x |\n"
                                             "## [b.hpp](../../include/isobar/core/b.hpp)\n\n| `shown` | x |\n")
        self.assert_finds(check_reference, "docs/reference/core.md:3", "docs/reference/core.md:6")


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
