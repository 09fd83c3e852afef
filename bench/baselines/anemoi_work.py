# SPDX-License-Identifier: Apache-2.0
"""isobar's weights and data of `bench step --model gnn`, for anemoi's network."""
import re

import anemoi_model
import numpy
import torch
from random_values import random_values

TABLES = {"node_attributes.trainable_tensors.data.trainable": "data_table",
          "node_attributes.trainable_tensors.hidden.trainable": "hidden_table",
          "encoder_graph_provider.data.trainable.trainable": "encoder_table",
          "processor_graph_provider.trainable.trainable": "processor_table",
          "decoder_graph_provider.data.trainable.trainable": "decoder_table"}


def isobar_name(name):
    """Of one of anemoi's parameters."""
    return TABLES.get(name) or re.sub(r"^(encoder|decoder)\.0\.|^(processor)\.proc\.", r"\1\2.", name)


def first_value(name, shapes, seed):
    """As isobar's initialize_parameters has it; `shapes` of all parameters, by isobar's names."""
    shape = shapes[name]
    if name.endswith("_table"):
        return numpy.zeros(shape, dtype="f4")
    weight = shapes[name.rpartition(".")[0] + ".weight"]
    if len(weight) == 1:
        return numpy.full(shape, 1 if name.endswith("weight") else 0, dtype="f4")
    return random_values(shape, weight[1] ** -0.5, seed, name)


def gaussian_areas(latitude):
    """The share of the sphere of each point of a grid whose rows lie at the Gaussian latitudes; sums to 1."""
    _, rows, points = numpy.unique(-latitude, return_inverse=True, return_counts=True)
    nodes, weights = numpy.polynomial.legendre.leggauss(len(points))
    if not numpy.allclose(numpy.sin(latitude), -nodes[rows], atol=1e-5):
        raise ValueError("no dataset area_weights, and latitudes that are not Gaussian")
    return (weights / (2 * points))[rows].astype("f4")


class AnemoiWork:
    """A graph, the sample and the loss; networks of those sizes with the same first weights."""

    def __init__(self, file, sizes, seed):
        self.graph = anemoi_model.read_graph(file)
        self.sizes, self.seed = sizes, seed
        nodes = len(self.graph.latlon["data"])
        areas = file["area_weights"][()] if "area_weights" in file else gaussian_areas(self.graph.latlon["data"][:, 0])
        self.area = torch.from_numpy(areas)
        variables = sizes.prognostic + sizes.forcing
        rows = random_values((1, nodes, anemoi_model.STEPS_IN * variables), 1, seed, "input 0")
        steps = rows.reshape(nodes, anemoi_model.STEPS_IN, variables).transpose(1, 0, 2)
        target = random_values((1, nodes, sizes.prognostic), 1, seed, "target 0")[0]
        self.steps = torch.from_numpy(numpy.ascontiguousarray(steps))
        # isobar compares the target with the network's output alone, to which anemoi adds the last step.
        self.target = torch.from_numpy(target) + self.steps[-1, :, :sizes.prognostic]

    def network(self, saving):
        network = anemoi_model.build(self.graph, self.sizes, saving)
        parameters = {isobar_name(name): parameter for name, parameter in network.named_parameters()}
        shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(torch.from_numpy(first_value(name, shapes, self.seed)))
        return network

    def loss(self, network):
        return anemoi_model.weighted_mse(anemoi_model.predict(network, self.steps), self.target, self.area)

    def gradients(self, saving):
        """Of the first step, by isobar's names."""
        network = self.network(saving)
        self.loss(network).backward()
        return {isobar_name(name): parameter.grad.numpy() for name, parameter in network.named_parameters()}
