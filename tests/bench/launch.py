# SPDX-License-Identifier: Apache-2.0
"""How tests start the programs of bench/ on ranks of this machine."""
import os
import socket
import subprocess
from pathlib import Path

PROGRAMS = Path(os.environ["ISOBAR_PROGRAMS"])
LIMIT_S = 60
ENVIRONMENT = dict(
    os.environ,
    OMP_NUM_THREADS="1",
    OMPI_ALLOW_RUN_AS_ROOT="1",
    OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
    OMPI_MCA_hwloc_base_binding_policy="none",
    OMPI_MCA_rmaps_base_oversubscribe="1",
    OMPI_MCA_btl_vader_single_copy_mechanism="none",
)


def mpirun(ranks):
    return ["mpirun", "-n", str(ranks)]


def run(command, **variables):
    return subprocess.run([str(word) for word in command], env=ENVIRONMENT | variables, capture_output=True, text=True,
                          timeout=LIMIT_S, check=False)


def free_port():
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return door.getsockname()[1]
