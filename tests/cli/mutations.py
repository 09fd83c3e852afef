#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Do cli_test and the tests of the program notice a command line that is wrong? Makes one mistake at a time, builds, and
runs the test.

    tests/cli/mutations.py build/release [NAME ...] [--together N]

From the repository's root. The sources are changed in place and put back; what is not committed there is refused. Exit
code 0: every mistake was noticed. With --together 20 all take a few builds.
"""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from mutation import Mistake, main  # noqa: E402

COMMANDS, COMPLETION, INIT, TABLE = (
    f"lib/cli/{name}.cpp" for name in ("command_line", "completion", "init", "scores_table"))
MAIN, LAYOUT, PLANS, GRAPH = (
    f"lib/cli/{name}.cpp" for name in ("main", "verify_layout", "plan", "graph"))
PROGRAMS, BAD, COMPRESSION, SCORES = (
    f"tests/cli/{name}" for name in ("cli_test.py ProgramsTest.test_", "bad_input_test.py BadInputTest.test_",
                                     "compression_test.py CompressionTest.test_", "evaluate_test.py EvaluateTest.test_"))
MESH_TEST = "tests/cli/graph_test.py GraphTest.test_"

MISTAKES = [
    # The words of a command.
    Mistake("suggest nothing", COMMANDS, "if (next == nullptr) return {at.command, word, false};",
            "if (next == nullptr) return at;", "CommandLine.SuggestsTheNearestCommandAndOption"),
    Mistake("help beyond the terminal", COMMANDS, "return wrapped(option->get_description(), kColumns - kNameColumns);",
            "return option->get_description();", "CommandLine.HelpsWithDefaultsAndAnExampleInEightyColumns"),
    Mistake("complete no words of an option", COMPLETION, "    if (option->get_items_expected_min() == 0) continue;", "    continue;",
            f"{PROGRAMS}completes_commands_options_and_their_words_in_bash"),
    Mistake("offer options where files are wanted", COMPLETION, "has_arguments ? \"\" : join_words(words, \" \")",
            "join_words(options, \" \")", f"{PROGRAMS}completes_commands_options_and_their_words_in_bash"),
    Mistake("end wrong usage as any error", MAIN, "dynamic_cast<const UsageError*>(&error) != nullptr ? 2 : 1", "1",
            f"{BAD}missing_experiment"),
    Mistake("speak on every rank", LAYOUT, "if (read_launch_environment().rank != 0) return 0;", "",
            f"{PROGRAMS}shares_a_model_without_changing_what_is_learnt"),
    Mistake("plan on every rank", PLANS, "if (read_launch_environment().rank != 0) return 0;", "",
            f"{PROGRAMS}plans_a_step_and_says_where_it_does_not_fit"),
    # init.
    Mistake("write over an experiment", INIT, "  ISOBAR_CHECK(!fs::exists(output),", "  ISOBAR_CHECK(!output.empty(),",
            f"{PROGRAMS}writes_an_experiment_that_trains"),
    # Tables and runs.
    Mistake("show a score of nothing", TABLE, '  if (std::isnan(value)) return "-";\n', "", "ScoresTable.ShowsADashForWhatIsNotKnown"),
    Mistake("show a dash for a forecast that is no number", TABLE,
            "return score.known > 0 && std::isnan(value) ?",
            "return false ?",
            "ScoresTable.ShowsAForecastThatIsNoNumberAsThat"),
    Mistake("keep silent of a mesh finer than the grid", GRAPH,
            "if (!warning.empty()) fmt::print(",
            "if (false) fmt::print(",
            f"{MESH_TEST}a_mesh_finer_than_the_grid_is_a_warning"),
]

if __name__ == "__main__":
    sys.exit(main(__doc__, MISTAKES, "cli_test"))
