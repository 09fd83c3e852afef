# SPDX-License-Identifier: Apache-2.0
"""PyTorch's Gloo group of the ranks that a launcher started."""
import fcntl
import os
import socket
import struct

import torch.distributed as dist


def first_number(names, otherwise):
    return int(next((os.environ[name] for name in names if os.environ.get(name)), otherwise))


def interface_towards(host):
    """The network interface from which this machine reaches `host`; a connected datagram socket sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))
        own = probe.getsockname()[0]
        for _, name in socket.if_nameindex():
            try:
                request = fcntl.ioctl(probe, 0x8915, struct.pack("256s", name.encode()[:15]))  # SIOCGIFADDR
            except OSError:
                continue
            if socket.inet_ntoa(request[20:24]) == own:
                return name
    raise SystemExit(f"torch_ddp: error: no interface has the address {own}, which leads to {host}")


def start_group():
    """(rank, size); on the interface that leads to rank 0, unless GLOO_SOCKET_IFNAME names one."""
    host = os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29500")
    os.environ.setdefault("GLOO_SOCKET_IFNAME", interface_towards(host))
    rank = first_number(("RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID"), 0)
    size = first_number(("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"), 1)
    dist.init_process_group("gloo", rank=rank, world_size=size)
    return rank, size
