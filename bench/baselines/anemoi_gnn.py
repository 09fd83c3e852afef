#!/usr/bin/env python3.11
# SPDX-License-Identifier: Apache-2.0
"""The unmodified anemoi-models GNN on the work of `isobar bench step --model gnn --sync none`.

    bench/baselines/anemoi_gnn.py --graph graph.h5 --channels 128 --layers 8 --prognostic 10 --forcing 2 --threads 2
    bench/baselines/anemoi_gnn.py --graph graph.h5 --recompute --json -

The graph comes from the group `graph` of an HDF5 file, which `isobar bench step --dump-graph` writes. Weights and data
are isobar's, by the same rule. A step is zero_grad, forward, backward and AdamW; times are of one process. The order
is: steps whose memory is taken, timed steps, a check of the gradients at the first weights.
"""
import argparse
import json
import os
import socket
import statistics
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]
import anemoi_model
import python_torch

try:
    anemoi_model.prepare()
except python_torch.NoTorch as problem:
    sys.exit(f"anemoi_gnn: error: {problem}")

import h5py
import numpy
import torch
from anemoi_work import AnemoiWork
from comparison import interval
from resident_memory import added_bytes
from safetensors_file import read_safetensors

PARTS = ("zero_grad_s", "forward_s", "backward_s", "optimizer_s", "step_s")
TOLERANCE = 1e-4  # of the largest gradient of each tensor; float32 leaves a tenth of that between two programs


class Training:
    """The network, its optimizer, and the times of its steps."""

    def __init__(self, arguments, work):
        self.arguments = arguments
        self.work = work
        self.network = work.network(arguments.saving)
        self.optimizer = make_optimizer(arguments, self.network.parameters())
        self.losses = []

    def step(self):
        """Seconds of each part."""
        clock = time.perf_counter
        times = [clock()]
        self.optimizer.zero_grad()
        times.append(clock())
        loss = self.work.loss(self.network)
        times.append(clock())
        loss.backward()
        times.append(clock())
        self.optimizer.step()
        times.append(clock())
        self.losses.append(loss.item())
        return [*(end - begin for begin, end in zip(times, times[1:])), times[-1] - times[0]]

    def first_steps(self):
        return [self.step() for _ in range(self.arguments.warmup)]

    def later_step(self):
        """Without the gradients of the step before, so that these count as added."""
        self.optimizer.zero_grad()
        return added_bytes(self.step)[:2]


def make_optimizer(arguments, parameters):
    if arguments.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=arguments.learning_rate, fused=True)
    return torch.optim.AdamW(parameters, lr=arguments.learning_rate, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.01,
                             fused=True)


def measure(arguments, training):
    """Fields of a row that measuring gives."""
    before, added, first = added_bytes(training.first_steps)
    later_before, later_added = training.later_step()
    fastest = min(times[-1] for times in first)
    repeats = arguments.repeats or min(max(int(1 / fastest) + 1, 10), 1000)
    begin, cpu = time.perf_counter(), time.process_time()
    steps = [training.step() for _ in range(repeats)]
    cores = (time.process_time() - cpu) / (time.perf_counter() - begin)
    low, median, high = interval([times[-1] for times in steps])
    parts = {part: statistics.median(values) for part, values in zip(PARTS, zip(*steps))}
    whole = [times[-1] for times in steps]
    return {**parts, "repeats": repeats, "step_s": median, "step_low_s": low, "step_high_s": high,
            "step_min_s": min(whole), "step_p95_s": float(numpy.quantile(whole, 0.95)), "cores_busy": cores,
            "resident_bytes": before, "added_bytes": added, "later_resident_bytes": later_before,
            "later_added_bytes": later_added, "losses": training.losses[:arguments.warmup]}


def deviation(found, wanted):
    """The largest difference, of the largest value of its tensor."""
    worst = 0.0
    for name, right in wanted.items():
        largest, off = numpy.abs(right).max(), numpy.abs(found[name].astype("f8") - right).max()
        worst = max(worst, off / largest if largest else float("inf") if off else 0.0)
    return min(worst, sys.float_info.max) if worst == worst else sys.float_info.max


def check(arguments, work):
    """At the first weights: how far gradients are from those without recomputation, and from isobar's if given."""
    found = work.gradients(arguments.saving)
    worst = deviation(found, work.gradients(anemoi_model.Saving()))
    if arguments.gradients:
        wanted = read_safetensors(arguments.gradients)
        if wanted.keys() != found.keys():
            sys.exit(f"anemoi_gnn: error: {arguments.gradients}: only one of the two has {sorted(wanted.keys() ^ found.keys())}")
        worst = max(worst, deviation(found, wanted))
    return {"deviation": worst, "error": worst if worst > TOLERANCE else 0.0}


def make_row(arguments, work, training, measured, checked):
    network, graph = work.sizes, work.graph
    return {"model": "gnn", "backend": "anemoi", "ranks": 1, "sync": "none", "compress": "none",
            "optimizer": arguments.optimizer, "threads": torch.get_num_threads(), "batch": 1, "graph": arguments.graph,
            **{f"{kind}_nodes": len(values) for kind, values in graph.latlon.items()},
            **{f"{part}_edges": edges.index.shape[1] for part, edges in graph.edges.items()},
            "channels": network.channels, "layers": network.layers, "prognostic": network.prognostic,
            "forcing": network.forcing, "parameters": sum(p.numel() for p in training.network.parameters()),
            "recompute": arguments.recompute, "processor_chunks": arguments.saving.processor_chunks,
            "checked_with": arguments.gradients, **measured, **checked}


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graph", required=True, help="HDF5 file whose group `graph` has nodes and edges")
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--layers", type=int, default=4, help="of the processor")
    parser.add_argument("--prognostic", type=int, default=10)
    parser.add_argument("--forcing", type=int, default=2)
    parser.add_argument("--recompute", action="store_true", help="anemoi's gradient_checkpointing, of all parts")
    parser.add_argument("--processor-chunks", type=int, default=2, help="pieces of the processor that are recomputed")
    parser.add_argument("--mapper-chunks", type=int, default=1, help="pieces of encoder's and decoder's edges")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--optimizer", choices=("sgd", "adamw"), default="adamw")
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", default="auto", help="timed steps; auto: as many as take a second, 10 at least")
    parser.add_argument("--warmup", type=int, default=2, help="first steps, whose memory is taken")
    parser.add_argument("--gradients", default="", help="isobar's of the first step (--dump-gradients), to compare with")
    parser.add_argument("--json", default="", help="write the rows there; - is standard output")
    arguments = parser.parse_args(argv)
    arguments.repeats = 0 if arguments.repeats == "auto" else int(arguments.repeats)
    if arguments.repeats < 0 or arguments.warmup < 1 or arguments.threads < 1:
        parser.error("--repeats, --warmup and --threads want a number, one at least")
    if arguments.recompute and arguments.layers % arguments.processor_chunks:
        parser.error(f"{arguments.layers} layers are no multiple of --processor-chunks {arguments.processor_chunks}")
    chunks = arguments.processor_chunks if arguments.recompute else 1
    arguments.saving = anemoi_model.Saving(arguments.recompute, chunks, arguments.mapper_chunks)
    return arguments


def megabytes(value):
    return "-" if value is None else f"{value / 1e6:.0f} MB"


def report(arguments, argv, row):
    text = json.dumps({"schema": "isobar.bench.step.1", "commit": anemoi_model.version(), "host": socket.gethostname(),
                       "command": [sys.argv[0], *argv], "rows": [row]}, indent=2)
    if arguments.json == "-":
        print(text)
        return
    print(f"anemoi gnn, {row['parameters']} parameters, recompute {row['recompute']}: step {1e3 * row['step_s']:.1f} ms, "
          f"forward {1e3 * row['forward_s']:.1f}, backward {1e3 * row['backward_s']:.1f}, optimizer "
          f"{1e3 * row['optimizer_s']:.1f}, cores busy {row['cores_busy']:.2f}, added {megabytes(row['added_bytes'])}, in a "
          f"later step {megabytes(row['later_added_bytes'])}, deviation {row['deviation']:.1e}, error {row['error']:g}")
    if arguments.json:
        Path(arguments.json).write_text(text + "\n", encoding="utf-8")


def main(argv):
    arguments = parse(argv)
    torch.set_num_threads(arguments.threads)
    sizes = anemoi_model.Network(arguments.channels, arguments.layers, arguments.prognostic, arguments.forcing)
    try:
        with h5py.File(arguments.graph) as file:
            work = AnemoiWork(file, sizes, arguments.seed)
    except (OSError, KeyError, ValueError) as problem:
        sys.exit(f"anemoi_gnn: error: {arguments.graph}: {problem}")
    training = Training(arguments, work)
    measured = measure(arguments, training)
    row = make_row(arguments, work, training, measured, check(arguments, work))
    report(arguments, argv, row)
    return 0 if row["error"] == 0 else 1


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)  # at once: taking apart what torch has imported takes seconds
