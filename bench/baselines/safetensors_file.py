# SPDX-License-Identifier: Apache-2.0
"""Reads what isobar dumps."""
import json
import struct
from pathlib import Path

import numpy


def read_safetensors(file):
    """float32 tensors by name."""
    data = Path(file).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + length])
    values = data[8 + length:]
    return {name: numpy.frombuffer(values[slice(*entry["data_offsets"])], dtype="<f4").reshape(entry["shape"])
            for name, entry in header.items() if name != "__metadata__"}
