#!/usr/bin/env python3.11
# SPDX-License-Identifier: Apache-2.0
"""PyTorch's DistributedDataParallel over Gloo, on the network, data and optimizer of `isobar bench step --model mlp`.

    mpirun -n 4 -x MASTER_ADDR=10.0.0.1 bench/baselines/torch_ddp.py --bucket-cap-mb 25 --hook none --json -

A step is zero_grad, forward, backward and the optimizer, in the order and with the checks of the C++ programs; the rows
have the same fields. There is no plain stream beside it, so goodput_gbit_s and bound_s are null. Ranks come from RANK
and WORLD_SIZE or from the launcher; MASTER_ADDR is where rank 0 runs.
"""
import argparse
import hashlib
import json
import math
import os
import socket
import statistics
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))
import python_torch

try:
    python_torch.prepare()
except python_torch.NoTorch as problem:
    sys.exit(f"torch_ddp: error: {problem}")

import numpy
import torch
import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks import default_hooks, powerSGD_hook
from torch.nn.parallel import DistributedDataParallel

from gloo_group import start_group
from random_values import random_values

PARTS = ("zero_grad_s", "forward_s", "backward_s", "exposed_comm_s", "optimizer_s", "step_s")
COMPRESS = {"none": "none", "bf16": "bf16", "powersgd": "power_sgd"}
FIRST_BUCKET_BYTES = 1 << 20  # of DDP where no cap is given; a given cap holds for the first bucket too


class LinearStack(torch.nn.Module):
    """isobar::bench::make_linear_stack()."""

    def __init__(self, arguments):
        super().__init__()
        width = arguments.width
        self.layers = torch.nn.ModuleList(torch.nn.Linear(width, width) for _ in range(arguments.layers))
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                values = random_values(tuple(parameter.shape), 1 / math.sqrt(width), arguments.seed, name)
                parameter.copy_(torch.from_numpy(values))

    def forward(self, x):
        for number, layer in enumerate(self.layers):
            x = layer(x if number == 0 else torch.relu(x))
        return x


def largest_over_ranks(values):
    tensor = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(tensor, dist.ReduceOp.MAX)
    return tensor.tolist()


def same_on_all_ranks(tensors):
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().numpy().tobytes())
    digests = [None] * dist.get_world_size()
    dist.all_gather_object(digests, digest.hexdigest())
    return len(set(digests)) == 1


class Training:
    """The network under DDP or by itself, this rank's data, and the optimizer."""

    def __init__(self, arguments, rank):
        self.arguments = arguments
        self.network = LinearStack(arguments)
        self.parameters = list(self.network.parameters())
        self.power_sgd = None
        self.module = self.network if arguments.sync == "none" else self.wrap()
        data = [torch.from_numpy(random_values((arguments.batch, arguments.width), 1, arguments.seed, f"{name} {rank}"))
                for name in ("input", "target")]
        self.input, self.target = data
        self.optimizer = make_optimizer(arguments, self.parameters)
        self.last_gradient = 0.0
        self.first_gradients = None
        for parameter in self.parameters:
            parameter.register_post_accumulate_grad_hook(self.note)

    def wrap(self):
        cap = self.arguments.bucket_cap_mb
        module = DistributedDataParallel(self.network, gradient_as_bucket_view=True, bucket_cap_mb=cap)
        if self.arguments.hook == "bf16":
            module.register_comm_hook(None, default_hooks.bf16_compress_hook)
        elif self.arguments.hook == "powersgd":
            # With error feedback and warm start it refuses to begin earlier: buckets are built anew after a step.
            self.power_sgd = powerSGD_hook.PowerSGDState(
                None, matrix_approximation_rank=self.arguments.matrix_approximation_rank, start_powerSGD_iter=2)
            module.register_comm_hook(self.power_sgd, powerSGD_hook.powerSGD_hook)
        return module

    def note(self, _):
        self.last_gradient = time.perf_counter()

    def loss(self, module):
        return torch.nn.functional.mse_loss(module(self.input), self.target)

    def gradients(self):
        """Seconds of each part up to the final gradients. DDP's backward pass ends with a wait for its collectives."""
        clock = time.perf_counter
        times = [clock()]
        self.optimizer.zero_grad()
        times.append(clock())
        loss = self.loss(self.module)
        times.append(clock())
        loss.backward()
        end = clock()
        exposed = end - self.last_gradient if self.arguments.sync == "ddp" else 0.0
        return [times[1] - times[0], times[2] - times[1], end - times[2] - exposed, exposed]

    def timed_step(self):
        dist.barrier()
        begin = time.perf_counter()
        times = self.gradients()
        before = time.perf_counter()
        self.optimizer.step()
        end = time.perf_counter()
        return [*times, end - before, end - begin]

    def sent_values(self):
        """Values handed to PowerSGD's collectives so far."""
        return self.power_sgd.compression_stats()[2] if self.power_sgd else 0


def make_optimizer(arguments, parameters):
    if arguments.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=arguments.learning_rate)
    return torch.optim.AdamW(parameters, lr=arguments.learning_rate, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.01)


def flat(tensor):
    return tensor.detach().flatten().clone()


def check(training, plain):
    """One step; (largest deviation of its gradients from the mean of all ranks' own, the largest beyond rounding)."""
    plain.load_state_dict(training.network.state_dict())
    plain.zero_grad()
    training.loss(plain).backward()
    training.gradients()
    training.first_gradients = training.first_gradients or {
        name: parameter.grad.numpy().copy() for name, parameter in training.network.named_parameters()}
    found = [0.0, 0.0]
    for own, got in zip(plain.parameters(), training.parameters):
        parts = [flat(own.grad)]
        if training.arguments.sync == "ddp":
            parts = [torch.empty_like(parts[0]) for _ in range(dist.get_world_size())]
            dist.all_gather(parts, flat(own.grad))
        parts = torch.stack(parts).double()
        off = (flat(got.grad).double() - parts.mean(0)).abs()
        rounding = len(parts) * 2.0**-23 * parts.abs().mean(0) + torch.finfo(torch.float32).tiny
        beyond = torch.where(off <= rounding, 0.0, off)
        found = [max(a, b) for a, b in zip(found, (off.max().item(), beyond.max().item()))]
    training.optimizer.step()
    return [value if math.isfinite(value) else sys.float_info.max for value in largest_over_ranks(found)]


def interval_rank(count):
    """The k of the order statistics x(k) and x(n + 1 - k) that hold the median with 95 %."""
    below, rank = 0.0, 0
    while rank < count:
        below += math.comb(count, rank) * 0.5**count
        if below > 0.025:
            break
        rank += 1
    return max(rank, 1)


def payload_bytes(arguments, parameters, power_sgd_values):
    if arguments.sync == "none":
        return 0
    if arguments.hook == "powersgd":
        return int(4 * power_sgd_values)
    return parameters * (2 if arguments.hook == "bf16" else 4)


def measure(arguments, training, plain):
    """Times by part over the steps, the slowest rank's, and what the checks found."""
    first = check(training, plain)
    if arguments.dump_gradients and dist.get_rank() == 0:
        numpy.savez(arguments.dump_gradients, **training.first_gradients)
    fastest = min(training.timed_step()[-1] for _ in range(arguments.warmup))
    repeats = arguments.repeats or min(max(math.ceil(1 / fastest), 10), 1000)
    repeats = int(-largest_over_ranks([-repeats])[0])
    before = training.sent_values()
    steps = [training.timed_step() for _ in range(repeats)]
    sent = (training.sent_values() - before) / repeats
    flat_times = largest_over_ranks([value for step in steps for value in step])
    times = {part: sorted(flat_times[number::len(PARTS)]) for number, part in enumerate(PARTS)}
    last = check(training, plain)
    same = arguments.sync == "none" or same_on_all_ranks(training.parameters)
    lossy = arguments.hook != "none"
    error = 0.0 if lossy else max(first[1], last[1])
    return times, sent, max(first[0], last[0]), error if same else sys.float_info.max


def make_row(arguments, size, times, sent, deviation, error):
    steps = times["step_s"]
    parameters = arguments.layers * arguments.width * (arguments.width + 1)
    payload = payload_bytes(arguments, parameters, sent)
    cap = None if arguments.sync == "none" else int((arguments.bucket_cap_mb or 25) * (1 << 20))
    first_cap = min(cap, FIRST_BUCKET_BYTES) if cap and arguments.bucket_cap_mb is None else cap
    rank = interval_rank(len(steps))
    row = {"model": "mlp", "backend": "torch_ddp", "ranks": size, "nodes": None, "sync": arguments.sync,
           "compress": COMPRESS[arguments.hook], "optimizer": arguments.optimizer, "threads": arguments.threads,
           "batch": arguments.batch, "layers": arguments.layers, "width": arguments.width, "parameters": parameters,
           "bucket_cap_bytes": cap, "first_bucket_cap_bytes": first_cap, "repeats": len(steps),
           "step_low_s": steps[rank - 1], "step_high_s": steps[len(steps) - rank], "step_min_s": steps[0],
           "step_p95_s": float(numpy.quantile(steps, 0.95)), "compute_forward_s": None, "compute_backward_s": None,
           "payload_bytes": payload, "sent_bytes": 2 * (size - 1) / size * payload, "goodput_gbit_s": None,
           "goodput_path": "", "bound_s": None, "first_bucket_s": None, "buckets": [], "deviation": deviation,
           "error": error}
    return row | {part: statistics.median(times[part]) for part in PARTS}


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=128, help="samples of a rank")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sync", choices=("none", "ddp"), default="ddp", help="none: the network without DDP")
    parser.add_argument("--bucket-cap-mb", type=float, help="MiB; by default DDP's 25, the first bucket 1")
    parser.add_argument("--hook", choices=COMPRESS, default="none")
    parser.add_argument("--matrix-approximation-rank", type=int, default=4, help="of powersgd")
    parser.add_argument("--optimizer", choices=("sgd", "adamw"), default="sgd")
    parser.add_argument("--learning-rate", type=float, default=0.01)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", default="auto", help="timed steps; auto: as many as take a second, 10 at least")
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--dump-gradients", default="", help="write rank 0's gradients of the first step there, as npz")
    parser.add_argument("--json", default="", help="write the rows there; - is standard output")
    arguments = parser.parse_args(argv)
    arguments.repeats = 0 if arguments.repeats == "auto" else int(arguments.repeats)
    if arguments.repeats < 0 or arguments.warmup < 1:
        parser.error("--repeats and --warmup want a number of steps, one at least")
    return arguments


def report(arguments, argv, row):
    text = json.dumps({"schema": "isobar.bench.step.1", "commit": f"torch {torch.__version__}",
                       "host": socket.gethostname(), "command": [sys.argv[0], *argv], "rows": [row]}, indent=2)
    if arguments.json == "-":
        print(text)
        return
    print(f"torch_ddp, sync {row['sync']}, hook {arguments.hook}: ranks {row['ranks']}, step {1e3 * row['step_s']:.2f} ms, "
          f"forward {1e3 * row['forward_s']:.2f}, backward {1e3 * row['backward_s']:.2f}, exposed "
          f"{1e3 * row['exposed_comm_s']:.2f}, optimizer {1e3 * row['optimizer_s']:.2f}, error {row['error']:g}")
    if arguments.json:
        Path(arguments.json).write_text(text + "\n", encoding="utf-8")


def main(argv):
    arguments = parse(argv)
    torch.set_num_threads(arguments.threads)
    rank, size = start_group()
    training = Training(arguments, rank)
    found = measure(arguments, training, LinearStack(arguments))
    if rank == 0:
        report(arguments, argv, make_row(arguments, size, *found))
    dist.barrier()
    return 0 if found[-1] == 0 else 1


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)  # at once: now and then a thread of the group's is still there when the interpreter clears up
