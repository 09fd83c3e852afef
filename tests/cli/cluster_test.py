# SPDX-License-Identifier: Apache-2.0
"""`isobar cluster` as users start it, before commands that stand in for Slurm's."""

import json
import os
import subprocess
import unittest

from cli_case import DATA, EXPERIMENT, PROGRAM, SHORT, Case, run

# Jobs are 101, 102, ...; `refuse` is the number of one that is not taken.
SBATCH = """#!/bin/bash
echo "$*" >> {folder}/sbatch.calls
if [[ $* == *--test-only* ]]; then echo "sbatch: Job 9 to start at 2026-12-01T00:00:00" >&2; exit; fi
id=$((100 + $(wc -l < {folder}/sbatch.calls)))
if [ "$id" = "$(cat {folder}/refuse 2>/dev/null)" ]; then
  echo "sbatch: error: Batch job submission failed: Invalid qos specification" >&2
  exit 1
fi
echo "$id"
"""
SCONTROL = """#!/bin/bash
cat {folder}/states | sed -n "s/^JobId=$4 .*/&/p" | grep . || {{ echo "Invalid job id specified" >&2; exit 1; }}
"""
SCANCEL = """#!/bin/bash
echo $* > {folder}/cancelled
"""
SACCT = """#!/bin/bash
exit 1
"""
# Detection sees no machine but the one that a test names.
MACHINE_VARIABLES = ("ISOBAR_CLUSTER", "ISOBAR_CLUSTER_CONFIG", "HPC_SYSTEM", "BSC_MACHINE", "SLURM_CLUSTER_NAME")


class ClusterTest(Case):
    def setUp(self):
        super().setUp()
        self.folder = self.folder.resolve()
        (self.folder / "bin").mkdir()
        for name, text in {"sbatch": SBATCH, "scontrol": SCONTROL, "scancel": SCANCEL, "sacct": SACCT}.items():
            self.replace(name, text)
        self.variables = dict.fromkeys(MACHINE_VARIABLES, "") | {
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}", "ISOBAR_CLUSTER": "leonardo"}

    def replace(self, name, text):
        """What a command of Slurm's does from now on."""
        command = self.folder / "bin" / name
        command.write_text((text if text.startswith("#!") else f"#!/bin/bash\n{text}\n").format(folder=self.folder))
        command.chmod(0o755)

    def cluster(self, *words, code=0, cwd=None, **variables):
        result = run([PROGRAM, "cluster", *words], cwd=cwd, **self.variables | variables)
        self.assertEqual(result.returncode, code, f"{words}\n{result.stdout}{result.stderr}")
        return result

    def refused(self, *words, **variables):
        """The error's line."""
        result = self.cluster(*words, code=2, **variables)
        self.assertEqual(result.stdout, "")
        line = result.stderr.splitlines()[-1]
        self.assertTrue(line.startswith("isobar: error: "), result.stderr)
        return line

    def job(self, *words):
        return ["--nodes", "2", "--time", "1:00:00", "--account", "EUHPC_D00_000", *words]

    def experiment(self, *keys):
        return [EXPERIMENT, f"run.folder={self.folder}/runs", *SHORT, *keys]

    def rows(self, *words):
        return json.loads(self.cluster(*words, "--json", "-").stdout)["rows"]

    def write_program(self):
        (self.folder / "prog").write_text("#!/bin/sh\n")
        (self.folder / "prog").chmod(0o755)

    def say(self, **states):
        """What scontrol knows, by job: its state and more of its line."""
        lines = [f"JobId={job[1:]} JobState={text}\n" for job, text in states.items()]
        (self.folder / "states").write_text("".join(lines))

    # Machines.

    def test_lists_machines_and_marks_those_that_the_user_has_changed(self):
        names = [row["name"] for row in self.rows("list")]
        self.assertTrue({"leonardo", "marenostrum5", "lumi", "local"} <= set(names), names)
        own = self.folder / "own.yaml"
        own.write_text("clusters: {lumi: {account: project_465000001}}\n")
        listed = self.cluster("list", ISOBAR_CLUSTER_CONFIG=str(own)).stdout
        self.assertRegex(listed, r"(?m)^lumi\* +LUMI-G .* 800  8 x MI250X")
        self.assertRegex(listed, r"(?m)^leonardo  ")

    def test_says_how_to_name_a_machine_that_is_not_known(self):
        self.assertEqual(self.cluster("detect").stdout, "leonardo (ISOBAR_CLUSTER=leonardo)\n")
        unknown = self.cluster("detect", code=1, ISOBAR_CLUSTER="")
        self.assertEqual(unknown.stdout, "")
        self.assertIn("name the machine by ISOBAR_CLUSTER or --cluster", unknown.stderr)
        self.assertIn("did you mean 'leonardo'?", self.refused("detect", ISOBAR_CLUSTER="leonado"))

    def test_shows_what_is_not_certain(self):
        shown = self.cluster("show", "leonardo").stdout
        self.assertRegex(shown, r"(?m)^  network.cell_nodes +180\n +not certain: ")
        rows = {row["key"]: row for row in self.rows("show", "leonardo")}
        self.assertEqual(rows["node.gpus"]["value"], "4")
        self.assertTrue(rows["network.cell_nodes"]["unverified"])
        self.assertFalse(rows["node.gpus"]["overlaid"])
        self.assertIn("title: Leonardo", self.cluster("show", "--yaml").stdout)
        own = self.folder / "own.yaml"
        own.write_text("clusters: {mybox: {title: ours, gpu_platform: none, queues: {all: {partition: p}}}}\n")
        shown = self.cluster("show", "mybox", "--yaml", ISOBAR_CLUSTER_CONFIG=str(own)).stdout
        self.assertTrue(shown.startswith("title: ours\n"), shown)

    def test_gives_a_shell_the_environment(self):
        lines = self.cluster("env", "leonardo", "--shell").stdout
        said = subprocess.run(["bash", "-c", f"{lines}\necho $ISOBAR_CLUSTER $NCCL_IB_SL"], capture_output=True,
                              text=True, check=True)
        self.assertEqual(said.stdout, "leonardo 1\n")
        self.assertIn("NCCL_IB_SL=1\n", self.cluster("env").stdout)

    # Scripts.

    def test_a_script_runs_this_program_on_the_experiment(self):
        script = self.cluster("script", *self.experiment(), *self.job()).stdout
        self.assertTrue(script.startswith("#!/bin/bash\n"))
        for line in ("#SBATCH --nodes=2", "#SBATCH --time=01:00:00", "#SBATCH --account=EUHPC_D00_000",
                     "#SBATCH --job-name=quickstart", "export ISOBAR_CLUSTER=leonardo"):
            self.assertIn(f"\n{line}\n", script)
        self.assertIn(f" train {os.path.abspath(EXPERIMENT)} run.folder={self.folder}/runs train.steps=4", script)
        self.assertEqual(subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode, 0)
        self.assertFalse((self.folder / "runs").exists(), "nothing is written")

    def test_a_script_takes_a_program_of_ones_own_and_its_options(self):
        options = self.job("--env", "A=b c", "--name", "mine")
        script = self.cluster("script", *options, "--", "./prog", "-n", "--x=1").stdout
        self.assertIn("#SBATCH --job-name=mine\n", script)
        self.assertIn("export A='b c'\n", script)
        self.assertIn("./prog -n --x=1", script)
        self.assertIn("--name '../a' is no plain name",
                      self.refused("script", *self.job("--name", "../a"), "--", "./prog"))
        self.assertIn("a job runs one of them", self.refused("script", EXPERIMENT, *self.job(), "--", "./prog"))

    def test_what_the_machine_forbids_is_refused(self):
        self.assertIn("--account", self.refused("script", *self.experiment(), "--nodes", "2", "--time", "1:00:00"))
        self.assertIn("--time", self.refused("script", *self.experiment(), "--nodes", "2", "--time", "soon"))
        self.assertIn("wants NAME=VALUE", self.refused("script", *self.experiment(), *self.job("--env", "A")))

    # Jobs.

    def test_a_job_is_submitted_and_written_down(self):
        said = self.cluster("submit", *self.experiment(), *self.job()).stdout
        self.assertIn("job 101 on leonardo: 2 nodes, 01:00:00, queue normal\n", said)
        jobs = self.folder / "runs" / "quickstart.jobs"
        self.assertEqual((self.folder / "sbatch.calls").read_text(), f"--parsable {jobs}/job-1.sh\n")
        self.assertIn(f"#SBATCH --output={jobs}/%j.out\n", (jobs / "job-1.sh").read_text())
        job, = [json.loads(line) for line in (jobs / "jobs.jsonl").read_text().splitlines()]
        self.assertEqual((job["id"], job["cluster"], job["output"]), ("101", "leonardo", f"{jobs}/101.out"))

    def test_what_would_end_a_run_is_refused_before_it_is_queued(self):
        def refused(*words):
            return self.refused("submit", *self.experiment(*words), *self.job())
        self.assertIn("data.path: 'absent.nc' is not there", refused("data.path=absent.nc"))
        self.assertIn("do not divide into models of 3", refused("model.ranks=3"))
        self.assertIn("is predicted to take", refused("model.channels=4096", "model.layers=64"))
        self.assertIn("device: cuda", self.refused("submit", *self.experiment("device=cuda"), *self.job(), "--cluster",
                                                   "local"))
        long = ["--step-seconds", "10", "train.steps=1000", "train.validate_every=0"]
        self.assertIn("set train.validate_every=180 or less",
                      self.refused("submit", *self.experiment(), *self.job(), *long))
        self.assertFalse((self.folder / "sbatch.calls").exists())

    def test_what_sbatch_does_not_look_at_is(self):
        own = ["submit", *self.job()]
        for words, text in [([*own, "--", "./absent"], "the program './absent' is not there"),
                            ([*own, "--container", "absent.sif", "--", "true"], "--container: 'absent.sif' is not there"),
                            ([*own, "--output", "/absent/%j.out", "--", "true"], "there is no folder '/absent'"),
                            ([*own, "--name", "a%jb", "--", "true"], "holds '%'"),
                            ([*own, "--directive=--array=1-2", "--", "true"], "'--array=1-2' would make of it"),
                            ([*own, "--directive=-G4", "--", "true"], "would say again"),
                            ([*own, "--env", "PATH=/x", "--", "true"], "PATH would be the script's"),
                            ([*own, "--chain", "1001", "--", "true"], "leonardo takes 1000 jobs"),
                            ([*own[:1], *self.experiment("comm.backend=shm"), *self.job()], "shm reaches the ranks of one node")]:
            self.assertIn(text, self.refused(*words))
        self.assertFalse((self.folder / "sbatch.calls").exists(), "none was queued")

    def test_a_job_is_warned_of_what_it_wastes(self):
        said = self.cluster("submit", *self.experiment(), *self.job(), "--spares", "1").stderr
        self.assertIn("device: cpu, and the job reserves the 4 GPUs of each node", said)
        self.assertIn("3 nodes with the spares", said)
        said = self.cluster("submit", *self.job(), "--name", "elsewhere", "--", "true", HPC_SYSTEM="leonardo",
                            ISOBAR_CLUSTER="lumi", code=2).stderr
        self.assertIn("'EUHPC_D00_000' is no account", said)
        said = self.cluster("submit", "--nodes", "1", "--time", "1:00:00", "--account", "project_465000001", "--name", "far",
                            "--", "true", HPC_SYSTEM="leonardo", ISOBAR_CLUSTER="lumi").stderr
        self.assertIn("the job is for lumi, and this looks like leonardo", said)

    def test_a_run_that_goes_on_is_not_submitted_twice(self):
        self.cluster("submit", *self.experiment(), *self.job())
        self.say(_101="PENDING Reason=Priority")
        refused = self.refused("submit", *self.experiment(), *self.job())
        self.assertIn("job 101 (PENDING) of", refused)
        self.assertIn("another run.name", refused)
        self.say(_101="FAILED ExitCode=1:0")
        self.cluster("submit", *self.experiment(), *self.job())

    def test_a_job_has_the_users_own_file_wherever_its_script_is_queued(self):
        own = self.folder / "own.yaml"
        own.write_text("clusters: {leonardo: {account: EUHPC_D00_000}}\n")
        script = self.cluster("script", "--nodes", "2", "--", "true", ISOBAR_CLUSTER_CONFIG="own.yaml",
                              cwd=self.folder).stdout
        self.assertIn(f"\nexport ISOBAR_CLUSTER_CONFIG={own}\n", script)

    def test_a_container_runs_its_own_program_and_sees_what_the_run_reads(self):
        script = self.cluster("script", *self.experiment(), *self.job(), "--container", "x.sif").stdout
        self.assertIn(f"x.sif \\\n  isobar train {os.path.abspath(EXPERIMENT)} ", script)
        self.assertIn(os.path.dirname(os.path.abspath(EXPERIMENT)), script)

    def test_a_chain_is_for_programs_that_go_on_from_their_checkpoints(self):
        self.assertIn("does not go on from a checkpoint",
                      self.refused("submit", *self.experiment(), *self.job("--chain", "2")))
        self.write_program()
        self.cluster("submit", *self.job("--chain", "2"), "--", "./prog", "-x", cwd=self.folder)
        lines = (self.folder / "runs" / "prog.jobs" / "jobs.jsonl").read_text().splitlines()
        self.assertEqual([json.loads(line)["id"] for line in lines], ["101", "102"])
        self.assertIn("--dependency=afterany:101", (self.folder / "sbatch.calls").read_text().splitlines()[1])

    def test_a_chain_is_taken_back_where_a_link_is_refused(self):
        (self.folder / "refuse").write_text("103")
        self.write_program()
        line = self.refused("submit", *self.job("--chain", "3"), "--", "./prog", cwd=self.folder)
        self.assertIn("Invalid qos specification; cancelled what was queued by then: jobs 101, 102", line)
        self.assertEqual((self.folder / "cancelled").read_text(), "101 102\n")

    def test_sbatch_is_asked_without_queueing(self):
        said = self.cluster("submit", *self.experiment(), *self.job("--test-only")).stdout
        self.assertEqual(said, "Job 9 to start at 2026-12-01T00:00:00\n")
        self.assertFalse((self.folder / "runs").exists())

    def test_status_shows_slurms_word_and_the_runs_progress(self):
        for _ in range(2):
            self.cluster("submit", *self.experiment(), *self.job())
        self.say(_101="FAILED Reason=NonZeroExitCode NodeList=lrdn[0001-0002] RunTime=00:10:00 Restarts=1 ExitCode=2:0",
                 _102="PENDING Reason=Priority NodeList=(null) RunTime=00:00:00 Restarts=0 ExitCode=0:0")
        run_folder = self.folder / "runs" / "quickstart"
        waiting = self.cluster("status", *self.experiment()).stdout
        self.assertIn("no run has begun there", waiting)
        self.assertRegex(waiting, r"1/1 102 +PENDING +Priority")
        run_folder.mkdir()
        (run_folder / "record.json").write_text('{"start_time": "2020-01-01T00:00:00Z"}')
        (run_folder / "metrics.jsonl").write_text('{"event": "step", "step": 20, "loss": 0.5}\n')
        for path in (run_folder, f"{run_folder}/", f"{run_folder}.jobs"):
            self.assertIn("step 20, loss 0.5\n  began 2020-01-01T00:00:00Z, before the last job was submitted\n",
                          self.cluster("status", path).stdout)
        report = json.loads(self.cluster("status", run_folder, "--json", "-").stdout)
        self.assertEqual(report["run"]["step"], 20)
        self.assertEqual([(row["state"], row["exit_code"], row["restarts"]) for row in report["rows"]],
                         [("FAILED", "2:0", 1), ("PENDING", "", 0)])
        self.assertIn("no job was submitted", self.refused("status", self.folder / "other"))

    def test_logs_are_those_of_the_last_job_that_said_something(self):
        for _ in range(2):
            self.cluster("submit", *self.experiment(), *self.job())
        jobs = self.folder / "runs" / "quickstart.jobs"
        self.say(_101="COMPLETED ExitCode=0:0", _102="PENDING Reason=Priority ExitCode=0:0")
        quiet = self.cluster("logs", jobs, code=1)
        self.assertRegex(quiet.stderr, "^job 102 has said nothing yet: PENDING, Priority\n  submitted 20.*Z, it will "
                                       f"say it in {jobs}/102.out\n$")
        self.replace("scontrol", "exit 127")
        self.assertIn("said nothing yet: UNKNOWN, scontrol is not on the PATH", self.cluster("logs", jobs, code=1).stderr)
        self.replace("scontrol", SCONTROL)
        (jobs / "101.out").write_text("one\ntwo\nthree\n")
        self.assertEqual(self.cluster("logs", jobs, "--lines", "2").stdout, "two\nthree\n")
        self.assertEqual(self.cluster("logs", jobs, "--follow").stdout, "one\ntwo\nthree\n")
        self.assertIn("--job 7 is none of this run's, which are 101, 102", self.refused("logs", jobs, "--job", "7"))

    def test_logs_follow_a_job_over_a_moment_in_which_slurm_does_not_answer(self):
        self.cluster("submit", *self.experiment(), *self.job())
        jobs = self.folder / "runs" / "quickstart.jobs"
        self.replace("scontrol", "if mkdir {folder}/asked; then echo Socket timed out; exit 1; fi\n"
                                 "echo out >> {folder}/runs/quickstart.jobs/101.out; "
                                 "echo JobId=101 JobState=COMPLETED Reason=None")
        followed = self.cluster("logs", jobs, "--follow")
        self.assertEqual(followed.stdout, "out\n")
        self.assertEqual(followed.stderr, "job 101: scontrol cannot be asked: Socket timed out; it will be asked "
                                          "again\njob 101: COMPLETED\n")

    def test_status_shows_the_run_where_slurm_cannot_be_asked(self):
        for _ in range(2):
            self.cluster("submit", *self.experiment(), *self.job())
        run_folder = self.folder / "runs" / "quickstart"
        run_folder.mkdir()
        (run_folder / "record.json").write_text('{"start_time": "2020-01-01T00:00:00Z"}')
        for text, reason in (("exit 127", "scontrol is not on the PATH"), ("", "it said: nothing"),
                             ("echo Unable to contact slurm controller; exit 1", "Unable to contact slurm")):
            self.replace("scontrol", text)
            said = self.cluster("status", run_folder, code=1).stdout
            self.assertRegex(said, f"(?m)^  1/1 102 +UNKNOWN +see below.*\n101, 102: UNKNOWN, .*{reason}.*\n{run_folder}: no step yet\n")
            self.assertEqual(said.count(reason), 1)
            rows = json.loads(self.cluster("status", run_folder, "--json", "-", code=1).stdout)["rows"]
            self.assertEqual([(row["id"], row["state"]) for row in rows], [("101", "UNKNOWN"), ("102", "UNKNOWN")])
            self.assertIn(reason, rows[1]["reason"])

    def test_status_says_why_a_job_is_unknown(self):
        self.cluster("submit", *self.experiment(), *self.job())
        self.say()
        self.replace("sacct", "echo 'sacct: error: slurmdbd: Connection refused' >&2; exit 1")
        self.assertIn("101: UNKNOWN, scontrol has forgotten it, sacct says: slurmdbd: Connection refused\n",
                      self.cluster("status", self.folder / "runs" / "quickstart").stdout)

    def test_status_is_asked_from_within_the_runs_folder(self):
        self.cluster("submit", *self.experiment(), *self.job())
        self.say(_101="PENDING Reason=Priority")
        run_folder = self.folder / "runs" / "quickstart"
        (run_folder / "log").mkdir(parents=True)
        for folder, path in ((run_folder, "."), (run_folder, "./"), (run_folder / "log", ".."),
                             (f"{run_folder}.jobs", ".")):
            self.assertIn(f"{run_folder}: no run has begun there", self.cluster("status", path, cwd=folder).stdout)

    def test_status_says_nothing_of_a_run_that_a_program_of_ones_own_does_not_write(self):
        self.write_program()
        self.cluster("submit", *self.job(), "--", "./prog", "train", cwd=self.folder)
        self.say(_101="RUNNING Reason=None")
        said = self.cluster("status", "runs/prog", cwd=self.folder).stdout
        self.assertIn("101       RUNNING", said)
        self.assertNotIn("no run has begun", said)

    # Data.

    def test_data_may_lie_in_a_folder_that_the_machine_names(self):
        own = self.folder / "own.yaml"
        own.write_text(f"clusters: {{leonardo: {{data_roots: {{era5: {os.path.abspath(os.path.dirname(DATA))}}}}}}}\n")
        keys = [f"data.path='{{era5}}/{os.path.basename(DATA)}'"]
        self.cluster("submit", *self.experiment(*keys), *self.job(), ISOBAR_CLUSTER_CONFIG=str(own))
        self.assertIn("leonardo has no data root 'era5'", self.refused("submit", *self.experiment(*keys), *self.job()))
        keyed = f"clusters: {{leonardo: {{data_roots: {{era5: $ISOBAR_TEST_DATA/{os.path.dirname(DATA)}}}}}}}\n"
        own.write_text(keyed)
        self.assertIn(f"{own}: clusters.leonardo.data_roots.era5 is '$ISOBAR_TEST_DATA/",
                      self.refused("submit", *self.experiment(*keys), *self.job(), ISOBAR_CLUSTER_CONFIG=str(own)))
        variables = self.variables | {"ISOBAR_CLUSTER_CONFIG": str(own), "ISOBAR_TEST_DATA": os.getcwd()}
        planned = run([PROGRAM, "plan", *self.experiment(*keys)], **variables)
        self.assertEqual(planned.returncode, 0, planned.stderr)

    def test_a_run_records_the_machine_that_its_job_names(self):
        result = run([PROGRAM, "train", EXPERIMENT, f"run.folder={self.folder}", *SHORT, "train.steps=2"],
                     **self.variables)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertEqual(self.record()["cluster"], {"name": "leonardo", "overlaid": []})


if __name__ == "__main__":
    unittest.main()
