# SPDX-License-Identifier: Apache-2.0
"""What a parity file says of a case, computed with anemoi-models, and how two such sets of values differ."""
from typing import NamedTuple

import anemoi_model
import numpy
import torch

ADAMW = {"lr": 1e-3, "betas": (0.9, 0.95), "eps": 1e-8, "weight_decay": 0.01}
ADAMW_STEPS = 5

# Of the largest value of each tensor, where two runs of anemoi may differ: other orders of summation, and for float32
# losses of several steps what these do to the weights. Ten times what has been seen.
TOLERANCES = {"output": 3e-6, "loss": 1e-6, "grads": 5e-5, "taps": 3e-6, "adamw/loss": 1e-5, "ref64/output": 1e-13,
              "ref64/loss": 1e-13, "ref64/grads": 1e-12, "ref64/adamw_loss": 1e-11}


def built(network, graph, case, dtype):
    """The model with the case's weights; every parameter has one."""
    model = anemoi_model.build(graph, network)
    weights = {name.removeprefix("weights/"): torch.from_numpy(values)
               for name, values in case.items() if name.startswith("weights/")}
    lacking, unknown = model.load_state_dict(weights, strict=False)
    lacking = [name for name in lacking if name in dict(model.named_parameters())]
    if lacking or unknown:
        raise KeyError(f"weights: anemoi's model has {lacking}, the file {unknown} beyond what both have")
    return model.to(dtype)


def loss_of(model, case, dtype):
    """(prediction, loss)."""
    steps, target, area = (torch.from_numpy(case[name]).to(dtype) for name in ("input", "target", "area_weights"))
    prediction = anemoi_model.predict(model, steps)
    return prediction, anemoi_model.weighted_mse(prediction, target, area)


def tap(model, taps):
    """Keeps what the layers give, in `taps`."""
    def keep(*names):
        def hook(_, __, result):
            values = result if isinstance(result, tuple) else (result,)
            taps.update({f"taps/{name}": value.detach().numpy() for name, value in zip(names, values) if name})
        return hook

    model.encoder["0"].register_forward_hook(keep("enc_data_latent", "enc_hidden_latent"))
    model.decoder["0"].register_forward_hook(keep("dec_output_before_residual"))
    last = len(model.processor.proc) - 1
    for number, block in enumerate(model.processor.proc):
        block.register_forward_hook(keep(f"proc_{number:02d}_nodes", "proc_last_edges" if number == last else ""))


def reference(network, graph, case, dtype):
    """Output, loss, gradients and taps by dataset name."""
    model = built(network, graph, case, dtype)
    result = {}
    tap(model, result)
    prediction, loss = loss_of(model, case, dtype)
    loss.backward()
    result["output"] = prediction.detach().numpy()
    result["loss"] = numpy.float64(loss.item())
    result |= {f"grads/{name}": parameter.grad.numpy() for name, parameter in model.named_parameters()}
    return result


def adamw_losses(network, graph, case, dtype):
    """Before and after each of the steps, on the same sample."""
    model = built(network, graph, case, dtype)
    optimizer = torch.optim.AdamW(model.parameters(), **ADAMW)
    losses = []
    for _ in range(ADAMW_STEPS):
        optimizer.zero_grad()
        _, loss = loss_of(model, case, dtype)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        losses.append(loss_of(model, case, dtype)[1].item())
    return numpy.array(losses)


class Difference(NamedTuple):
    """The worst tensor of a quantity."""
    quantity: str
    where: str
    largest: float
    absolute: float
    relative: float
    allowed: float

    @property
    def good(self):
        return self.relative <= self.allowed


def quantity_of(name):
    """Gradients and taps count together."""
    return name[:name.index("grads") + 5] if "grads/" in name else "taps" if name.startswith("taps/") else name


def difference(name, found, kept, allowed):
    if found.shape != kept.shape:
        raise KeyError(f"{name}: the file has shape {kept.shape}, wanted {found.shape}")
    largest = float(numpy.abs(kept).max())
    absolute = float(numpy.abs(found.astype("f8") - kept).max())
    relative = absolute / largest if largest else numpy.inf if absolute else 0.0
    return Difference(quantity_of(name), name, largest, absolute, relative, allowed)


def differences(found, kept, tolerances):
    """The worst tensor of each quantity; what has no tolerance is right however far off."""
    worst = {}
    for name, values in found.items():
        one = difference(name, values, kept[name], tolerances.get(quantity_of(name), numpy.inf))
        if one.quantity not in worst or not one.relative <= worst[one.quantity].relative:
            worst[one.quantity] = one
    return list(worst.values())
