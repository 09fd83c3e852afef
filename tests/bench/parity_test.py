# SPDX-License-Identifier: Apache-2.0
"""isobar's gradients against those of PyTorch's DistributedDataParallel: the same network, weights and data by one rule
that both programs have, two ranks over Gloo.

Run from the repository's root with ISOBAR_PROGRAMS set to the programs' folder; ctest does. Ends with 77 where there is
no PyTorch for Python.
"""
import sys
import tempfile
from pathlib import Path

from launch import PROGRAMS, free_port, mpirun, run

sys.dont_write_bytecode = True
sys.path.insert(0, "bench/baselines")
import python_torch

SKIPPED = 77
TOLERANCE = 1e-6  # of the largest value of each tensor
NETWORK = ["--layers", "4", "--width", "96", "--batch", "24", "--seed", "7", "--repeats", "1"]


def start(*command):
    result = run([*mpirun(2), *command, *NETWORK], MASTER_ADDR="127.0.0.1", MASTER_PORT=str(free_port()))
    if result.returncode:
        sys.exit(f"{command[0]}: exit code {result.returncode}: {result.stderr}")


def compare(ours, theirs):
    """Lines that say what is not alike."""
    if set(ours) != set(theirs):
        return [f"parameters {sorted(set(ours) ^ set(theirs))} are in one of the two only"]
    problems = []
    for name, wanted in theirs.items():
        largest = abs(wanted).max()
        off = abs(ours[name].astype("f8") - wanted.astype("f8")).max() / largest if largest else float("inf")
        print(f"{name:<16} largest {largest:.3e}, off by {off:.1e} of it")
        if not off <= TOLERANCE:
            problems.append(f"{name} is off by {off:.2e} of its largest value {largest:.2e}")
    return problems


def main():
    try:
        python_torch.prepare()
    except python_torch.NoTorch as problem:
        print(f"skipped: {problem}")
        return SKIPPED
    import numpy
    from safetensors_file import read_safetensors
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "ours.safetensors", Path(folder) / "theirs.npz"
        start(PROGRAMS / "isobar", "bench", "step", "--backend", "gloo", "--stream-seconds", "0", "--bucket-cap", "64KiB",
              "--dump-gradients", ours)
        start("bench/baselines/torch_ddp.py", "--dump-gradients", theirs)
        problems = compare(read_safetensors(ours), dict(numpy.load(theirs)))
    print("\n".join(problems) or "alike")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
