# SPDX-License-Identifier: Apache-2.0
"""Makes one mistake at a time in the sources, builds, and sees whether a test program notices."""
import argparse
import subprocess
from pathlib import Path
from typing import NamedTuple


class Mistake(NamedTuple):
    name: str
    file: str
    right: str
    wrong: str


def run(command, limit_s):
    return subprocess.run(command, capture_output=True, text=True, timeout=limit_s, check=False)


def failed_tests(result):
    lines = result.stdout.splitlines()
    return sorted({line.split("] ")[1].split(" (")[0].split(",")[0] for line in lines
                   if line.startswith("[  FAILED  ]") and "(" in line})


def verdict(build, target):
    """(whether the mistake was noticed, by what)."""
    built = run(["cmake", "--build", build, "--target", target], 900)
    if built.returncode:
        raise SystemExit(f"does not build:\n{built.stdout[-2000:]}")
    try:
        result = run([f"{build}/bin/{target}"], 300)
    except subprocess.TimeoutExpired:
        return True, "the test did not end within 300 s"
    names = failed_tests(result)
    if result.returncode and not names:
        return True, f"exit code {result.returncode}"
    return result.returncode != 0, f"{len(names)} tests, {', '.join(names[:3])}" if names else "nothing"


def try_mistake(mistake, build, target):
    file = Path(mistake.file)
    source = file.read_text(encoding="utf-8")
    if source.count(mistake.right) != 1:
        raise SystemExit(f"{mistake.name}: {mistake.file} does not have this once: {mistake.right!r}")
    try:
        file.write_text(source.replace(mistake.right, mistake.wrong), encoding="utf-8")
        return verdict(build, target)
    finally:
        file.write_text(source, encoding="utf-8")


def main(doc, mistakes, target):
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", help="a configured build folder")
    parser.add_argument("names", nargs="*", help="only these mistakes")
    arguments = parser.parse_args()
    folders = sorted({str(Path(m.file).parent) for m in mistakes})
    if run(["git", "status", "--porcelain", *folders], 60).stdout:
        raise SystemExit(f"{', '.join(folders)}: changes that are not committed")
    chosen = [m for m in mistakes if not arguments.names or m.name in arguments.names]
    missed = 0
    for mistake in chosen:
        noticed, by = try_mistake(mistake, arguments.build, target)
        missed += not noticed
        print(f"{'noticed' if noticed else 'MISSED':<8} {mistake.name}: {by}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} mistakes were noticed")
    run(["cmake", "--build", arguments.build, "--target", target], 900)
    return 1 if missed else 0
