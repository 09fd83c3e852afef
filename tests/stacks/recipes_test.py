# SPDX-License-Identifier: Apache-2.0
"""Recipes for EasyBuild and Spack and definitions for Apptainer say what this tree's build says.

They are read without those programs; where `eb` or `shellcheck` is there, it has its say too.
"""
import os
import re
import shutil
import subprocess
import sys
import types
import unittest

import stack_files
from stack_files import CONTAINERS, RECIPES, ROOT

RECIPE = RECIPES / f"isobar-{stack_files.version()}-foss-2023b.eb"
SPACK = RECIPES / "spack_repo/isobar/packages/isobar/package.py"

# What the build looks for by other means than find_package().
LOOKED_FOR = {"nanoflann", "xxhash"}
# CMake calls them otherwise than recipes do.
RENAMED = {"eigen3": "eigen"}
# Of the toolchain, or of the C library.
GIVEN = {"threads", "mpi"}


def plain(name):
    return re.sub(r"[-_]", "", name).lower()


def wanted():
    """The packages without which the build stops, by their plain names."""
    found = re.findall(r"^\s*find_package\((\S+) REQUIRED", stack_files.text("CMakeLists.txt"), re.MULTILINE)
    plain_names = {plain(name) for name in found} - GIVEN | LOOKED_FOR
    return {RENAMED.get(name, name) for name in plain_names}


def easyconfig(path):
    """The parameters that an easyconfig file sets; it is Python, with EasyBuild's constants."""
    parameters = {"SYSTEM": {"name": "system"}, "GITHUB_SOURCE": "github", "SOURCE_TAR_GZ": "isobar.tar.gz"}
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), parameters)
    return parameters


def dependencies(parameters):
    return parameters.get("dependencies", []) + parameters.get("builddependencies", [])


class EasyBuild(unittest.TestCase):
    def test_builds_this_version(self):
        recipe = easyconfig(RECIPE)
        self.assertEqual((recipe["name"], recipe["version"]), ("isobar", stack_files.version()))

    def test_names_files_as_their_contents_say(self):
        for path in RECIPES.glob("*.eb"):
            recipe = easyconfig(path)
            is_system = recipe["toolchain"]["name"] == "system"
            toolchain = "" if is_system else "-{name}-{version}".format(**recipe["toolchain"])
            suffix = recipe.get("versionsuffix", "")
            self.assertEqual(path.name, f"{recipe['name']}-{recipe['version']}{toolchain}{suffix}.eb")

    def test_depends_on_all_that_the_build_wants(self):
        self.assertLessEqual(wanted(), {plain(entry[0]) for entry in dependencies(easyconfig(RECIPE))})

    def test_gives_options_that_the_build_has(self):
        given = stack_files.options_in(easyconfig(RECIPE)["configopts"])
        self.assertLessEqual(given, stack_files.build_options())
        self.assertIn("ISOBAR_TORCH_DIR", given)

    def test_takes_the_libtorch_that_is_tested(self):
        version = dict((entry[0], entry[1]) for entry in dependencies(easyconfig(RECIPE)))["LibTorch"]
        recipe = easyconfig(RECIPES / f"LibTorch-{version}.eb")
        files = (path.read_text(encoding="utf-8") for path in (ROOT / "scripts").glob("requirements-libtorch*.txt"))
        requirements = next(text for text in files if f"\ntorch=={version} " in text)
        self.assertEqual(len(recipe["sources"]), len(recipe["checksums"]))
        for checksum in recipe["checksums"]:
            self.assertIn(f"sha256:{checksum}", requirements)

    @unittest.skipUnless(shutil.which("eb") and os.geteuid() != 0, "no EasyBuild here (eb), or it is root who asks")
    def test_passes_easybuild(self):
        files = [str(path) for path in RECIPES.glob("*.eb")]
        for command in (["eb", "--check-style", *files],
                        ["eb", "--dry-run", f"--robot={RECIPES}:", "--ignore-checksums", str(RECIPE)]):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


class Package:
    """What a Spack recipe calls while it is read, written down: no Spack is needed."""

    def __init__(self):
        self.calls = []
        directives = ("version", "variant", "depends_on", "conflicts", "license", "generator")
        self.module = types.ModuleType("spack.package")
        for name in directives:
            setattr(self.module, name, lambda *words, _name=name, **options: self.calls.append((_name, words, options)))
        self.module.__all__ = list(directives)

    def load(self):
        """The recipe's class."""
        stubs = {"spack": types.ModuleType("spack"), "spack.package": self.module}
        for name, made in (("cmake", "CMakePackage"), ("cuda", "CudaPackage"), ("rocm", "ROCmPackage")):
            module = types.ModuleType(name)
            setattr(module, made, type(made, (), {}))
            stubs[f"spack_repo.builtin.build_systems.{name}"] = module
        for name in ("spack_repo", "spack_repo.builtin", "spack_repo.builtin.build_systems"):
            stubs[name] = types.ModuleType(name)
        kept = {name: sys.modules.get(name) for name in stubs}
        sys.modules.update(stubs)
        try:
            names = {}
            exec(compile(SPACK.read_text(encoding="utf-8"), str(SPACK), "exec"), names)
            return names["Isobar"]
        finally:
            for name, module in kept.items():
                if module is None:
                    del sys.modules[name]
                else:
                    sys.modules[name] = module

    def of(self, directive):
        return [words[0] for name, words, _ in self.calls if name == directive]


class Spec:
    """A spec in which all of `variants` are on."""

    def __init__(self, *variants):
        self.variants = variants
        self.prefix = "/prefix"
        self.package = types.SimpleNamespace(cmake_prefix_paths=["/site-packages/torch/share/cmake"])

    def satisfies(self, what):
        return what.lstrip("+") in self.variants

    def __getitem__(self, name):
        return self


class Spack(unittest.TestCase):
    def setUp(self):
        self.package = Package()
        self.isobar = self.package.load()

    def arguments(self, *variants):
        recipe = self.isobar()
        recipe.spec = Spec(*variants)
        recipe.define = lambda name, value: f"-D{name}={value}"
        recipe.define_from_variant = lambda name, variant: f"-D{name}={variant}"
        return recipe.cmake_args()

    def test_builds_this_version(self):
        self.assertEqual(self.package.of("version"), [stack_files.version()])

    def test_depends_on_all_that_the_build_wants(self):
        names = {plain(re.match(r"[\w-]+", spec)[0]) for spec in self.package.of("depends_on")}
        self.assertLessEqual(wanted() | {"pytorch"}, names)

    def test_gives_options_that_the_build_has(self):
        for variants in ((), ("cuda",), ("rocm",)):
            given = self.arguments(*variants)
            self.assertLessEqual(stack_files.options_in(" ".join(given)), stack_files.build_options())
            self.assertIn(f"-DISOBAR_GPU={variants[0] if variants else 'none'}", given)
            self.assertIn("-DISOBAR_TORCH_DIR=/site-packages/torch", given)

    def test_takes_variants_that_it_declares(self):
        declared = set(self.package.of("variant"))
        for argument in self.arguments():
            name, _, value = argument.partition("=")
            if name in ("-DISOBAR_MPI", "-DISOBAR_GLOO", "-DISOBAR_ATLAS", "-DISOBAR_TESTS"):
                self.assertIn(value, declared)


def sections(path):
    """A definition's head and its sections, by name."""
    found, name = {"": []}, ""
    for line in path.read_text(encoding="utf-8").splitlines():
        started = re.match(r"%(\w+)", line)
        name = started[1] if started else name
        found.setdefault(name, [])
        if not started:
            found[name].append(line)
    return {name: "\n".join(lines) for name, lines in found.items()}


class Containers(unittest.TestCase):
    SCRIPTS = ("post", "environment", "runscript", "test")

    def setUp(self):
        self.definitions = {path: sections(path) for path in sorted(CONTAINERS.glob("*.def"))}
        self.assertTrue(self.definitions)

    def test_have_a_base_and_the_sections_that_apptainer_knows(self):
        for path, parts in self.definitions.items():
            self.assertRegex(parts[""], r"(?m)^Bootstrap: docker\nFrom: \S", path)
            self.assertEqual(set(parts), {"", "files", "post", "environment", "runscript", "test", "labels"}, path)

    def test_build_this_version(self):
        archive = f"isobar-{stack_files.version()}"
        for path in [*self.definitions, ROOT / "examples/kubernetes/Containerfile"]:
            named = re.findall(r"isobar-\d[\d.]*\d", path.read_text(encoding="utf-8"))
            self.assertEqual(set(named), {archive}, path)

    def test_use_presets_options_and_files_that_are_there(self):
        for path in [*self.definitions, ROOT / "examples/kubernetes/Containerfile"]:
            words = path.read_text(encoding="utf-8")
            self.assertLessEqual(set(re.findall(r"--preset (\w+)", words)), stack_files.presets(), path)
            self.assertLessEqual(stack_files.options_in(words), stack_files.build_options(), path)
            for name in re.findall(r"scripts/[\w.-]+(?:/[\w.-]+)*", words):
                self.assertTrue((ROOT / name).exists(), f"{path}: there is no {name}")

    def test_hold_scripts_that_a_shell_can_read(self):
        for path, parts in self.definitions.items():
            for name in self.SCRIPTS:
                done = subprocess.run(["sh", "-n"], input=parts[name], capture_output=True, text=True, check=False)
                self.assertEqual(done.returncode, 0, f"{path}, %{name}: {done.stderr}")

    @unittest.skipUnless(shutil.which("shellcheck"), "no shellcheck here")
    def test_hold_scripts_in_which_shellcheck_finds_nothing(self):
        for path, parts in self.definitions.items():
            for name in self.SCRIPTS:
                done = subprocess.run(["shellcheck", "--shell=sh", "-"], input=parts[name], capture_output=True,
                                      text=True, check=False)
                self.assertEqual(done.returncode, 0, f"{path}, %{name}: {done.stdout}")


if __name__ == "__main__":
    unittest.main()
