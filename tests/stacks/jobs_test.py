# SPDX-License-Identifier: Apache-2.0
"""Jobs for HTCondor and Kubernetes: their files fit the systems and each other, and the wrapper starts its ranks.

Neither system is here. Where HTCondor's or Kubernetes' Python packages are, they check the files too.
"""
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

import stack_files
from mpi_launch import ENVIRONMENT
from stack_files import ROOT

try:
    import yaml
except ImportError:
    yaml = None

try:
    import kubernetes_validate
except ImportError:
    kubernetes_validate = None

try:
    import htcondor2
except ImportError:
    htcondor2 = None

CONDOR = ROOT / "examples/htcondor"
MPIJOB = ROOT / "examples/kubernetes/mpijob.yaml"

# An MPIJob of kubeflow.org/v2beta1: by field its type, its values or its fields. A key with a star has to be there.
POD = {"metadata": dict, "*spec": dict}
REPLICAS = {"*replicas": int, "restartPolicy": {"Always", "OnFailure", "Never", "ExitCode"}, "*template": POD}
SCHEMA = {
    "*apiVersion": {"kubeflow.org/v2beta1"},
    "*kind": {"MPIJob"},
    "*metadata": {"*name": str, "namespace": str, "labels": dict, "annotations": dict},
    "*spec": {
        "slotsPerWorker": int,
        "runLauncherAsWorker": bool,
        "sshAuthMountPath": str,
        "launcherCreationPolicy": {"AtStartup", "WaitForWorkersReady"},
        "mpiImplementation": {"OpenMPI", "Intel", "MPICH"},
        "runPolicy": {
            "cleanPodPolicy": {"All", "Running", "None"},
            "ttlSecondsAfterFinished": int,
            "activeDeadlineSeconds": int,
            "backoffLimit": int,
            "suspend": bool,
            "managedBy": str,
            "schedulingPolicy": dict,
        },
        "*mpiReplicaSpecs": {"*Launcher": REPLICAS, "*Worker": REPLICAS},
    },
}


def misfits(value, schema, where="job"):
    """Lines that say where a value is not of a schema."""
    if isinstance(schema, set):
        if value not in schema:
            yield f"{where}: got {value!r}, wanted one of {sorted(schema)}"
    elif isinstance(schema, type):
        if type(value) is not schema:
            yield f"{where}: got {value!r}, wanted {schema.__name__}"
    elif not isinstance(value, dict):
        yield f"{where}: got {value!r}, wanted fields"
    else:
        fields = {name.lstrip("*"): inner for name, inner in schema.items()}
        for name in value:
            yield from misfits(value[name], fields[name], f"{where}.{name}") if name in fields else [
                f"{where}: there is no field {name}"]
        for name in schema:
            if name.startswith("*") and name[1:] not in value:
                yield f"{where}: the field {name[1:]} is missing"


@unittest.skipUnless(yaml, "no PyYAML here; scripts/setup --anemoi gets it")
class Kubernetes(unittest.TestCase):
    def setUp(self):
        self.job = yaml.safe_load(MPIJOB.read_text(encoding="utf-8"))
        self.replicas = self.job["spec"]["mpiReplicaSpecs"]

    def container(self, replica):
        return self.replicas[replica]["template"]["spec"]["containers"][0]

    def test_fits_the_operators_schema(self):
        self.assertEqual(list(misfits(self.job, SCHEMA)), [])

    def test_is_held_to_a_schema_that_finds_faults(self):
        self.job["spec"]["slotsPerWorker"] = "4"
        self.job["spec"]["mpiImplementation"] = "openmpi"
        self.job["spec"]["cleanPodPolicy"] = "Running"
        del self.replicas["Worker"]
        where = ["job.spec.slotsPerWorker", "job.spec.mpiImplementation", "job.spec.mpiReplicaSpecs", "job.spec"]
        self.assertEqual([line.split(":")[0] for line in misfits(self.job, SCHEMA)], where)

    @unittest.skipUnless(kubernetes_validate, "no kubernetes-validate here")
    def test_has_pods_that_kubernetes_takes(self):
        for name, replica in self.replicas.items():
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name.lower()}}
            pod["spec"] = replica["template"]["spec"]
            kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)

    def test_starts_a_rank_for_each_gpu(self):
        slots = self.job["spec"]["slotsPerWorker"]
        self.assertEqual(self.container("Worker")["resources"]["limits"]["nvidia.com/gpu"], str(slots))
        words = self.container("Launcher")["command"] + self.container("Launcher")["args"]
        self.assertEqual(words[0], "mpirun")
        self.assertEqual(words[words.index("-n") + 1], str(slots * self.replicas["Worker"]["replicas"]))

    def test_mounts_volumes_that_its_pods_have(self):
        for name, replica in self.replicas.items():
            pod = replica["template"]["spec"]
            mounted = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
            self.assertEqual(mounted, {volume["name"] for volume in pod["volumes"]}, name)

    def test_fits_its_image(self):
        image = stack_files.text("examples/kubernetes/Containerfile")
        port = re.search(r"'Port (\d+)' 'HostKey", image)[1]
        self.assertIn(f"'  Port {port}'", image)
        worker = self.container("Worker")
        self.assertEqual(worker["readinessProbe"]["tcpSocket"]["port"], int(port))
        self.assertIn(f"HostKey {self.job['spec']['sshAuthMountPath']}/id_rsa", image)
        for replica in self.replicas:
            self.assertTrue(self.container(replica)["image"].endswith(f"isobar:{stack_files.version()}"))


def submit_commands():
    """The commands of the submit file, by name."""
    lines = (CONDOR / "isobar.sub").read_text(encoding="utf-8").splitlines()
    return dict(re.split(r"\s*=\s*", line, maxsplit=1) for line in lines if "=" in line and not line.startswith("#"))


# What the first machine of a job finds: a sandbox with a list of machines, and a way to start programs on them.
FAKE = {
    "condor_config_val": 'test "$1" = LIBEXEC && echo "$FAKE/libexec"',
    "libexec/sshd.sh": """
        sshd_cleanup() { echo cleaned >>"$FAKE/cleaned"; }
        false   # as the real one's commands may fail
        : $UNSET_HERE
        cp "$FAKE/machines" "$_CONDOR_SCRATCH_DIR/contact"
    """,
    "libexec/condor_ssh": """
        while [[ $1 == -* ]]; do shift; done
        echo "$1" >>"$FAKE/reached"
        # Machines have a /tmp each; in one, Open MPI's daemons make the same folders at the same time.
        export OMPI_MCA_orte_tmpdir_base=$FAKE/${1%%.*}
        mkdir -p "$OMPI_MCA_orte_tmpdir_base"
        shift
        exec bash -c "$*"
    """,
}


class Htcondor(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="isobar-condor-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        (self.folder / "libexec").mkdir()
        for name, text in FAKE.items():
            (self.folder / name).write_text("#!/usr/bin/env bash\n" + text + "\n", encoding="utf-8")
            (self.folder / name).chmod(0o755)

    def start(self, machines, *command, node=0, ranks=2):
        """The wrapper on machine `node` of a job, to which `machines` have answered, in this order."""
        lines = [f"{number} {name} 4444 user / 1" for number, name in machines]
        (self.folder / "machines").write_text("\n".join(lines) + "\n", encoding="utf-8")
        environment = ENVIRONMENT | {
            "PATH": f"{self.folder}:{os.environ['PATH']}", "FAKE": str(self.folder), "_CONDOR_PROCNO": str(node),
            "_CONDOR_NPROCS": "2", "_CONDOR_SCRATCH_DIR": str(self.folder), "OMPI_MCA_btl": "self,tcp",
            "OMPI_MCA_btl_tcp_if_include": "lo", "OMPI_MCA_oob_tcp_if_include": "lo"}
        return subprocess.run([CONDOR / "isobar_ranks.sh", str(ranks), *command], env=environment, capture_output=True,
                              text=True, timeout=60, check=False)

    def read(self, name):
        path = self.folder / name
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def test_submit_file_names_the_wrapper_and_a_rank_for_each_gpu(self):
        commands = submit_commands()
        self.assertEqual(commands["universe"], "parallel")
        self.assertTrue(os.access(ROOT / commands["executable"], os.X_OK))
        self.assertEqual(commands["arguments"].strip('"').split()[0], commands["request_gpus"])
        for name in re.findall(r"\$\((\w+)\)", " ".join(commands.values())):
            self.assertIn(name, set(commands) | {"Cluster", "Node"})

    @unittest.skipUnless(htcondor2, "no HTCondor here (htcondor2)")
    def test_submit_file_is_read_by_htcondor(self):
        submit = htcondor2.Submit((CONDOR / "isobar.sub").read_text(encoding="utf-8"))
        self.assertEqual(submit["machine_count"], "2")
        self.assertTrue(submit.expand("arguments").startswith('"4 /'))

    @unittest.skipUnless(shutil.which("condor_submit"), "no HTCondor here (condor_submit)")
    def test_submit_file_passes_a_dry_run(self):
        done = subprocess.run(["condor_submit", "-dry-run", "-", CONDOR / "isobar.sub"], cwd=ROOT, capture_output=True,
                              text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)

    @unittest.skipUnless(shutil.which("shellcheck"), "no shellcheck here")
    def test_wrapper_has_nothing_that_shellcheck_finds(self):
        done = subprocess.run(["shellcheck", CONDOR / "isobar_ranks.sh"], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stdout)

    @unittest.skipUnless(shutil.which("mpirun"), "no mpirun here")
    def test_wrapper_starts_the_ranks_on_both_machines(self):
        said = "echo rank $OMPI_COMM_WORLD_RANK of $OMPI_COMM_WORLD_SIZE, $OMPI_COMM_WORLD_LOCAL_SIZE here"
        done = self.start([(1, "second.invalid"), (0, "first.invalid")], "bash", "-c", said)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(sorted(done.stdout.splitlines()), [f"rank {rank} of 4, 2 here" for rank in range(4)])
        self.assertEqual(self.read("hosts"), ["first.invalid slots=2", "second.invalid slots=2"])
        self.assertEqual(sorted(self.read("reached")), ["first.invalid", "second.invalid"])
        self.assertEqual(self.read("cleaned"), ["cleaned"])

    @unittest.skipUnless(shutil.which("mpirun"), "no mpirun here")
    def test_wrapper_ends_as_its_ranks_do(self):
        done = self.start([(0, "first.invalid"), (1, "second.invalid")], "bash", "-c", "exit 3")
        self.assertEqual(done.returncode, 3, done.stderr)
        self.assertEqual(self.read("cleaned"), ["cleaned"])

    def test_wrapper_says_which_machines_are_missing(self):
        done = self.start([(0, "first.invalid")], "true")
        self.assertEqual(done.returncode, 1)
        self.assertIn("1 of 2 machines have answered", done.stderr)

    def test_wrapper_only_waits_on_the_other_machines(self):
        done = self.start([], "bash", "-c", "echo started", node=1)
        self.assertEqual((done.returncode, done.stdout), (0, ""))
        self.assertEqual(self.read("cleaned"), ["cleaned"])


if __name__ == "__main__":
    unittest.main()
