# SPDX-License-Identifier: Apache-2.0
"""Every script that isobar writes for a machine, before a Slurm that has that machine's shape.

A controller alone, without daemons on nodes: they are of the kind that is started when a job wants it
(State=CLOUD), so that it plans with thousands. It has the machine's partitions with their limits on nodes and time,
its GPUs, and answers `sbatch --test-only`, which reads a script's options like any submission.

Limits that a QoS sets are left to the partition, since Slurm knows no QoS without a database: it then takes any name.
Options of a site's own plugins (--uenv) are left out, since sbatch knows them where the plugin is alone.

  sbatch_test.py SCRIPTS    the folder that golden_test wrote: one folder a machine
Needs root, slurmctld and munged; skips (77) without.
"""
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest

LIMIT_S = 20
SITE_OPTIONS = ("--uenv",)
RESERVATION = "hero"  # in files whose name holds the next
RESERVED = "-reservation"

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={munge}/socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
EnforcePartLimits=ALL
GresTypes=gpu
SuspendProgram=/bin/true
ResumeProgram=/bin/true
SuspendTime=600
NodeName={nodes} Sockets=1 CoresPerSocket={cores} ThreadsPerCore={threads} RealMemory=400000 Gres=gpu:{gpus} State=CLOUD
"""


def wait_for(what, holds):
    end = time.monotonic() + LIMIT_S
    while not holds():
        if time.monotonic() > end:
            raise AssertionError(f"no {what} in {LIMIT_S} s")
        time.sleep(0.05)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def limit(values, unlimited):
    """The largest of a partition's queues; 0 among them is none that is known."""
    return unlimited if 0 in values else max(values)


def partitions(queues):
    """The lines of slurm.conf. Where a QoS chooses the partition, the default one takes it."""
    lines = []
    for name in dict.fromkeys(queue["partition"] for queue in queues):
        own = [queue for queue in queues if queue["partition"] == name]
        nodes = limit([queue["most_nodes"] for queue in own], "UNLIMITED")
        minutes = limit([queue["most_minutes"] for queue in own], "UNLIMITED")
        default = "NO" if name else "YES"
        lines.append(f"PartitionName={name or 'any'} Nodes=ALL Default={default} MaxNodes={nodes} MaxTime={minutes}")
    return "\n".join(lines) + "\n"


class Munge:
    """Slurm's commands prove by it who they are."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()
        key = folder / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        self.process = subprocess.Popen(
            ["munged", "--foreground", "--force", f"--socket={folder}/socket", f"--key-file={key}",
             f"--pid-file={folder}/pid", f"--log-file={folder}/log", f"--seed-file={folder}/seed"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for("munged", (folder / "socket").exists)

    def stop(self):
        self.process.terminate()
        self.process.wait(LIMIT_S)


class Controller:
    """A slurmctld of a machine's shape."""

    def __init__(self, folder, munge, machine):
        folder.mkdir()
        (folder / "state").mkdir()
        self.nodes = machine["nodes"] or 1000
        names = f"n[1-{self.nodes}]"
        text = CONFIGURATION.format(
            host=socket.gethostname().split(".")[0], port=free_port(), munge=munge.folder, folder=folder, nodes=names,
            cores=machine["cores"], threads=machine["threads_per_core"], gpus=machine["gpus"])
        (folder / "slurm.conf").write_text(text + partitions(machine["queues"]))
        (folder / "gres.conf").write_text(f"NodeName={names} Name=gpu Count={machine['gpus']}\n")
        self.environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
        with open(folder / "log", "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(["slurmctld", "-D"], env=self.environment, stdout=log, stderr=log)
        try:
            wait_for("slurmctld", lambda: self.call("scontrol", "ping").returncode == 0)
        except AssertionError as error:
            self.stop()
            raise AssertionError(f"{error}: {(folder / 'log').read_text()[-500:]}") from None

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.stop()

    def call(self, *command):
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=LIMIT_S,
                              check=False)

    def sbatch(self, script, *options):
        return self.call("sbatch", "--test-only", *options, str(script))

    def reserve(self):
        """What a site gives with a reservation: nodes beyond the partitions' limits."""
        for line in self.call("scontrol", "--oneliner", "show", "partition").stdout.splitlines():
            name = re.match(r"PartitionName=(\S+)", line)[1]
            self.call("scontrol", "update", f"PartitionName={name}", "MaxNodes=UNLIMITED")
        return self.call("scontrol", "create", "reservation", f"ReservationName={RESERVATION}", "StartTime=now",
                         "Duration=30-00:00:00", "Users=root", "Nodes=ALL", "Flags=IGNORE_JOBS")

    def stop(self):
        self.process.terminate()
        self.process.wait(LIMIT_S)


def without_site_options(script, folder):
    left_out = tuple(f"#SBATCH {option}" for option in SITE_OPTIONS)
    lines = script.read_text().splitlines(keepends=True)
    copy = folder / script.name
    copy.write_text("".join(line for line in lines if not line.startswith(left_out)))
    return copy


def wanted(script):
    """The options of a script, by name."""
    return dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", script.read_text(), re.MULTILINE))


class SbatchTest(unittest.TestCase):
    scripts = pathlib.Path()

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = pathlib.Path(folder.name)
        cls.munge = Munge(cls.folder / "munge")
        cls.addClassCleanup(cls.munge.stop)

    def of(self, name, file):
        return self.scripts / name / file

    def takes(self, controller, script):
        """Slurm takes the script, on as many nodes as it asks for and in its partition."""
        done = controller.sbatch(without_site_options(script, self.folder))
        self.assertEqual(done.returncode, 0, f"{script}: {done.stderr}")
        said = re.search(r"to start at .* processors on nodes (\S+) in partition (\S+)", done.stderr)
        self.assertIsNotNone(said, done.stderr)
        hosts = controller.call("scontrol", "show", "hostnames", said[1]).stdout.split()
        options = wanted(script)
        self.assertEqual(len(hosts), int(options["nodes"]))
        self.assertEqual(said[2], options.get("partition", "any"))

    def refuses_more(self, controller, name, machine):
        """The test's Slurm has the machine's limits: a script of one node is refused with one minute too many."""
        script = without_site_options(self.of(name, "1.sh"), self.folder)
        partition = wanted(script).get("partition", "")
        own = [queue for queue in machine["queues"] if queue["partition"] == partition]
        for key, option in (("most_nodes", "--nodes"), ("most_minutes", "--time")):
            most = limit([queue[key] for queue in own], 0)
            if most:
                self.assertNotEqual(controller.sbatch(script, f"{option}={most + 1}").returncode, 0, f"{name} {key}")

    def check(self, name):
        machine = json.loads(self.of(name, "machine.json").read_text())
        scripts = sorted(self.of(name, "").glob("*.sh"))
        self.assertTrue(scripts)
        reserved = [script for script in scripts if RESERVED in script.name]
        with Controller(self.folder / name, self.munge, machine) as controller:
            for script in scripts:
                if script not in reserved:
                    self.takes(controller, script)
            self.refuses_more(controller, name, machine)
            done = controller.reserve()
            self.assertEqual(done.returncode, 0, done.stderr)
            for script in reserved:
                self.takes(controller, script)

    def test_slurm_takes_every_script(self):
        machines = sorted(path.name for path in self.scripts.iterdir())
        self.assertGreater(len(machines), 5)
        for name in machines:
            with self.subTest(machine=name):
                self.check(name)


def why_skip():
    if os.geteuid() != 0:
        return "it needs root, for munged and slurmctld"
    missing = [tool for tool in ("sbatch", "scontrol", "slurmctld", "munged") if not shutil.which(tool)]
    return f"it needs {', '.join(missing)}" if missing else ""


if __name__ == "__main__":
    if reason := why_skip():
        print(f"skipped: {reason}")
        sys.exit(77)
    SbatchTest.scripts = pathlib.Path(sys.argv.pop(1))
    unittest.main()
