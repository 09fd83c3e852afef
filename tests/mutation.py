# SPDX-License-Identifier: Apache-2.0
"""Makes mistakes in the sources, builds, and sees whether a test notices them: each alone, or, with --together, many in
one build, of which each has to make the test fail that is named beside it."""
import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

LIMIT_S = 300  # of a test
PROGRAM = "isobar_program"  # what tests in Python start


class Mistake(NamedTuple):
    name: str
    file: str
    right: str
    wrong: str
    test: str = ""  # that notices it: Suite.Name of the test program, or FILE.py Class.test_name
    target: str = ""  # the test program, where it is not the list's


def run(command, limit_s, **variables):
    return subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False,
                          env=dict(os.environ, **variables))


def failed_tests(result):
    lines = result.stdout.splitlines()
    return sorted({line.split("] ")[1].split(" (")[0].split(",")[0] for line in lines
                   if line.startswith("[  FAILED  ]") and "(" in line})


def is_script(test):
    return ".py " in test


def build_targets(build, targets):
    built = run(["cmake", "--build", build, "--target", *sorted(targets)], 1800)
    if built.returncode:
        raise SystemExit(f"does not build:\n{built.stdout[-2000:]}")


def targets_of(mistakes, target):
    return {PROGRAM if is_script(m.test) else m.target or target for m in mistakes}


def run_script(build, test):
    file, name = test.split(" ")
    return run([sys.executable, file, name], LIMIT_S, ISOBAR_PROGRAM=f"{Path(build).resolve()}/bin/isobar")


def run_program(build, target, *arguments):
    return run([f"{build}/bin/{target}", *arguments], LIMIT_S)


def of_whole(mistake, build, target):
    """(whether the mistake was noticed, by what), of the whole test program or of one script."""
    try:
        result = (run_script(build, mistake.test) if is_script(mistake.test)
                  else run_program(build, mistake.target or target))
    except subprocess.TimeoutExpired:
        return True, f"the test did not end within {LIMIT_S} s"
    names = failed_tests(result)
    if result.returncode and not names:
        return True, mistake.test if is_script(mistake.test) else f"exit code {result.returncode}"
    return result.returncode != 0, f"{len(names)} tests, {', '.join(names[:3])}" if names else "nothing"


def of_named(mistake, build, target):
    """The same of the one test that is named."""
    try:
        result = (run_script(build, mistake.test) if is_script(mistake.test)
                  else run_program(build, mistake.target or target, f"--gtest_filter={mistake.test}"))
    except subprocess.TimeoutExpired:
        return True, f"{mistake.test} did not end within {LIMIT_S} s"
    if not is_script(mistake.test) and "[==========] Running 0 tests" in result.stdout:
        raise SystemExit(f"{mistake.name}: there is no test {mistake.test}")
    return result.returncode != 0, mistake.test


def place_of(mistake):
    """(file, first, end) of what the mistake takes the place of."""
    text = Path(mistake.file).read_text(encoding="utf-8")
    if text.count(mistake.right) != 1:
        raise SystemExit(f"{mistake.name}: {mistake.file} does not have this once: {mistake.right!r}")
    first = text.index(mistake.right)
    return mistake.file, first, first + len(mistake.right)


def overlap(one, other):
    return one[0] == other[0] and one[1] < other[2] and other[1] < one[2]


def changed(mistakes):
    """The text of each file before and with all of the mistakes."""
    before = {m.file: Path(m.file).read_text(encoding="utf-8") for m in mistakes}
    after = dict(before)
    for m in sorted(mistakes, key=place_of, reverse=True):
        file, first, end = place_of(m)
        after[file] = after[file][:first] + m.wrong + after[file][end:]
    return before, after


def write(texts):
    for file, text in texts.items():
        Path(file).write_text(text, encoding="utf-8")


def try_mistakes(mistakes, build, target, judge):
    """[(mistake, noticed, by what)] of mistakes that are made in one build."""
    before, after = changed(mistakes)
    try:
        write(after)
        build_targets(build, targets_of(mistakes, target))
        return [(m, *judge(m, build, target)) for m in mistakes]
    finally:
        write(before)


def rounds(mistakes, together):
    """Mistakes that are made at once: none at another's place, and none that another's test notices."""
    if together < 2:
        return [[m] for m in mistakes]
    if unnamed := [m.name for m in mistakes if not m.test]:
        raise SystemExit(f"--together needs a test beside each mistake: {', '.join(unnamed)} have none")
    found = []
    for m in mistakes:
        fits = (r for r in found if len(r) < together and
                not any(o.test == m.test or overlap(place_of(o), place_of(m)) for o in r))
        chosen = next(fits, None)
        if chosen is None:
            found.append(chosen := [])
        chosen.append(m)
    return found


def main(doc, mistakes, target):
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", help="a configured build folder")
    parser.add_argument("names", nargs="*", help="only these mistakes")
    parser.add_argument("--together", type=int, default=1, metavar="N",
                        help="N mistakes in a build, of which each has to make its own test fail: in a fraction of "
                             "the time, but a test may fail for another mistake than its own")
    arguments = parser.parse_args()
    folders = sorted({str(Path(m.file).parent) for m in mistakes})
    if run(["git", "status", "--porcelain", *folders], 60).stdout:
        raise SystemExit(f"{', '.join(folders)}: changes that are not committed")
    chosen = [m for m in mistakes if not arguments.names or m.name in arguments.names]
    for mistake in chosen:
        place_of(mistake)  # says at once what no longer fits
    judge = of_named if arguments.together > 1 else of_whole
    missed = 0
    for some in rounds(chosen, arguments.together):
        for mistake, noticed, by in try_mistakes(some, arguments.build, target, judge):
            missed += not noticed
            print(f"{'noticed' if noticed else 'MISSED':<8} {mistake.name}: {by}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} mistakes were noticed")
    build_targets(arguments.build, targets_of(chosen, target) or {PROGRAM})
    return 1 if missed else 0
