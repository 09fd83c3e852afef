# SPDX-License-Identifier: Apache-2.0
"""A small mesh over scattered points: data and hidden graph nodes, and the edges of anemoi's encoder, processor, decoder."""
import numpy
from anemoi_model import Edges, Graph
from scipy.spatial import SphericalVoronoi, cKDTree

CUTOFF_FACTOR = 0.6
HIDDEN_NEIGHBOURS = 6
FAR_EDGES = 0.25  # of the processor's: between any two hidden nodes, like those of coarser levels of a mesh
DECODER_NEIGHBOURS = 3


def scattered(count, generator):
    """[N, 2] float32 latitudes and longitudes in radians, north to south, evenly over the sphere but for chance."""
    height = 1 - 2 * (numpy.arange(count) + generator.uniform(0.1, 0.9, count)) / count
    golden = numpy.pi * (3 - 5 ** 0.5)
    longitude = (golden * numpy.arange(count) + generator.uniform(-0.5, 0.5, count)) % (2 * numpy.pi)
    return numpy.stack([numpy.arcsin(height), longitude], axis=1).astype("f4")


def on_sphere(latlon):
    latitude, longitude = latlon.astype("f8").T
    return numpy.stack([numpy.cos(latitude) * numpy.cos(longitude), numpy.cos(latitude) * numpy.sin(longitude),
                        numpy.sin(latitude)], axis=1)


def sine_cosine(latlon):
    wide = latlon.astype("f8")
    return numpy.concatenate([numpy.sin(wide), numpy.cos(wide)], axis=1).astype("f4")


def areas(latlon):
    """The share of the sphere that is nearest to each point."""
    cells = SphericalVoronoi(on_sphere(latlon)).calculate_areas()
    return (cells / cells.sum()).astype("f4")


def edge_attributes(sources, destinations, index):
    """[E, 3] float32: great-circle length, and the unit vector to the source after a turn that takes the destination
    along its meridian to the north pole; each over its standard deviation, that of the vector over both components."""
    (lat_s, lon_s), (lat_d, lon_d) = sources.astype("f8")[index[0]].T, destinations.astype("f8")[index[1]].T
    turn = lon_s - lon_d
    half = numpy.sin((lat_s - lat_d) / 2) ** 2 + numpy.cos(lat_s) * numpy.cos(lat_d) * numpy.sin(turn / 2) ** 2
    length = 2 * numpy.arcsin(numpy.sqrt(half))
    north = numpy.cos(lat_d) * numpy.sin(lat_s) - numpy.sin(lat_d) * numpy.cos(lat_s) * numpy.cos(turn)
    east = numpy.cos(lat_s) * numpy.sin(turn)
    x = -north * numpy.cos(lon_d) - east * numpy.sin(lon_d)
    y = -north * numpy.sin(lon_d) + east * numpy.cos(lon_d)
    direction = numpy.stack([x, y], axis=1) / numpy.hypot(x, y)[:, None]
    return numpy.column_stack([length / length.std(ddof=1), direction / direction.std(ddof=1)]).astype("f4")


def by_destination(pairs):
    """[2, E] int32 of (destination, source) pairs, each once, sorted."""
    destination, source = numpy.array(sorted(set(pairs)), dtype="i4").T
    return numpy.stack([source, destination])


def encoder_pairs(data, hidden):
    """Every data node within the cutoff of a hidden node; a data node beyond it goes to the nearest hidden node."""
    tree = cKDTree(hidden)
    radius = CUTOFF_FACTOR * tree.query(hidden, 2)[0][:, 1].max()
    near = tree.query_ball_point(data, radius)
    nearest = tree.query(data)[1]
    return [(int(h), d) for d, found in enumerate(near) for h in (found or [nearest[d]])]


def processor_pairs(hidden, generator):
    neighbours = cKDTree(hidden).query(hidden, HIDDEN_NEIGHBOURS + 1)[1][:, 1:]
    pairs = [(i, int(j)) for i, row in enumerate(neighbours) for j in row]
    far = generator.integers(len(hidden), size=(int(FAR_EDGES * len(pairs)), 2))
    return pairs + [(int(i), int(j)) for i, j in far if i != j]


def decoder_pairs(data, hidden):
    neighbours = cKDTree(hidden).query(data, DECODER_NEIGHBOURS)[1]
    return [(i, int(j)) for i, row in enumerate(neighbours) for j in row]


def draw_graph(data_nodes, hidden_nodes, generator):
    """(Graph, area of each data node). At least 7 hidden nodes and 4 data nodes."""
    latlon = {"data": scattered(data_nodes, generator), "hidden": scattered(hidden_nodes, generator)}
    data, hidden = on_sphere(latlon["data"]), on_sphere(latlon["hidden"])
    pairs = {"encoder": encoder_pairs(data, hidden), "processor": processor_pairs(hidden, generator),
             "decoder": decoder_pairs(data, hidden)}
    ends = {"encoder": ("data", "hidden"), "processor": ("hidden", "hidden"), "decoder": ("hidden", "data")}
    edges = {}
    for part, found in pairs.items():
        index = by_destination(found)
        source, destination = ends[part]
        edges[part] = Edges(index, edge_attributes(latlon[source], latlon[destination], index))
    sincos = {kind: sine_cosine(values) for kind, values in latlon.items()}
    return Graph(latlon=latlon, sincos=sincos, edges=edges), areas(latlon["data"])
