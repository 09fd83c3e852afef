# SPDX-License-Identifier: Apache-2.0
"""How tests start the programs of bench/ on ranks of this machine."""
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from mpi_launch import free_port, mpirun, run  # noqa: E402, F401

PROGRAMS = Path(os.environ["ISOBAR_PROGRAMS"])
