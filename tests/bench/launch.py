# SPDX-License-Identifier: Apache-2.0
"""How tests start the programs of bench/ on ranks of this machine."""
import os
import socket
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from mpi_launch import mpirun, run  # noqa: E402, F401

PROGRAMS = Path(os.environ["ISOBAR_PROGRAMS"])


def free_port():
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return door.getsockname()[1]
