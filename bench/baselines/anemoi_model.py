# SPDX-License-Identifier: Apache-2.0
"""The message-passing network of anemoi-models, unmodified, on a graph that is given.

`scripts/setup --anemoi` installs what it imports. Datasets of an HDF5 file are laid out as docs/anemoi.md says.
"""
import importlib.metadata
import sys
import tempfile
from typing import Any, NamedTuple

import python_torch

PARTS = {"encoder": ("data", "hidden"), "processor": ("hidden", "hidden"), "decoder": ("hidden", "data")}
TABLE = 8  # trainable values of each graph node and edge
STEPS_IN = 2


class Edges(NamedTuple):
    index: Any  # [2, E] int32, source and destination, sorted by destination
    attr: Any  # [E, 3] float32, length and direction


class Graph(NamedTuple):
    latlon: dict  # of data and hidden: [N, 2] float32, radians
    sincos: dict  # of data and hidden: [N, 4] float32, sin lat, sin lon, cos lat, cos lon
    edges: dict  # by part


class Network(NamedTuple):
    """What is built on a graph."""
    channels: int
    layers: int
    prognostic: int
    forcing: int
    diagnostic: int = 0


class Saving(NamedTuple):
    """How anemoi keeps fewer activations. Its own configuration is ANEMOI_SAVING."""
    recompute: bool = False
    processor_chunks: int = 1  # groups of layers that are recomputed together
    mapper_chunks: int = 1  # pieces of the edges of encoder and decoder


ANEMOI_SAVING = Saving(recompute=True, processor_chunks=2)  # anemoi-training's model/gnn.yaml


def prepare():
    """Makes `import anemoi.models` work in this process. Throws python_torch.NoTorch, which says what to run."""
    python_torch.prepare()
    folder = python_torch.DEPS / "anemoi"
    if folder.exists():
        sys.path.insert(0, str(folder))
    try:
        import h5py  # noqa: F401
        # torch_geometric leaves a file of Python for each kind of message passing in the folder for temporary files.
        with tempfile.TemporaryDirectory() as scratch:
            tempfile.tempdir, before = scratch, tempfile.tempdir
            try:
                import anemoi.models.models.encoder_processor_decoder  # noqa: F401
            finally:
                tempfile.tempdir = before
    except (ImportError, OSError) as error:
        raise python_torch.NoTorch(f"Python {sys.version.split()[0]} imports no anemoi-models ({error}); run "
                                   "scripts/setup --anemoi, which serves Python 3.11") from None


def version():
    import torch
    return f"anemoi-models {importlib.metadata.version('anemoi-models')}, torch {torch.__version__}"


def read_graph(file):
    """The group `graph` of an open HDF5 file."""
    nodes = {kind: {name: values[()] for name, values in group.items()} for kind, group in file["graph/nodes"].items()}
    return Graph(latlon={kind: values["latlon"] for kind, values in nodes.items()},
                 sincos={kind: values["sincos"] for kind, values in nodes.items()},
                 edges={part: Edges(group["index"][()], group["attr"][()])
                        for part, group in file["graph/edges"].items()})


def hetero_data(graph):
    import torch
    from torch_geometric.data import HeteroData
    data = HeteroData()
    for kind, latlon in graph.latlon.items():
        data[kind].x = torch.from_numpy(latlon)
        data[kind].num_nodes = len(latlon)
    for part, (source, destination) in PARTS.items():
        edges = data[source, "to", destination]
        edges.edge_index = torch.from_numpy(graph.edges[part].index.astype("i8"))
        edges.edge_length = torch.from_numpy(graph.edges[part].attr[:, :1].copy())
        edges.edge_dirs = torch.from_numpy(graph.edges[part].attr[:, 1:].copy())
    return data


def model_config(network, saving):
    """anemoi-training's model/gnn.yaml, with the network's sizes."""
    from omegaconf import OmegaConf
    layers = "anemoi.models.layers"
    common = {"trainable_size": TABLE, "sub_graph_edge_attributes": ["edge_length", "edge_dirs"], "mlp_extra_layers": 0,
              "num_channels": network.channels, "cpu_offload": False, "gradient_checkpointing": saving.recompute,
              "layer_kernels": {"LayerNorm": {"_target_": f"{layers}.normalization.AutocastLayerNorm"},
                                "Linear": {"_target_": "torch.nn.Linear"}, "Activation": {"_target_": "torch.nn.GELU"}}}
    mapper = common | {"num_chunks": saving.mapper_chunks}
    return OmegaConf.create({"model": {
        "model": {"hidden_nodes_name": "hidden", "latent_skip": True},
        "node_trainable_parameters": {"data": TABLE, "hidden": TABLE},
        "encoders": {"0": {"source_datasets": ["data"], "dataset_fusing_strategy": "not_supported",
                           "mapper": {"_target_": f"{layers}.mapper.GNNForwardMapper", **mapper}}},
        "latent_aggregator": {"_target_": f"{layers}.aggregator.SumAggregator"},
        "processor": {"_target_": f"{layers}.processor.GNNProcessor", "num_layers": network.layers,
                      "num_chunks": saving.processor_chunks, **common},
        "decoders": {"0": {"target_datasets": ["data"], "target_node_features": ["encoded_data"],
                           "mapper": {"_target_": f"{layers}.mapper.GNNBackwardMapper", **mapper}}},
        "residual": {"_target_": f"{layers}.residual.SkipConnection", "step": -1},
        "bounding": []}})


def data_indices(network):
    """Prognostic variables, forcings, diagnostic variables: in this order, which is the order of columns too."""
    from anemoi.models.data_indices.collection import IndexCollection
    from omegaconf import OmegaConf
    names = {kind: [f"{kind[0]}{number:02d}" for number in range(getattr(network, kind))]
             for kind in ("prognostic", "forcing", "diagnostic")}
    every = [name for group in names.values() for name in group]
    config = OmegaConf.create({"forcing": names["forcing"], "diagnostic": names["diagnostic"], "target": []})
    return IndexCollection(config, {name: number for number, name in enumerate(every)})


def build(graph, network, saving=Saving()):
    """AnemoiModelEncProcDec, with the node attributes that the graph gives."""
    import torch
    from anemoi.models.models.encoder_processor_decoder import AnemoiModelEncProcDec
    model = AnemoiModelEncProcDec(model_config=model_config(network, saving), data_indices={"data": data_indices(network)},
                                  statistics={"data": None}, n_step_input=STEPS_IN, n_step_output=1,
                                  graph_data=hetero_data(graph))
    for kind, sincos in graph.sincos.items():
        getattr(model.node_attributes, f"latlons_{kind}").copy_(torch.from_numpy(sincos))
    return model


def predict(model, steps):
    """[2, N, prognostic + forcing] -> [N, prognostic + diagnostic], the residual included."""
    return model({"data": steps[None, :, None]})["data"][0, 0, 0]


def weighted_mse(prediction, target, area):
    """anemoi-training's MSELoss for one sample, with node weights that sum to 1 and no weights of variables."""
    return ((prediction - target).square() * area[:, None]).sum(0).mean()
