# SPDX-License-Identifier: Apache-2.0
"""How tests start the programs of bench/ on ranks of this machine."""
import os
import random
import socket
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from mpi_launch import mpirun, run  # noqa: E402, F401

PROGRAMS = Path(os.environ["ISOBAR_PROGRAMS"])


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
