"""Bicubic interpolation, LP pooling, and activations by powers."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from geoxai.attribution.lrp.further_maps import Separable
from geoxai.attribution.lrp.graph import Refusal
from geoxai.attribution.lrp.nodes import record_map, record_pass
from geoxai.attribution.lrp.operators import Call, check_cells, operator


@operator("upsample_bicubic2d _upsample_bicubic2d_aa")
def bicubic(call: Call) -> Any:
    """Bicubic interpolation: a linear map with weights of both signs, one matrix per axis."""
    x = call.first
    value = call.value(x)
    assert value is not None
    check_cells(call, value)
    rows, columns = (_matrix(call, x, axis) for axis in (-2, -1))
    return record_map(call.tape, call.name, "upsample", x, Separable(rows, columns), call.run(), value.sample)


def _matrix(call: Call, x: Tensor, axis: int) -> Tensor:
    """Weights (outputs, inputs) along one axis, from unit vectors along it that are constant along the other."""
    height, width = x.shape[-2:]
    unit = torch.eye(x.shape[axis], dtype=torch.float64, device=x.device)
    fields = unit[:, :, None] if axis == -2 else unit[:, None, :]
    fields = fields.expand(len(unit), height, width).unsqueeze(0)
    place = next((i for i, argument in enumerate(call.args) if argument is x), None)
    args = call.args if place is None else (*call.args[:place], fields, *call.args[place + 1 :])
    kwargs = call.kwargs if place is not None else {**call.kwargs, "input": fields}
    resampled = call.func(*args, **kwargs)[0]
    return (resampled[:, :, 0] if axis == -2 else resampled[:, 0, :]).T.contiguous().to(x.dtype)


@operator("lp_pool1d lp_pool2d lp_pool3d")
def power_pool(call: Call) -> Any:
    """``sum(x ** p) ** (1 / p)`` over windows: shares are proportional to the powers."""

    def parameters(
        input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
    ) -> tuple:
        return input, norm_type, kernel_size, stride, ceil_mode

    x, power, kernel, stride, ceil = call.bind(parameters)
    spatial = int(call.name[-2])
    kernel = (kernel,) * spatial if isinstance(kernel, int) else tuple(kernel)
    stride = None if stride is None or stride == [] else stride
    powers = record_pass(call.tape, "pow", x, x.pow(power), power % 2 == 0)
    average = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[spatial - 1]
    pooled = call.through(average, powers, kernel, stride, 0, ceil)
    return record_pass(call.tape, call.name, pooled, call.run(), True)


@operator("abs absolute square sqrt pow")
def power(call: Call) -> Any:
    """Functions of one value that are 0 at 0: relevance passes, as with activations."""
    tensor = call.args[0] if call.args else call.kwargs["input"]
    if call.name == "pow":
        exponent = call.args[1] if len(call.args) > 1 else call.kwargs["exponent"]
        if call.value(tensor) is None or isinstance(exponent, Tensor) or exponent <= 0:
            raise Refusal("its exponent is not a positive number", "explain with method gradient")
    value = call.value(tensor)
    whole_odd = call.name == "pow" and exponent % 2 == 1
    # said by the operation, never by values: batches must not differ
    return record_pass(
        call.tape, call.name, tensor, call.run(), not whole_odd or (value is not None and value.nonnegative)
    )
