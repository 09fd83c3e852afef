# SPDX-License-Identifier: Apache-2.0
"""Slurm on the nodes: a controller and munge on n1, a daemon on each."""
import os
import stat

from . import processes
from .common import Failure, checked

TOOLS = {"slurmctld": "slurm-wlm", "slurmd": "slurm-wlm", "srun": "slurm-wlm", "munged": "munge"}

MEMORY_MB = 16000

# proctrack and task do without control groups of their own; TmpFS keeps the nodes' PMIx servers apart, which
# share a file system here.
CONFIGURATION = """\
ClusterName={cluster}
SlurmctldHost=n1
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
TmpFS={folder}/tmp.%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SlurmdParameters=config_overrides
MpiDefault=pmix
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=1,batch_sched_delay=0
KillWait=5
{gpus}
NodeName={nodes} CPUs={cpus} RealMemory={memory}{gres} State=UNKNOWN
PartitionName={partition} Nodes={nodes} Default=YES MaxTime=INFINITE OverSubscribe=YES State=UP
"""


def export(testbed):
    """The lines of `enter` that let Slurm's commands find their configuration."""
    return f"export SLURM_CONF='{testbed.folder}/slurm/slurm.conf'\n"


def write_configuration(testbed):
    shape = testbed.shape
    folder = testbed.folder / "slurm"
    nodes = f"n[1-{shape.nodes}]"
    for part in ("munge", "state", *(f"{kind}.{node}" for kind in ("spool", "tmp") for node in testbed.node_names())):
        (folder / part).mkdir(parents=True)
    (folder / "slurm.conf").write_text(CONFIGURATION.format(
        cluster=shape.cluster, folder=folder, nodes=nodes, partition=shape.partition, cpus=shape.slurm_cpus,
        memory=MEMORY_MB,
        gpus="GresTypes=gpu" if shape.gpus else "", gres=f" Gres=gpu:{shape.gpus}" if shape.gpus else ""))
    if shape.gpus:
        write_gpus(folder, nodes, shape.gpus)


def write_gpus(folder, nodes, count):
    """GPUs that Slurm can hand out: device files like /dev/null."""
    for gpu in range(count):
        os.mknod(folder / f"nvidia{gpu}", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    files = f"{folder}/nvidia[0-{count - 1}]" if count > 1 else f"{folder}/nvidia0"
    (folder / "gres.conf").write_text(f"AutoDetect=off\nNodeName={nodes} Name=gpu File={files}\n")


def start_munge(testbed):
    munge = testbed.folder / "slurm" / "munge"
    key = munge / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    socket = munge / "socket"
    testbed.start("munged", testbed.inside("n1", [
        "munged", "--foreground", "--force", f"--socket={socket}", f"--key-file={key}", f"--pid-file={munge}/pid",
        f"--log-file={munge}/log", f"--seed-file={munge}/seed"]))
    processes.wait_for("munged's socket", socket.exists)


def ask(testbed, command):
    """What one of Slurm's commands answers; nothing where it fails."""
    try:
        return checked(testbed.inside("n1", command), "Slurm").strip()
    except Failure:
        return ""


def idle_nodes(testbed):
    states = ask(testbed, ["sinfo", "--noheader", "--Node", "--format=%N %t"]).splitlines()
    return sum(state.split()[1] == "idle" for state in states)


def build(testbed):
    write_configuration(testbed)
    start_munge(testbed)
    testbed.start("slurmctld", testbed.inside("n1", ["slurmctld", "-D"]))
    for node in testbed.node_names():
        testbed.start(f"slurmd.{node}", testbed.inside(node, ["slurmd", "-D", "-N", node]))
    try:
        processes.wait_for("Slurm's nodes", lambda: idle_nodes(testbed) == testbed.shape.nodes, limit_s=20)
    except Failure as failure:
        raise Failure(f"{failure}; {last_error(testbed)}") from None


def last_error(testbed):
    """The last line in which one of the daemons spoke of an error."""
    lines = [line for log in testbed.log.iterdir() for line in log.read_text(errors="replace").splitlines()]
    errors = [line for line in lines if "error" in line.lower() or "fatal" in line.lower()]
    return errors[-1] if errors else "its daemons name no error"
