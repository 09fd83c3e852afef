# SPDX-License-Identifier: Apache-2.0
"""Campaigns as users run them: interrupted, resumed, mixed, failing, compared. ctest sets ISOBAR_PROGRAM."""
import csv
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from mpi_launch import ENVIRONMENT, LIMIT_S, run  # noqa: E402

PROGRAM = os.environ["ISOBAR_PROGRAM"]
EXAMPLES = pathlib.Path("examples/campaigns")

CAMPAIGN = """
campaign: {{name: small, folder: {folder}/campaigns}}
run:
  kind: step
  options: {{layers: 2, width: 16, batch: 4, repeats: 3, stream-seconds: 0}}
axes:
  optimizer: [sgd, adamw]
  bucket-cap: [1KiB, 1MiB]
rules: {{repeats: 2, time_limit_minutes: {limit}}}
launch: {{command: "{command}"}}
"""
# Stands for the program: a run is over at once.
QUICK = """for word; do
  case $word in --json=*) echo '{"rows": [{"step_s": 0.5}]}' > "${word#--json=}" ;; esac
done
exit 0"""
STEP = {"model": "mlp", "ranks": 2, "step_s": 0.1, "step_low_s": 0.099, "step_high_s": 0.101}


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="isobar-campaign-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.file = self.folder / "small.yaml"
        self.place = self.folder / "campaigns" / "small"
        self.write()

    def write(self, script=QUICK, limit="5", change=("", "")):
        """The campaign's file; its runs are started by a script, or are the program's where it is empty."""
        command = ""
        if script:
            wrapper = self.folder / "wrapper"
            wrapper.write_text(f"#!/bin/sh\n{script}\nexec \"$@\"\n")
            wrapper.chmod(0o755)
            command = str(wrapper)
        text = CAMPAIGN.format(folder=self.folder, command=command, limit=limit)
        self.file.write_text(text.replace(*change))

    def isobar(self, *words, code=0, **variables):
        done = run([PROGRAM, *words], **variables)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stdout + done.stderr

    def campaign(self, what, *words, **more):
        return self.isobar("campaign", what, self.file, *words, **more)

    def rows(self):
        self.campaign("collect", "--json", self.folder / "rows.json")
        return json.loads((self.folder / "rows.json").read_text())["rows"]

    def status(self):
        self.campaign("status", "--json", self.folder / "status.json")
        return json.loads((self.folder / "status.json").read_text())

    def total(self, what):
        return sum(row[what] for row in self.status()["rows"])

    def records(self):
        """The records of runs that are done, by folder."""
        return {path: json.loads(path.read_text()) for path in self.place.glob("runs/*/*/run.json")
                if path.parent.name.isdigit()}

    def start(self, *before):
        return subprocess.Popen([*before, PROGRAM, "campaign", "run", str(self.file)], env=ENVIRONMENT,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def wait_until(self, holds, what):
        end = time.monotonic() + LIMIT_S
        while not holds():
            self.assertLess(time.monotonic(), end, what)
            time.sleep(0.05)

    def wait_for_runs(self, count):
        self.wait_until(lambda: len(self.records()) >= count, f"{count} runs never were done")

    def commands_left(self):
        """Processes that run something of this campaign."""
        found = []
        for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes()
            except OSError:
                continue
            if f"{self.place}/runs".encode() in words:
                found.append(words)
        return found


class RunTest(Case):
    def test_measures_every_point_as_often_as_asked(self):
        self.write(script="")
        said = self.campaign("run")
        self.assertIn("8 runs done now, 0 failed, 0 left", said)
        rows = self.rows()
        self.assertEqual([row["slug"] for row in rows],
                         ["optimizer=sgd,bucket-cap=1KiB", "optimizer=sgd,bucket-cap=1MiB",
                          "optimizer=adamw,bucket-cap=1KiB", "optimizer=adamw,bucket-cap=1MiB"])
        for row in rows:
            self.assertEqual(row["repeats"], [1, 2])
            self.assertEqual(row["mixed"], [])
            self.assertLessEqual(row["low"], row["median"])
        record = next(iter(self.records().values()))
        self.assertEqual(record["end"]["exit_code"], 0)
        self.assertEqual(record["conditions"]["environment"]["OMP_NUM_THREADS"], "1")
        self.assertEqual(len(record["conditions"]["program"]), 32)
        self.assertIn("0 runs done now", self.campaign("run"))
        self.campaign("collect", "--csv", self.folder / "rows.csv")
        with (self.folder / "rows.csv").open() as file:
            self.assertEqual([row["count"] for row in csv.DictReader(file)], ["2"] * 4)

    def test_makes_each_round_before_the_next(self):
        self.campaign("run")
        by_time = sorted(self.records(), key=lambda path: path.stat().st_mtime_ns)
        self.assertEqual([path.parent.name for path in by_time], ["1"] * 4 + ["2"] * 4)
        planned = self.isobar("campaign", "run", self.file, "--repeats", "3", "--dry-run")
        self.assertEqual(planned.count("repeat 3\n"), 4)
        self.assertNotIn("repeat 2\n", planned)

    def test_goes_on_after_it_was_killed(self):
        self.write(script="sleep 0.3")  # and then the program
        killed = self.start()
        self.wait_for_runs(2)
        killed.kill()
        killed.communicate()
        self.wait_until(lambda: not self.commands_left(), "the run went on without its campaign")
        before = {path: path.stat().st_mtime_ns for path in self.records()}
        self.campaign("run")
        after = self.records()
        self.assertEqual(len(after), 8)
        for path, changed in before.items():
            self.assertEqual(path.stat().st_mtime_ns, changed, "a run that was done was made again")
        names = {(record["run"]["slug"], record["run"]["repeat"]) for record in after.values()}
        self.assertEqual(len(names), 8)
        self.assertEqual([row["count"] for row in self.rows()], [2] * 4)
        self.assertEqual(self.total("done"), 8)
        self.assertLessEqual(self.total("interrupted"), 1)

    def test_leaves_no_rank_behind_where_it_was_killed(self):
        self.write(script="exec python3 -c 'import time; time.sleep(60)' \"$@\"")
        killed = self.start()
        self.wait_until(self.commands_left, "no run began")
        time.sleep(0.5)  # the script becomes the sleeper
        killed.kill()
        killed.communicate()
        time.sleep(5)
        self.assertEqual(self.commands_left(), [])

    def test_waits_for_ranks_that_are_still_ending(self):
        self.write(script="trap 'sleep 6; exit' TERM\nsleep 60 > /dev/null 2>&1 & wait")
        killed = self.start()
        self.wait_until(self.commands_left, "no run began")
        time.sleep(0.5)  # the script sets its trap
        killed.kill()
        killed.communicate()
        self.write()
        self.campaign("run")
        self.assertEqual(self.commands_left(), [])
        self.assertEqual((self.total("done"), self.total("interrupted")), (8, 1))

    def test_ends_the_ranks_where_it_is_interrupted(self):
        self.write(script="trap 'exit 0' TERM; sleep 600 & wait")
        for what in (signal.SIGINT, signal.SIGTERM):
            going = self.start()
            self.wait_until(self.commands_left, "no run began")
            self.wait_until(lambda: list(self.place.glob("runs/*/1/output.log")), "no run began")
            going.send_signal(what)
            said, _ = going.communicate(timeout=LIMIT_S)
            self.assertEqual(going.returncode, 1, said)
            self.assertIn("the same command goes on", said)
            self.assertEqual(self.commands_left(), [])
        self.write()
        self.campaign("run", "--mix")
        self.assertEqual(self.total("done"), 8)
        self.assertEqual(self.total("interrupted"), 2)

    def test_goes_on_under_nohup(self):
        self.write(script="sleep 0.5\n" + QUICK)
        going = self.start("nohup")
        self.wait_for_runs(1)
        going.send_signal(signal.SIGHUP)
        said, _ = going.communicate(timeout=LIMIT_S)
        self.assertIn("8 runs done now, 0 failed, 0 left", said)

    def test_lets_one_process_run_a_campaign(self):
        self.write(script="sleep 0.5\n" + QUICK)
        going = self.start()
        self.wait_for_runs(1)
        self.assertIn("another process runs the one in", self.campaign("run", code=2))
        going.terminate()
        going.communicate(timeout=LIMIT_S)

    def test_starts_several_ranks(self):
        self.file.write_text(
            f"campaign: {{name: small, folder: {self.folder}/campaigns}}\n"
            "run: {kind: step, options: {layers: 2, width: 16, batch: 4, repeats: 3, stream-seconds: 0}}\n"
            "axes: {nodes: [1, 2]}\nrules: {repeats: 1}\n")
        self.campaign("run")
        one, two = self.rows()
        self.assertEqual(one["efficiency"], 1)
        self.assertAlmostEqual(two["efficiency"], one["median"] / two["median"])
        self.assertEqual(two["base_nodes"], 1)


class FailureTest(Case):
    FAILS_ONCE = 'case "$*" in *optimizer=sgd*1KiB*) if mkdir "{0}" 2>/dev/null; then echo no luck; exit 7; fi;; esac'

    def test_sets_a_failed_run_aside_and_makes_it_again(self):
        self.write(script=self.FAILS_ONCE.format(self.folder / "failed") + "\n" + QUICK)
        said = self.campaign("run", code=1)
        self.assertIn("7 runs done now, 1 failed, 1 left", said)
        self.assertIn("optimizer=sgd,bucket-cap=1KiB repeat 1 failed: exit code 7: no luck", said)
        aside = self.place / "runs/optimizer=sgd,bucket-cap=1KiB/1.failed-1"
        self.assertEqual((aside / "output.log").read_text(), "no luck\n")
        self.assertEqual(json.loads((aside / "run.json").read_text())["end"]["exit_code"], 7)
        self.assertEqual([row["count"] for row in self.rows()], [1, 2, 2, 2])
        self.assertIn("1 runs done now, 0 failed, 0 left", self.campaign("run"))
        self.assertEqual((self.total("done"), self.total("failed")), (8, 1))

    def test_counts_a_run_without_a_result_as_failed(self):
        self.write(script="exit 0")
        self.assertIn("failed: it left no result", self.campaign("run", code=1))
        self.assertEqual((self.total("done"), self.total("failed")), (0, 8))

    def test_ends_a_run_that_takes_too_long(self):
        self.write(script='case "$*" in *adamw*) sleep 600;; esac\n' + QUICK, limit="0.02")
        said = self.campaign("run", code=1)
        self.assertIn("failed: it took longer than 1.2 s", said)
        self.assertEqual((self.total("done"), self.total("failed")), (4, 4))

    def test_says_that_a_launcher_is_not_there(self):
        self.write(script="", change=('command: ""', "command: no_such_launcher -n 1"))
        self.assertIn("'no_such_launcher' cannot be started: No such file", self.campaign("run", code=2))
        self.assertEqual(self.total("interrupted"), 0)


class ConditionsTest(Case):
    def test_refuses_another_environment_unless_told_to_mix(self):
        self.campaign("run", "--repeats", "1")
        said = self.campaign("run", code=2, OMP_NUM_THREADS="2")
        self.assertIn("4 runs were made under other conditions", said)
        self.assertIn("environment.OMP_NUM_THREADS: 1 and 2", said)
        self.assertEqual(len(said.splitlines()), 1)
        self.assertEqual(len(self.records()), 4)
        self.campaign("run", "--mix", OMP_NUM_THREADS="2")
        self.assertEqual(len(self.records()), 8)
        for row in self.rows():
            self.assertEqual(row["mixed"], ["environment.OMP_NUM_THREADS: 1 and 2"])
        self.assertIn("[1] not all runs were made alike: environment.OMP_NUM_THREADS: 1 and 2",
                      self.campaign("collect"))

    def test_does_not_look_at_what_changes_nothing(self):
        self.campaign("run", "--repeats", "1")
        self.campaign("run", EDITOR="ed", HOSTNAME_OF_LUNCH="x")

    def test_refuses_other_settings(self):
        self.campaign("run", "--repeats", "1")
        self.write(change=("width: 16", "width: 32"))
        self.assertIn("run.options.width: 16 and 32", self.campaign("run", code=2))

    def test_refuses_another_program(self):
        self.campaign("run", "--repeats", "1")
        for path, record in self.records().items():
            record["conditions"]["program"] = "0" * 32
            record["conditions"]["commit"] = "abc"
            path.write_text(json.dumps(record))
        said = self.campaign("run", code=2)
        self.assertIn("commit: abc and ", said)
        self.assertIn("program: 00000000 and ", said)

    def test_keeps_runs_of_points_that_are_still_there(self):
        self.campaign("run")
        before = set(self.records())
        self.write(change=("[1KiB, 1MiB]", "[1MiB, 2MiB]"))
        self.assertIn("4 runs done now", self.campaign("run"))
        self.assertTrue(before < set(self.records()))
        self.assertEqual(self.status()["stale"],
                         ["optimizer=adamw,bucket-cap=1KiB", "optimizer=sgd,bucket-cap=1KiB"])
        self.assertEqual([row["count"] for row in self.rows()], [2] * 4)

    def test_reads_the_folder_as_the_file(self):
        self.campaign("run")
        moved = self.folder / "elsewhere"
        self.place.rename(moved)
        self.assertEqual(self.isobar("campaign", "collect", moved), self.isobar("campaign", "collect", f"{moved}/"))
        self.assertIn("is none of a campaign", self.isobar("campaign", "status", self.folder, code=2))


class MistakeTest(Case):
    def test_ends_with_one_line_before_any_run(self):
        for change, says in {
                ("width: 16", "widht: 16"): "no option '--widht'; did you mean '--width'?",
                ("[sgd, adamw]", "[sgd, adam]"): "--optimizer: adam not in {sgd,adamw}",
                ("optimizer:", "optimiser:"): "did you mean '--optimizer'?",
                ("kind: step", "kind: steps"): "did you mean 'step'?",
                ("repeats: 2,", "repets: 2,"): "did you mean 'repeats'?"}.items():
            self.write(change=change)
            said = self.campaign("run", code=2)
            self.assertIn(says, said)
            self.assertEqual(len(said.splitlines()), 1, said)
            self.assertFalse(self.place.exists())

    def test_names_the_values_that_runs_have(self):
        self.campaign("run", "--repeats", "1")
        self.write(change=("launch:", "measure: {value: step_m}\nlaunch:"))
        self.assertIn("runs have no 'step_m'; did you mean 'step_s'?", self.campaign("collect", code=2))

    def test_leaves_out_a_run_that_measured_no_number(self):
        self.campaign("run")
        slug = "optimizer=sgd,bucket-cap=1KiB"
        (self.place / "runs" / slug / "2" / "result.json").write_text('{"rows": [{"step_s": null}]}')
        self.assertIn(f"isobar: 1 left out, whose step_s is null: {slug} repeat 2\n", self.campaign("collect"))
        self.assertEqual([row["repeats"] for row in self.rows()], [[1], [1, 2], [1, 2], [1, 2]])

    def test_says_that_nothing_is_done(self):
        self.assertIn("no run of campaign small is done", self.campaign("collect", code=2))


class ExamplesTest(Case):
    def test_are_campaigns_of_this_program(self):
        files = sorted(EXAMPLES.glob("*.yaml"))
        self.assertEqual(len(files), 7)
        for file in files:
            own = self.folder / file.name  # what somebody has made of it beside the sources does not count
            own.write_text(file.read_text().replace("campaign: {", f"campaign: {{folder: {self.folder}, "))
            said = self.isobar("campaign", "run", own, "--dry-run")
            self.assertIn("scripts/testbed/run --nodes ", said)
            self.assertIn("Leonardo", file.read_text())


class TrainTest(Case):
    def test_measures_training_runs(self):
        self.file.write_text(f"""
campaign: {{name: small, folder: {self.folder}/campaigns}}
run:
  kind: train
  experiment: examples/experiments/quickstart.yaml
  options: {{train.steps: 6, train.validate_every: 6, optimizer.warmup_steps: 1, train.refit: false,
            train.log_every: 2, data.validation.begin: 2019-03-24, data.train.end: 2019-03-24}}
axes: {{ddp.bucket_cap_bytes: [1MiB, 25MiB]}}
rules: {{repeats: 1}}
""")
        self.campaign("run")
        self.assertEqual([row["count"] for row in self.rows()], [1, 1])
        record = next(iter(self.records().values()))
        self.assertEqual(list(record["conditions"]["data"]), ["examples/data/era5_t2m_uk_2019-03.nc"])


class CompareTest(Case):
    def report(self, name, **changes):
        rows = [STEP | {"width": 1} | changes, STEP | {"width": 2}]
        path = self.folder / name
        path.write_text(json.dumps({"schema": "isobar.bench.step.1", "commit": "c", "rows": rows}))
        return path

    def compare(self, *words, code=0):
        said = self.isobar("compare", *words, "--json", self.folder / "compared.json", code=code)
        if "isobar: error" not in said:
            self.compared = json.loads((self.folder / "compared.json").read_text())["rows"]
        return said

    def times(self, value):
        return {"step_s": value, "step_low_s": 0.99 * value, "step_high_s": 1.01 * value}

    def test_judges_by_interval_and_tolerance(self):
        a = self.report("a.json", **self.times(0.1))
        for value, verdict, code in ((0.1, "same", 0), (0.11, "slower", 1), (0.09, "faster", 0), (0.1015, "same", 0)):
            said = self.compare(a, self.report("b.json", **self.times(value)), code=code)
            self.assertEqual([row["verdict"] for row in self.compared], [verdict, "same"], value)
            self.assertRegex(said, f"width=1 .* {verdict}\n")

    def test_takes_noise_for_noise(self):
        a = self.report("a.json", step_s=0.1, step_low_s=0.08, step_high_s=0.12)
        b = self.report("b.json", step_s=0.11, step_low_s=0.09, step_high_s=0.13)
        self.compare(a, b)
        self.assertEqual(self.compared[0]["verdict"], "same")

    def test_has_a_tolerance_of_the_users(self):
        a = self.report("a.json", **self.times(0.1))
        b = self.report("b.json", **self.times(0.11))
        self.compare(a, b, "--tolerance", "15")
        self.assertIn("must be a number of 0 or more", self.compare(a, b, "--tolerance", "-1", code=2))

    def test_says_why_nothing_can_be_compared(self):
        a = self.report("a.json")
        other = self.folder / "other.json"
        for row, says in ((STEP | {"ranks": 4, "width": 1}, "ranks 2 and 4"), ({}, "step_s")):
            other.write_text(json.dumps({"schema": "isobar.bench.step.1", "rows": [row]}))
            self.assertIn(says, self.compare(a, other, code=2 if row else 1))
        other.write_text(json.dumps({"schema": "isobar.plan.1", "rows": [{}]}))
        self.assertIn("its schema is 'isobar.plan.1'", self.compare(a, other, code=2))
        self.assertIn("there is no", self.compare(a, self.folder / "none", code=2))

    def test_compares_campaigns(self):
        self.write(script="")
        self.campaign("run", "--repeats", "1")
        self.compare(self.place, self.place)
        self.assertEqual({row["verdict"] for row in self.compared}, {"same"})
        self.assertEqual(len(self.compared), 4)
        slower = self.folder / "slower.json"
        self.campaign("collect", "--json", slower)
        report = json.loads(slower.read_text())
        for row in report["rows"]:
            row["samples"] = [2 * sample for sample in row["samples"]]
        slower.write_text(json.dumps(report))
        self.compare(self.place, slower, code=1)
        self.assertEqual({row["verdict"] for row in self.compared}, {"slower"})
        self.compare(slower, self.place)
        self.assertEqual({row["verdict"] for row in self.compared}, {"faster"})


if __name__ == "__main__":
    unittest.main(verbosity=2)
