# SPDX-License-Identifier: Apache-2.0
"""The numbered programs of examples/, on one rank and on two: each ends as its first comment says.

Run it with ISOBAR_BIN, the folder of the programs, set; ctest does. Arguments are names of tests, such as
ExamplesTest.test_01_wrap_a_module.
"""
import os
import pathlib
import re
import shutil
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from mpi_launch import mpirun, run  # noqa: E402

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"
PROGRAMS = pathlib.Path(os.environ["ISOBAR_BIN"])
ARGUMENTS = {
    "04_complete_trainer": ["{folder}"],
    "05_train_a_weather_network": ["examples/experiments/quickstart.yaml", "run.folder={folder}", "train.steps=2"],
}


def promised(source):
    """What the last line is to be, as the comment at the top has it: N is the number of ranks, K a number."""
    head = re.sub(r"\n// ?", " ", source.read_text(encoding="utf-8").split("\n#")[0])
    return re.search(r'The last line is "([^"]+)"', head)[1]


class ExamplesTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="isobar-example-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def start(self, name, ranks, *arguments):
        command = [*(mpirun(ranks) if ranks > 1 else []), PROGRAMS / name, *arguments]
        result = run(command, cwd=EXAMPLES.parent)
        self.assertEqual(result.returncode, 0, f"{command}: {result.stdout}{result.stderr}")
        return result.stdout.splitlines()

    def check(self, name):
        for ranks in [1, 2]:
            arguments = [word.format(folder=self.folder / str(ranks)) for word in ARGUMENTS.get(name, [])]
            lines = self.start(name, ranks, *arguments)
            text = re.escape(promised(EXAMPLES / f"{name}.cpp"))
            text = re.sub(r"\bN\b", str(ranks), text)
            text = re.sub(r"\bK\b", r"[\\d.]+", text)
            self.assertRegex(lines[-1], f"^{text}$")
            self.assertEqual(len(re.findall(f"^{text}$", "\n".join(lines), re.MULTILINE)), 1, "one rank speaks")

    def test_complete_trainer_in_16_bits(self):
        for precision in ["bf16", "fp16"]:
            lines = self.start("04_complete_trainer", 2, self.folder / precision, precision)
            self.assertIn("read back", lines[-1])

    def test_complete_trainer_goes_on_from_its_last_checkpoint(self):
        """To the bit: what it would have come to without an end in between."""
        first = self.start("04_complete_trainer", 2, self.folder)
        newest = max(self.folder.iterdir())
        shutil.rmtree(newest)
        again = self.start("04_complete_trainer", 2, self.folder)
        self.assertEqual(len(first), 6, first)
        self.assertEqual(again, first[-2:])
        self.assertEqual(self.start("04_complete_trainer", 2, self.folder), first[-1:])

    def test_complete_trainer_says_in_a_line_what_is_wrong(self):
        self.start("04_complete_trainer", 1, self.folder)
        newest = max(self.folder.iterdir())
        (newest / "statistics.safetensors").write_bytes(b"")
        result = run([*mpirun(2), PROGRAMS / "04_complete_trainer", self.folder])
        self.assertNotEqual(result.returncode, 0)
        self.assertRegex(result.stderr, r"(?m)^error: .*statistics\.safetensors")


def add_tests():
    for source in sorted(EXAMPLES.glob("[0-9][0-9]_*.cpp")):
        setattr(ExamplesTest, f"test_{source.stem}", lambda self, name=source.stem: self.check(name))


add_tests()

if __name__ == "__main__":
    unittest.main()
