# SPDX-License-Identifier: Apache-2.0
"""Fails on an include that the layer diagram does not draw."""
import tree

# Which layers each one may include. Private headers of lib/<layer> belong to the layer.
MAY_INCLUDE = {
    "core": set(),
    "launch": {"core"},  # what the launcher and the node say, before any communication
    "hdf5": {"core"},  # the one lock around HDF5, and how files lie in it
    "comm": {"core", "launch"},
    "ddp": {"core", "launch", "comm"},
    "compress": {"core", "launch", "comm", "ddp"},
    "scaling": {"core", "launch", "comm", "ddp", "cluster"},
    "projection": {"core", "launch", "comm", "ddp", "cluster", "scaling"},  # the step model, driven by measurements
    "report": {"core", "launch", "scaling"},  # reads what others have left; never LibTorch
    "graph": {"core", "launch", "hdf5", "comm"},
    "model": {"core", "graph"},  # halo exchange is graph's: model never communicates itself
    "data": {"core", "hdf5"},  # samplers take (rank, size) and row indices
    "train": {"core", "launch", "comm", "ddp", "data"},  # knows a Task, no weather
    "weather": {"core", "launch", "hdf5", "comm", "ddp", "compress", "graph", "data", "model", "train"},  # what C++ users link
    "bench": {"core", "launch", "comm", "ddp", "compress", "graph", "model", "train"},  # train: the optimizer of a step
    "cluster": {"core", "launch"},
    "track": {"core", "launch", "cluster"},
}
MEETING_PLACES = {"cli", "cmake"}  # the command line uses every layer


def layer_of(name):
    """The layer that a file under include/isobar/ or lib/ belongs to; None elsewhere and where everything meets."""
    parts = name.parts
    if parts[:2] == ("include", "isobar") and len(parts) > 3:
        return parts[2]
    if parts[0] == "lib" and len(parts) > 2 and parts[1] not in MEETING_PLACES:
        return parts[1]
    return None


def included_layer(root, name, header):
    """The layer that an include names, by <isobar/comm/x.hpp>, "comm/x.hpp" or a path relative to the file."""
    parts = header.split("/")
    if parts[0] == "isobar" and len(parts) > 2:
        return parts[1]
    relative = (root / name).parent / header
    if relative.exists():
        return layer_of(relative.resolve().relative_to(root))
    known = set(MAY_INCLUDE) | MEETING_PLACES
    return parts[0] if len(parts) > 1 and parts[0] in known else None


def check(root):
    problems = []
    for name in tree.files(root, *tree.CODE):
        layer = layer_of(name)
        if layer is None:
            continue
        if layer not in MAY_INCLUDE:
            problems.append(f"{name}:1: layer '{layer}' is not in the diagram ({', '.join(MAY_INCLUDE)})")
            continue
        for number, line in tree.lines(root, name):
            match = tree.INCLUDE.match(line)
            other = included_layer(root, name, match[1]) if match else None
            if other and other != layer and other not in MAY_INCLUDE[layer]:
                allowed = ", ".join(sorted(MAY_INCLUDE[layer])) or "no other layer"
                problems.append(f"{name}:{number}: {layer} includes {match[1]} of {other}; it may include {allowed}")
    return problems


if __name__ == "__main__":
    tree.main(check)
