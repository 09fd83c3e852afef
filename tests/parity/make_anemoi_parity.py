#!/usr/bin/env python3.11
# SPDX-License-Identifier: Apache-2.0
"""Writes a parity file with the unmodified anemoi-models, or checks one against it; docs/anemoi.md has the layout.

    tests/parity/make_anemoi_parity.py --channels 16 --layers 2 --data-nodes 400 --hidden 60 --output case.h5
    tests/parity/make_anemoi_parity.py --check case.h5

The graph, weights and inputs of --output follow from the options and the seed. --check takes them from the file,
computes everything else anew and compares; the exit code is 0 only if all is within anemoi's own rounding.
"""
import argparse
import importlib.metadata
import json
import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path[:0] = [str(Path(__file__).resolve().parents[2] / "bench" / "baselines"), str(Path(__file__).resolve().parent)]
import anemoi_model
import python_torch

try:
    anemoi_model.prepare()
except python_torch.NoTorch as problem:
    sys.exit(f"make_anemoi_parity: error: {problem}")

import h5py
import numpy
import torch
from parity_values import TOLERANCES, adamw_losses, differences, reference
from random_graph import draw_graph

TARGET_CHANGE = 0.3  # of what is predicted from the last input, whose values have a deviation of 1


def draw_weight(name, shape, generator):
    """Linear layers as PyTorch starts them; norms and tables off their start, so that mix-ups show."""
    if name.endswith("trainable"):
        values = 0.1 * generator.standard_normal(shape)
    elif "layer_norm" in name:
        values = 0.1 * generator.standard_normal(shape) + (1 if name.endswith("weight") else 0)
    else:
        values = generator.uniform(-1, 1, shape)
    return values.astype("f4")


def draw_weights(model, generator):
    weights = {name: draw_weight(name, parameter.shape, generator)
               for name, parameter in sorted(model.named_parameters())}
    for name, values in weights.items():
        if ".mlp." in name:
            fan_in = weights[name.rpartition(".")[0] + ".weight"].shape[1]
            values *= numpy.float32(fan_in ** -0.5)
    return weights


def draw_case(arguments):
    """What a file is computed from: dataset names and arrays."""
    generator = numpy.random.default_rng(arguments.seed)
    network = anemoi_model.Network(arguments.channels, arguments.layers, arguments.prognostic, arguments.forcing,
                                   arguments.diagnostic)
    graph, area = draw_graph(arguments.data_nodes, arguments.hidden, generator)
    weights = draw_weights(anemoi_model.build(graph, network), generator)
    steps = generator.standard_normal((anemoi_model.STEPS_IN, arguments.data_nodes, network.prognostic + network.forcing))
    steps = steps.astype("f4")
    change = generator.standard_normal((arguments.data_nodes, network.prognostic + network.diagnostic))
    target = (TARGET_CHANGE * change).astype("f4")
    target[:, :network.prognostic] += steps[-1, :, :network.prognostic]
    return network, graph, {"input": steps, "target": target, "area_weights": area,
                            **{f"weights/{name}": values for name, values in weights.items()}}


def read_case(file):
    """The same, of an open file; sizes follow from shapes."""
    names = [name for name in file["weights"] if name.startswith("processor.proc.")]
    outputs, variables = file["target"].shape[1], file["input"].shape[2]
    diagnostic = json.loads(file.attrs.get("config", "{}")).get("diagnostic", 0)
    prognostic = outputs - diagnostic
    network = anemoi_model.Network(file["taps/enc_data_latent"].shape[1], 1 + max(int(name.split(".")[2]) for name in names),
                                   prognostic, variables - prognostic, diagnostic)
    given = ("input", "target", "area_weights", *(f"weights/{name}" for name in file["weights"]))
    return network, anemoi_model.read_graph(file), {name: file[name][()] for name in given}


def computed(network, graph, case):
    """All that follows from a case, by dataset name: in float32, and the references in float64."""
    result = reference(network, graph, case, torch.float32)
    result["adamw/loss"] = adamw_losses(network, graph, case, torch.float32)
    wide = reference(network, graph, case, torch.float64)
    result |= {f"ref64/{name}": values for name, values in wide.items() if not name.startswith("taps/")}
    result["ref64/adamw_loss"] = adamw_losses(network, graph, case, torch.float64)
    return result


def graph_datasets(graph):
    for kind, latlon in graph.latlon.items():
        yield f"graph/nodes/{kind}/latlon", latlon
        yield f"graph/nodes/{kind}/sincos", graph.sincos[kind]
    for part, edges in graph.edges.items():
        yield f"graph/edges/{part}/index", edges.index
        yield f"graph/edges/{part}/attr", edges.attr


def config_of(network, graph, seed):
    nodes = {f"{kind}_nodes": len(latlon) for kind, latlon in graph.latlon.items()}
    edges = {f"{short}_edges": graph.edges[part].index.shape[1]
             for short, part in (("enc", "encoder"), ("proc", "processor"), ("dec", "decoder"))}
    return {"C": network.channels, "L": network.layers, "prognostic": network.prognostic, "forcing": network.forcing,
            "diagnostic": network.diagnostic, "steps_in": anemoi_model.STEPS_IN, "trainable": anemoi_model.TABLE,
            "seed": seed, **nodes, **edges}


def write(arguments, network, graph, datasets):
    version = importlib.metadata.version("anemoi-models")
    with h5py.File(arguments.output, "w") as file:
        for name, values in (*graph_datasets(graph), *datasets.items()):
            file.create_dataset(name, data=values)
        file.attrs["config"] = json.dumps(config_of(network, graph, arguments.seed))
        file.attrs["model"] = (f"anemoi-models {version} AnemoiModelEncProcDec: GNNForwardMapper + GNNProcessor + "
                               "GNNBackwardMapper")


def table(rows):
    """Prints the largest differences; whether all are within their tolerance."""
    print(f"{'quantity':<28} {'largest value':>13} {'difference':>11} {'of largest':>11} {'allowed':>8}")
    for row in rows:
        print(f"{row.quantity:<28} {row.largest:>13.3e} {row.absolute:>11.1e} {row.relative:>11.1e} {row.allowed:>8.0e}"
              f"{'' if row.good else '  too far: ' + row.where}")
    return all(row.good for row in rows)


def check(arguments):
    with h5py.File(arguments.check) as file:
        network, graph, case = read_case(file)
        found = computed(network, graph, case)
        kept = {name: file[name][()] for name in found}
    print(f"{arguments.check}: {network}")
    return table(differences(found, kept, TOLERANCES))


def make(arguments):
    network, graph, case = draw_case(arguments)
    found = computed(network, graph, case)
    write(arguments, network, graph, case | found)
    narrow = {name: values for name, values in found.items() if f"ref64/{name}" in found}
    print(f"{arguments.output}: {network}; float32 against float64:")
    table(differences(narrow, {name: found[f"ref64/{name}"] for name in narrow}, {}))
    return True


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", help="a parity file")
    parser.add_argument("--output", help="the parity file to write")
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--layers", type=int, default=2, help="of the processor")
    parser.add_argument("--prognostic", type=int, default=4)
    parser.add_argument("--forcing", type=int, default=2)
    parser.add_argument("--diagnostic", type=int, default=0, help="outputs that are no inputs")
    parser.add_argument("--data-nodes", type=int, default=400)
    parser.add_argument("--hidden", type=int, default=60, help="graph nodes of the hidden mesh")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args(argv)
    if bool(arguments.check) == bool(arguments.output):
        parser.error("wanted one of --check and --output")
    if arguments.hidden < 7 or arguments.data_nodes < 4:
        parser.error("wanted 7 hidden and 4 data nodes at least")
    return arguments


def main(argv):
    arguments = parse(argv)
    torch.set_num_threads(arguments.threads)
    try:
        return 0 if (check if arguments.check else make)(arguments) else 1
    except (OSError, KeyError) as problem:
        print(f"make_anemoi_parity: error: {arguments.check or arguments.output}: {problem}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
