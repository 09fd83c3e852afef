# SPDX-License-Identifier: Apache-2.0
"""How tests start programs, on one rank or on several of this machine."""
import os
import random
import socket
import subprocess

LIMIT_S = 180  # on a busy machine; nothing takes a tenth of it on one that is not
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


def run(command, limit=LIMIT_S, cwd=None, **variables):
    """The finished process, with its output as text; `variables` are of the environment."""
    return subprocess.run([str(word) for word in command], env=ENVIRONMENT | variables, capture_output=True, text=True,
                          timeout=limit, cwd=cwd, check=False)


def free_port():
    """Below those that systems hand out, of which one may be taken before it is used."""
    while True:
        port = random.randrange(10000, 20000)
        with socket.socket() as door:
            try:
                door.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
