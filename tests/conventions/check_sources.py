# SPDX-License-Identifier: Apache-2.0
"""Fails where a source file breaks a rule that a search can see."""
import itertools
import re

import tree

SPDX = "SPDX-License-Identifier: Apache-2.0"
SCRIPTS = (".py", ".sh", ".cmake", ".in")

# Headers of LibTorch that a public header may include: the tensor, and what it includes itself. A heavier one costs
# every user 6 to 15 seconds a file.
THIN_TORCH = {"ATen/core/Tensor.h", "c10/core/Device.h", "c10/core/ScalarType.h"}
MODULE_HEADER = "torch/nn/module.h"
TORCH = re.compile(r"(ATen|c10|torch|caffe2)/")

UNFINISHED = re.compile(r"\b(TODO(?!\(#\d+\))|FIXME|XXX)\b")
MACHINE_PATH = re.compile(r"(?<![\w.$}])/(home|root|work|mnt|Users)/\w")
PRINTING = re.compile(r"\bstd::(cout|cerr|clog)\b|(?<![\w:.>])(std::)?(printf|puts|fprintf|fputs)\s*\(")
# What the system is asked for in one place: who else asks gets another answer one day.
ASKED_ONCE = (
    (re.compile(r"\b(secure_)?getenv\s*\(|\benviron\b"), "lib/launch/variables.cpp",
     "launch reads the environment"),
    (re.compile(r"\b(gethostname|uname)\s*\("), "lib/core/machine.cpp", "core knows the host's name"),
)
LEAVING = re.compile(r"\bstd::(exit|_Exit|quick_exit|abort)\b|(?<![\w:.>])_?[eE]xit\s*\(")

# A source of the library that is longer opens with a comment, after the licence: who calls it, on which thread, which
# invariant holds. It has no fewer lines than these.
LONG_SOURCE = 150
OPENING_LINES = 3

# What is not arguments and tables belongs to a layer that programs can use.
COMMAND_LINE = 4700

DETAIL = re.compile(r"\bnamespace (isobar::)?detail\b")


def may_include_module(name):
    return "model" in name.parts or name.parts[-2:] == ("ddp", "data_parallel.hpp")


def head_problems(name, text):
    first = text[0] if text else ""
    if first.startswith("#!"):
        first = text[1] if len(text) > 1 else ""
    if SPDX not in first:
        yield 1, f"the first line must say {SPDX}"
    after_comment = next((number for number, line in enumerate(text, start=1) if not line.startswith("//")), 1)
    if name.suffix == ".hpp" and text[after_comment - 1:after_comment] != ["#pragma once"]:
        yield after_comment, "#pragma once must follow the comment at the top of a header"


def check_openings(root):
    for name in tree.files(root, ".cpp"):
        text = [line for _, line in tree.lines(root, name)]
        if name.parts[0] != "lib" or len(text) <= LONG_SOURCE:
            continue
        comment = itertools.takewhile(lambda line: line.startswith("//"), text[1:])
        if sum(1 for line in comment if line.strip("/ ")) < OPENING_LINES:
            yield (f"{name}:2: a source of more than {LONG_SOURCE} lines opens with {OPENING_LINES} lines of comment or "
                   "more: who calls it, on which thread, which invariant holds")


def check_command_line(root):
    sources = [name for name in tree.files(root, *tree.CODE) if name.parts[:2] == ("lib", "cli")]
    lines = sum(len(tree.lines(root, name)) for name in sources)
    if lines >= COMMAND_LINE:
        yield (f"lib/cli: {lines} lines, wanted fewer than {COMMAND_LINE}: arguments and tables; move what computes to a "
               "layer")


def include_problems(name, header):
    if header == "torch/torch.h" and name.parts[0] in ("include", "lib"):
        yield "torch/torch.h costs 15 s a file; include what is used"
    elif name.parts[0] == "include" and TORCH.match(header):
        if header not in THIN_TORCH and not (header == MODULE_HEADER and may_include_module(name)):
            yield f"a public header may not include {header}, only {', '.join(sorted(THIN_TORCH))}"


def library_problems(name, line):
    """Rules of lib/ and include/: who uses the library decides what is printed and when the program ends."""
    layer = name.parts[1] if name.parts[0] == "lib" else name.parts[2] if len(name.parts) > 2 else ""
    if layer != "core" and DETAIL.search(line):
        yield "isobar::detail is what core's headers show and nobody calls; private code is in namespace isobar"
    if layer not in ("cli", "core") and PRINTING.search(line):
        yield "the library prints through core's log alone"
    for asking, place, who in ASKED_ONCE:
        if asking.search(line) and str(name) != place:
            yield f"{who}, in {place} alone"
    if layer != "cli" and LEAVING.search(line):
        yield "the library throws; it never ends the program"


def check_code(root, name):
    numbered = tree.lines(root, name)
    for number, what in head_problems(name, [line for _, line in numbered]):
        yield f"{name}:{number}: {what}"
    for number, line in numbered:
        code = line.split("//")[0]
        include = tree.INCLUDE.match(line)
        found = list(include_problems(name, include[1])) if include else []
        if name.parts[0] in ("include", "lib"):
            found += library_problems(name, code)
        yield from (f"{name}:{number}: {what}" for what in found)


def check_words(root, name):
    for number, line in tree.lines(root, name):
        if UNFINISHED.search(line):
            yield f"{name}:{number}: unfinished: {line.strip()}"
        if MACHINE_PATH.search(line):
            yield f"{name}:{number}: a path of one machine: {line.strip()}"


def check(root):
    problems = [*check_openings(root), *check_command_line(root)]
    for name in tree.files(root):
        if name.suffix in tree.CODE or name.suffix in SCRIPTS or name.name == "CMakeLists.txt":
            problems += check_code(root, name)
        if name.parts[:2] != ("tests", "conventions"):  # which has to write such words to look for them
            problems += check_words(root, name)
    return problems


if __name__ == "__main__":
    tree.main(check)
