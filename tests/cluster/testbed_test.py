#!/usr/bin/env -S python3 -B
# SPDX-License-Identifier: Apache-2.0
"""A run on a machine, from `isobar cluster detect` to its scores, under a real Slurm on four nodes.

  tests/cluster/testbed_test.py PROGRAM [MACHINE]

The nodes are a testbed's (docs/testbed.md) that has the machine's name, partition, processors and (fake) GPUs; MACHINE
is leonardo, marenostrum5 or lumi. It needs root and the testbed's tools, and skips (77) without.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "testbed"))

from cluster_test import TESTBED, why_skip  # noqa: E402

# What a login node has in its environment, what Slurm has, and what jobs must do without: its fabric is not there.
MACHINES = {
    "leonardo": {"login": {"HPC_SYSTEM": "leonardo"}, "partition": "boost_usr_prod", "cpus": 32, "gpus": 4,
                 "account": "EUHPC_D00_000", "module": "cuda/12.2", "without": []},
    "marenostrum5": {"login": {"BSC_MACHINE": "mn5-acc"}, "partition": "acc", "cpus": 160, "gpus": 4,
                     "account": "ehpc00", "module": "cuda/12.8", "without": ["OMPI_MCA_pml=ob1"]},
    "lumi": {"login": {"LMOD_ADMIN_FILE": "/appl/lumi/admin"}, "partition": "standard-g", "cpus": 128, "gpus": 8,
             "account": "project_465000001", "module": "rocm/6.3.4", "without": []},
}
PROGRAM = pathlib.Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else None
MACHINE = sys.argv[2] if len(sys.argv) > 2 else "leonardo"
SITE = MACHINES[MACHINE]
NAME = f"jobs-{os.getpid()}"
NODES = 4
LIMIT_S = 240  # of a job on a busy machine; it takes a tenth of it
SHORT = ["train.steps=4", "train.log_every=2", "train.validate_every=2", "optimizer.warmup_steps=1",
         "train.refit=false", "data.validation.begin=2019-03-24", "data.train.end=2019-03-24",
         f"data.path={ROOT}/examples/data/era5_t2m_uk_2019-03.nc"]
EXPERIMENT = ROOT / "examples" / "experiments" / "quickstart.yaml"

# Ends the tasks that Slurm runs on a node, and its daemon answers no more, as if the power had gone.
LOSE_NODE = """
import os, signal
def read(pid, name):
    with open(f"/proc/{pid}/{name}") as file:
        return file.read().split()
own = os.readlink("/proc/self/ns/net")
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        if os.readlink(f"/proc/{pid}/ns/net") != own:
            continue
        name, = read(pid, "comm")
        parent, = read(read(pid, "stat")[3], "comm")
        if name == "slurmd":
            os.kill(int(pid), signal.SIGSTOP)
        elif "slurmstepd" in (name, parent):
            os.kill(int(pid), signal.SIGKILL)
    except (OSError, ValueError):
        pass
"""

# A machine's modules are a function of its shells; here it says what it is asked for.
MODULES = 'module() { echo "module $*"; }\n'


def testbed(program, *arguments, **keywords):
    return subprocess.run([TESTBED / program, "--name", NAME, *map(str, arguments)], capture_output=True, text=True,
                          check=False, timeout=LIMIT_S, **keywords)


class MachineTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.addClassCleanup(testbed, "down")
        done = testbed("up", "--nodes", NODES, "--rate", "none", "--no-measure", "--slurm", "--cluster", MACHINE,
                       "--partition", SITE["partition"], "--slurm-cpus", SITE["cpus"], "--gpus", SITE["gpus"])
        if done.returncode != 0:
            raise AssertionError(done.stdout + done.stderr)

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="isobar-jobs-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name).resolve()
        (self.folder / "modules.sh").write_text(MODULES)

    def on_login_node(self, *words, **variables):
        """Runs a command where a user would: in n1, in a folder of theirs, with what the machine's shells set."""
        environment = {**os.environ, **SITE["login"], "BASH_ENV": str(self.folder / "modules.sh"), "USER": "root",
                       "OMP_NUM_THREADS": "1", **variables}
        return testbed("enter", "n1", *words, cwd=self.folder, env=environment)

    def isobar(self, *words, code=0):
        done = self.on_login_node(PROGRAM, *words)
        self.assertEqual(done.returncode, code, f"{words}\n{done.stdout}{done.stderr}")
        return done.stdout if code == 0 else done.stdout + done.stderr

    def submit(self, *words, nodes=NODES, options=()):
        """The rows of the jobs that were queued."""
        # The testbed is root's, and cores are shared: one rank a node will do.
        variables = [word for each in SITE["without"] for word in ("--env", each)]
        said = self.isobar("cluster", "submit", "--nodes", str(nodes), "--time", "0:10:00", "--account",
                           SITE["account"], "--ranks-per-node", "1", *variables, *options, "--json", "-", *words)
        return json.loads(said)["rows"]

    def status(self, path):
        return json.loads(self.isobar("cluster", "status", path, "--json", "-"))

    def wait_until(self, holds):
        until = time.monotonic() + LIMIT_S
        while not holds() and time.monotonic() < until:
            time.sleep(0.2)
        self.assertTrue(holds(), "in time")

    def wait_for(self, path):
        until = time.monotonic() + LIMIT_S
        while time.monotonic() < until:
            status = self.status(path)
            if all(row["exit_code"] for row in status["rows"]):
                return status
            time.sleep(1)
        raise AssertionError(f"jobs did not end: {status}")

    def test_the_machine_is_detected_on_a_login_node_and_in_a_job(self):
        self.assertIn(MACHINE, self.isobar("cluster", "detect"))
        found = self.on_login_node("env", *(f"--unset={name}" for name in SITE["login"]), "srun", "-N1", PROGRAM,
                                   "cluster", "detect")
        if MACHINE != "marenostrum5":  # of which Slurm's name is not known
            self.assertIn(f"{MACHINE} (SLURM_CLUSTER_NAME={MACHINE})", found.stdout, found.stderr)

    def test_an_experiment_goes_from_a_script_to_scores(self):
        keys = [f"run.folder={self.folder}", *SHORT]
        script = self.on_login_node(PROGRAM, "cluster", "script", EXPERIMENT, *keys, "--nodes", str(NODES), "--time",
                                    "0:10:00", "--account", SITE["account"]).stdout
        self.assertEqual(subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode, 0, script)

        job, = self.submit(EXPERIMENT, *keys)
        jobs = self.folder / "quickstart.jobs"
        self.assertIn(self.status(jobs)["rows"][0]["state"], ("PENDING", "CONFIGURING", "RUNNING"))
        said = self.isobar("cluster", "logs", EXPERIMENT, keys[0], "--follow", "--lines", "1000")

        self.assertIn(f"job {job['id']} ended with code 0", said)
        self.assertIn(f"module load {SITE['module']}", said)
        self.assertIn("test period 2019-03-25", said, "the scores of rank 0")
        status = self.status(self.folder / "quickstart")
        row, = status["rows"]
        self.assertEqual((row["state"], row["exit_code"], row["restarts"]), ("COMPLETED", "0:0", 0))
        self.assertEqual(row["nodes"], f"n[1-{NODES}]")
        self.assertEqual((status["run"]["step"], status["run"]["checkpoint"]), (4, 4))
        record = json.loads((self.folder / "quickstart" / "record.json").read_text())
        self.assertEqual(record["ranks"], NODES)
        self.assertEqual(record["cluster"]["name"], MACHINE)
        scores = json.loads(self.isobar("evaluate", self.folder / "quickstart", "--json", "-"))["rows"]
        self.assertGreater(scores[0]["rmse"], 0)

    def test_the_links_of_a_chain_run_one_after_another(self):
        rows = self.submit("--", "sh", "-c", "echo $SLURM_JOB_ID on $(hostname) >> ran; sleep 1", nodes=2,
                           options=["--chain", "2", "--name", "links"])
        status = self.wait_for("runs/links")
        self.assertEqual([row["state"] for row in status["rows"]], ["COMPLETED", "COMPLETED"])
        ran = [line.split() for line in (self.folder / "ran").read_text().splitlines()]
        self.assertEqual([words[0] for words in ran], [rows[0]["id"]] * 2 + [rows[1]["id"]] * 2)
        self.assertEqual(len({words[2] for words in ran[:2]}), 2, "on two nodes")

    def test_a_campaign_is_queued_and_collected(self):
        (self.folder / "weak.yaml").write_text(
            "campaign: {name: weak}\n"
            "run: {kind: step, options: {layers: 2, width: 16, batch: 4, repeats: 5, stream-seconds: 0}}\n"
            "axes: {nodes: [1, 2]}\nrules: {repeats: 2, time_limit_minutes: 10}\n"
            f"launch: {{how: slurm, account: {SITE['account']}}}\n")
        self.assertIn("4 submitted", self.isobar("campaign", "run", "weak.yaml"))
        until = time.monotonic() + LIMIT_S
        left = 4
        while left > 0 and time.monotonic() < until:
            rows = json.loads(self.isobar("campaign", "status", "weak.yaml", "--json", "-"))["rows"]
            left = sum(row["queued"] for row in rows)
            time.sleep(1)
        self.assertEqual([row["done"] for row in rows], [2, 2], rows)
        rows = json.loads(self.isobar("campaign", "collect", "weak.yaml", "--json", "-"))["rows"]
        self.assertEqual([row["count"] for row in rows], [2, 2])
        self.assertEqual(rows[0]["efficiency"], 1)
        records = self.folder.glob("campaigns/weak/runs/nodes=2/*/run.json")
        nodes = {json.loads(path.read_text())["end"]["nodes"] for path in records}
        self.assertTrue(all(each.startswith("n[") for each in nodes), nodes)

    def test_a_job_that_fails_is_told_with_its_code(self):
        self.submit("--", "sh", "-c", "echo before >&2; exit 3", nodes=1, options=["--name", "broken"])
        said = self.isobar("cluster", "logs", "runs/broken", "--follow", code=1)
        self.assertIn("before", said)
        row, = self.wait_for("runs/broken")["rows"]
        self.assertEqual((row["state"], row["exit_code"]), ("FAILED", "3:0"))

    def test_a_job_that_waits_says_why(self):
        held, = self.submit("--", "true", options=["--name", "later", "--directive=--begin=now+1hour"])
        row, = self.status("runs/later")["rows"]
        self.assertEqual((row["state"], row["reason"]), ("PENDING", "BeginTime"))
        self.assertIn(f"job {held['id']} has said nothing yet: PENDING, BeginTime",
                      self.isobar("cluster", "logs", "runs/later", code=1))
        self.on_login_node("scancel", held["id"])
        self.assertEqual(self.wait_for("runs/later")["rows"][0]["state"], "CANCELLED")

    def test_sbatch_can_be_asked_without_queueing(self):
        common = ["cluster", "submit", "--time", "0:10:00", "--account", SITE["account"], "--ranks-per-node", "1"]
        self.assertIn("to start at", self.isobar(*common, "--nodes", "2", "--test-only", "--", "true"))
        self.assertFalse((self.folder / "runs").exists())
        refused = self.isobar(*common, "--nodes", "2", "--directive=--constraint=absent", "--", "true", code=2)
        self.assertIn("Invalid feature specification", refused)

    def start_with_a_spare(self):
        """A job of two ranks that waits until it is begun again; the node to be lost."""
        self.submit("--", "sh", "-c", "echo $(hostname) >> ran; test $(wc -l < ran) -ge 3 || exec sleep 600", nodes=2,
                    options=["--spares", "1", "--name", "lost"])
        ran = self.folder / "ran"
        self.wait_until(lambda: ran.exists() and len(ran.read_text().split()) == 2)
        return max(ran.read_text().split())  # the job's script is on the first node

    def assert_begun_again_without(self, lost):
        row, = self.wait_for("runs/lost")["rows"]
        self.assertEqual((row["state"], row["exit_code"]), ("COMPLETED", "0:0"))
        second = (self.folder / "ran").read_text().split()[2:]
        self.assertEqual(len(set(second)), 2, second)
        self.assertNotIn(lost, second)
        said = self.isobar("cluster", "logs", "runs/lost")
        self.assertIn(f"nodes lost: {lost}; the ranks begin again on others", said)

    def test_the_ranks_begin_again_on_a_spare_when_a_node_is_lost(self):
        lost = self.start_with_a_spare()
        testbed("enter", lost, "python3", "-c", LOSE_NODE)
        self.addCleanup(testbed, "enter", lost, "python3", "-c", LOSE_NODE.replace("SIGSTOP", "SIGCONT"))
        self.on_login_node("scontrol", "update", f"nodename={lost}", "state=down", "reason=lost")

        self.assert_begun_again_without(lost)

    def test_the_ranks_begin_again_where_a_lost_node_answers_at_once(self):
        lost = self.start_with_a_spare()
        self.on_login_node("scontrol", "update", f"nodename={lost}", "state=down", "reason=lost")

        self.assert_begun_again_without(lost)


if __name__ == "__main__":
    if reason := why_skip():
        print(f"skipped: {reason}")
        sys.exit(77)
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
