# SPDX-License-Identifier: Apache-2.0
"""What the tests of sites' files share: where they lie, and what the build itself says."""
import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONTAINERS = ROOT / "scripts/slurm/containers"
RECIPES = ROOT / "scripts/slurm/recipes"

# Where scripts/setup --anemoi puts PyYAML, for a Python without it.
sys.path.append(str(ROOT / ".deps/anemoi"))
sys.path.insert(0, str(ROOT / "tests"))


def text(path):
    return (ROOT / path).read_text(encoding="utf-8")


def version():
    return re.search(r"project\(isobar VERSION ([\d.]+)", text("CMakeLists.txt"))[1]


def build_options():
    """The names that CMakeLists.txt takes by -D."""
    return set(re.findall(r"(?:option\(|set\()(ISOBAR_\w+)", text("CMakeLists.txt"))) | {"ISOBAR_TORCH_DIR"}


def presets():
    return {preset["name"] for preset in json.loads(text("CMakePresets.json"))["configurePresets"]}


def options_in(words):
    """The options that a command line gives to CMake."""
    return set(re.findall(r"-D\s*(ISOBAR_\w+)", words))
