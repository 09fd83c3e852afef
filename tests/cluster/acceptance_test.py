# SPDX-License-Identifier: Apache-2.0
"""scripts/slurm/acceptance.sh with an srun and an isobar that only look like them."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "slurm" / "acceptance.sh"

# Runs the command behind its options.
SRUN = """#!/bin/sh
echo "machine $ISOBAR_CLUSTER cores ${SRUN_CPUS_PER_TASK-unset} srun $*" >>"$SAID"
while [ "${1#--}" != "$1" ]; do shift; done
exec "$@"
"""

# Writes a report of one row; the quick start fails.
ISOBAR = """#!{python}
import json, sys
words = sys.argv[1:]
if words == ["doctor"]:
    print("GPUs         {gpus}")
elif words[0] == "train":
    sys.exit("isobar: error: no data")
elif "--json" in words:
    row = {{"op": words[words.index("--op") + 1] if "--op" in words else "", "median_s": 0.5, "error": 0.0}}
    schema = "isobar.bench_collective.1"
    if words[0] == "doctor":
        row = {{"grade": "FAIL", "what": "link", "nodes": ["n2"], "measured": "1|2 Gbit/s", "wanted": "200"}}
        schema = "isobar.preflight.1"
    json.dump({{"schema": schema, "commit": "0123456789ab", "rows": [row]}}, open(words[-1], "w"))
"""


class AcceptanceTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="isobar-acceptance-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.said = self.folder / "said"
        self.program("bin/srun", SRUN)
        self.program("bin/ctest", "#!/bin/sh\nexit 77\n")
        self.program("build/bin/isobar", ISOBAR.format(python=sys.executable, gpus="4 (CUDA)"))

    def program(self, name, text):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def accept(self, *arguments, **variables):
        environment = {**os.environ, "PATH": f"{self.folder}/bin:{os.environ['PATH']}", "SLURM_JOB_ID": "7",
                       "SLURM_JOB_NUM_NODES": "2", "SLURM_GPUS_ON_NODE": "4", "SAID": str(self.said), **variables}
        return subprocess.run([SCRIPT, "--build", self.folder / "build", "--out", self.folder / "out", *arguments],
                              cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)

    def test_writes_a_page_of_all_steps_and_fails_with_one(self):
        done = self.accept("--cluster", "leonardo", ISOBAR_SRUN="--mpi=pmix")
        self.assertEqual(done.returncode, 1, done.stdout + done.stderr)
        results = json.loads((self.folder / "out" / "results.json").read_text())
        codes = {step["name"]: step["code"] for step in results["steps"]}
        self.assertEqual({name for name, code in codes.items() if code != 0}, {"cuda-tests", "quickstart"})
        self.assertTrue({"preflight", "binding", "allreduce-nccl", "gnn-bf16-ddp", "allreduce-cpu-mpi"} <= set(codes))
        self.assertEqual(results["reports"]["all_to_all-nccl"]["rows"][0]["op"], "all_to_all")
        page = (self.folder / "out" / "page.md").read_text()
        self.assertIn("| FAIL | link | n2 | 1/2 Gbit/s | 200 |", page)
        self.assertIn("| cuda-tests | skipped |", page)
        self.assertIn("| quickstart | failed (1) |", page)
        self.assertIn("    isobar: error: no data", page)
        self.assertIn("commit 0123456789ab", page)

    def test_starts_a_rank_for_each_gpu_of_all_nodes(self):
        self.accept("--cluster", "leonardo", ISOBAR_SRUN="--mpi=pmix --cpu-bind=cores")
        first = self.said.read_text().splitlines()[0]
        self.assertIn("srun --nodes=2 --ntasks-per-node=4 --kill-on-bad-exit=1 --mpi=pmix --cpu-bind=cores ", first)
        self.assertIn("doctor --binding --json", first)
        self.assertIn("machine leonardo", first)

    def test_gives_each_rank_the_cores_that_the_job_was_given_for_one(self):
        for cores in ("8", ""):
            self.accept("--cluster", "leonardo", SLURM_CPUS_PER_TASK=cores)
            self.assertIn(f"cores {cores or 'unset'} ", self.said.read_text().splitlines()[0])
            self.said.unlink()

    def test_leaves_out_what_wants_gpus_where_there_is_none(self):
        self.program("build/bin/isobar", ISOBAR.format(python=sys.executable, gpus="none usable"))
        self.accept("--cluster", "vega")
        names = {step["name"] for step in json.loads((self.folder / "out" / "results.json").read_text())["steps"]}
        self.assertEqual(names, {"binding", "preflight", "allreduce-cpu-mpi", "allreduce-cpu-gloo", "gnn-cpu", "quickstart"})

    def test_says_what_is_missing(self):
        for arguments, variables, said in (
                ([], {}, "--cluster NAME is missing"),
                (["--cluster", "x"], {"SLURM_JOB_ID": ""}, "not in a job"),
                (["--cluster", "x", "--nodes", "3"], {}, "no option '--nodes'")):
            with self.subTest(said=said):
                done = self.accept(*arguments, **variables)
                self.assertEqual(done.returncode, 2)
                self.assertIn(said, done.stderr)


if __name__ == "__main__":
    unittest.main()
