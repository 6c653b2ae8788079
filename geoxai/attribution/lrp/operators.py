"""The table of operators: what each torch operation does, and so how relevance crosses it.

An operator is a function of a ``Call`` that runs the operation and puts it on the tape. Names are those of
``calls.operation``. What is not in the table is refused when relevance would have to cross it, never approximated by a
gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geoxai.attribution.calls import copy_of, names_in
from geoxai.attribution.lrp.graph import Refusal, Value, owned, tensors_in
from geoxai.attribution.lrp.memory import look
from geoxai.attribution.lrp.merging import order_of
from geoxai.attribution.lrp.nodes import DerivativeNode, RefusedNode, record_index, record_pass
from geoxai.attribution.lrp.tape import RESHAPES, Tape

ALONE = "or explain one sample at a time (batch_size: 1)"
WRITE_OUT = "write it with other operations, or explain with method gradient"


@dataclass(frozen=True)
class Call:
    """One call of a torch function that has an input-dependent tensor among its arguments."""

    tape: Tape
    name: str
    func: Callable
    args: tuple
    kwargs: dict[str, Any]
    cross: Callable | None = None  # how the mode runs an operation

    def run(self) -> Any:
        """The operation itself, with its results in memory that the tape knows."""
        return owned(self.func(*self.args, **self.kwargs), (self.args, self.kwargs))

    def through(self, func: Callable, *args: Any, **kwargs: Any) -> Any:
        """Run a part of the operation so that it goes through the table itself."""
        assert self.cross is not None
        return self.cross(func, args, kwargs)

    def bind(self, parameters: Callable) -> Any:
        """The arguments by name; ``parameters`` is a function with the operation's signature that returns them."""
        try:
            return parameters(*self.args, **self.kwargs)
        except TypeError:
            raise Refusal("its arguments are in a form that has no rule", WRITE_OUT) from None

    def constant(self, tensor: Any) -> Any:
        """A constant as a node may keep it: not changed when its memory is written later. Weights of the network stay
        the tensors they are, by which their parts are known.
        """
        if not isinstance(tensor, Tensor) or id(tensor) in self.tape.paths or self.value(tensor):
            return tensor
        return self.tape.keep(tensor)

    def value(self, tensor: Any) -> Value | None:
        """The tape's value of an argument, None if it does not depend on the input."""
        return self.tape.value(tensor) if isinstance(tensor, Tensor) else None

    @property
    def first(self) -> Tensor:
        """The first tensor that depends on the input."""
        return next(self.tape.depending((self.args, self.kwargs)))


Operator = Callable[[Call], Any]
OPERATORS: dict[str, Operator] = {}


def operator(names: str) -> Callable[[Operator], Operator]:
    """Enter a function in the table under these space-separated names."""

    def enter(function: Operator) -> Operator:
        OPERATORS.update(dict.fromkeys(names.split(), function))
        return function

    return enter


# Activations, and other functions of one value that rise from 0 at 0: relevance passes. True if the result is
# never negative.
ACTIVATIONS = {
    "relu": True, "relu6": True, "sigmoid": True, "hardsigmoid": True, "softplus": True,
    "leaky_relu": False, "elu": False, "selu": False, "celu": False, "gelu": False, "silu": False, "mish": False,
    "tanh": False, "hardtanh": False, "hardswish": False, "softsign": False, "logsigmoid": False, "log_sigmoid": False,
    "tanhshrink": False, "softshrink": False, "hardshrink": False, "threshold": False, "rrelu": False, "prelu": False,
    "clamp": False, "clamp_min": False, "clamp_max": False, "clip": False,
    "atan": False, "arctan": False, "asinh": False, "arcsinh": False, "sinh": False, "erf": False, "expm1": False,
    "log1p": False,
}  # fmt: skip


@operator(" ".join(ACTIVATIONS))
def activation(call: Call) -> Any:
    """An activation of the first argument."""
    tensor = call.args[0] if call.args else call.kwargs["input"]
    others = [t for t in tensors_in((call.args[1:], call.kwargs)) if t is not tensor and call.value(t)]
    if others:
        raise Refusal("its bounds or slopes depend on the input", "keep them constant")
    if call.name == "rrelu" and (call.kwargs.get("training") or (len(call.args) > 3 and call.args[3] is True)):
        raise Refusal("it draws random slopes in training mode", "call model.eval() first")
    nonnegative = ACTIVATIONS[call.name]
    if call.name in ("clamp", "clamp_min", "clip", "hardtanh"):
        low = call.kwargs.get("min", call.kwargs.get("min_val", call.args[1] if len(call.args) > 1 else None))
        nonnegative = isinstance(low, int | float) and low >= 0
    value = call.value(tensor)
    assert value is not None
    keeps_sign = call.name not in (
        "threshold",
        "clamp",
        "clip",
        "clamp_max",
        "hardtanh",
        "logsigmoid",
        "log_sigmoid",
    )
    return record_pass(call.tape, call.name, tensor, call.run(), nonnegative or (value.nonnegative and keeps_sign))


@operator("dropout alpha_dropout feature_alpha_dropout dropout1d dropout2d dropout3d feature_dropout")
def dropout(call: Call) -> Any:
    """Dropout in eval mode does nothing."""

    def parameters(
        input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False, *, train: Any = None
    ) -> Any:
        return input, p, training if train is None else train

    tensor, p, training = call.bind(parameters)
    if training and p > 0:
        raise Refusal("dropout is in training mode", "call model.eval() first")
    return record_index(call.tape, call.name, torch.Tensor.view_as, (tensor, tensor.detach()), {})


@operator(
    "reshape view flatten unflatten ravel permute transpose t T mT H mH adjoint movedim moveaxis swapaxes swapdims "
    "squeeze unsqueeze expand expand_as broadcast_to view_as reshape_as contiguous clone narrow select slice getitem "
    "split chunk tensor_split hsplit vsplit dsplit unbind split_with_sizes unsafe_split unsafe_chunk "
    "unsafe_split_with_sizes index_select gather take take_along_dim flip fliplr flipud roll rot90 repeat tile "
    "repeat_interleave diagonal masked_select index alias channel_shuffle pixel_shuffle "
    "pixel_unshuffle native_channel_shuffle lift_fresh_copy atleast_1d atleast_2d atleast_3d broadcast_tensors diag "
    "diag_embed linalg_diagonal positive"
)
def index_map(call: Call) -> Any:
    """Moves or selects values of one tensor."""
    if call.name.endswith("_as") and call.value(call.args[0]) is None:
        return call.run()  # only the shape is from the input
    func, args, kwargs = (_reshaped if call.name in ("view", "_unsafe_view") else call.func), call.args, call.kwargs
    if call.name in LIKE:  # the other tensor only gives the shape
        tensor, like = (*args, *kwargs.values())[:2] if "input" not in kwargs else (kwargs["input"], kwargs["other"])
        func, args, kwargs = getattr(torch.Tensor, LIKE[call.name]), (tensor, tuple(like.shape)), {}
    result = record_index(call.tape, call.name, func, args, kwargs)
    if call.name in RESHAPES and isinstance(result, Tensor) and (value := call.value(result)) is not None:
        value.norm = value.node.inputs[0].norm if value.node is not None else None
    if call.name in PERMUTATIONS and isinstance(result, Tensor):
        node = call.tape.nodes[-1]
        if isinstance(node, DerivativeNode):
            node.order = order_of(call.func, call.args, call.kwargs, result.ndim)
    if call.name in SELECTIONS and call.args and isinstance(node := call.tape.nodes[-1], DerivativeNode):
        func, rest, kwargs = call.func, call.args[1:], call.kwargs
        node.again = lambda tensor: func(tensor, *rest, **kwargs)
    return result


@operator("as_strided")
def places_in_memory(call: Call) -> Any:
    """A view by places in memory, which sample numbers and other copies do not share."""

    def parameters(input: Tensor, size: Any, stride: Any, storage_offset: int | None = None) -> tuple:
        return input, tuple(size), tuple(stride), storage_offset

    x, size, stride, place = call.bind(parameters)
    base = x if x._base is None else x._base
    place = x.storage_offset() if place is None else place
    return look(call.tape, call.name, base, size, stride, place - base.storage_offset())


LIKE = {"expand_as": "expand", "view_as": "reshape", "reshape_as": "reshape"}


def _reshaped(tensor: Tensor, *shape: Any, size: Any = None) -> Tensor:
    """``view``, also of tensors laid out in memory in another way than the network's own would be."""
    shape = shape if size is None else (size,)
    return tensor.view(*shape) if shape and isinstance(shape[0], torch.dtype) else tensor.reshape(*shape)


SELECTIONS = names_in(
    "narrow select slice getitem split chunk tensor_split hsplit vsplit dsplit unbind split_with_sizes unsafe_split "
    "unsafe_chunk unsafe_split_with_sizes squeeze"
)
PERMUTATIONS = names_in("permute transpose t T mT H mH adjoint movedim moveaxis swapaxes swapdims")


@operator("detach data lift_fresh detach_copy identity")
def alias(call: Call) -> Any:
    """The same values under another name; the forward pass is explained, so relevance goes on."""
    tensor = call.first
    return record_index(call.tape, call.name, torch.Tensor.view_as, (tensor, tensor.detach()), {})


@operator("to type type_as float double half bfloat16 cpu cuda convert_element_type")
def conversion(call: Call) -> Any:
    """Another dtype or device, same values: of the tensor that is converted, not of one it is made like."""
    tensor = call.args[0] if call.args else call.first
    result = call.run()
    if call.value(tensor) is None:
        return result
    if result is tensor or not isinstance(result, Tensor) or not result.is_floating_point():
        return result
    return record_index(
        call.tape,
        call.name,
        lambda t: t.to(result.device, result.dtype if t.is_floating_point() else t.dtype),
        (tensor,),
        {},
    )


@operator(
    "cat stack hstack vstack dstack column_stack row_stack where masked_fill setitem copy tril triu index_put "
    "index_copy index_fill scatter slice_scatter select_scatter masked_scatter diagonal_scatter"
)
def join(call: Call) -> Any:
    """Joins values of the input with others, or with constants."""
    if call.name == "where" and len(call.args) < 2:
        return call.run()
    if call.name == "copy" and call.value(call.args[1]) is None:
        return call.run()
    func = copy_of if call.name == "copy" else call.func  # aten's own copy has no derivative
    if call.name == "index_put" and (call.kwargs.get("accumulate") or (len(call.args) > 3 and call.args[3])):
        raise Refusal("it adds to existing values", "add out of place")
    tensors = [t for t in tensors_in((call.args, call.kwargs)) if t.is_floating_point()]
    constants = call.name not in ("cat", "stack", "hstack", "vstack", "dstack") or not all(map(call.value, tensors))
    sample = _sample_of_cat(call, tensors) if call.name == "cat" else None
    onto = call.value(call.args[0]) if call.args else None
    if call.name == "where":
        sample = _sample_of_choice(call, tensors)
    elif (
        onto is not None and call.name in KEEPS_SHAPE and len(list(call.tape.depending((call.args, call.kwargs)))) == 1
    ):
        sample = onto.sample  # only constants are put in
    nonnegative = None
    if call.name in ("cat", "stack") and constants:
        nonnegative = False
    return record_index(
        call.tape, call.name, func, call.args, call.kwargs, constants=constants, sample=sample, nonnegative=nonnegative
    )


KEEPS_SHAPE = names_in(
    "masked_fill setitem tril triu index_put index_copy index_fill scatter slice_scatter select_scatter masked_scatter "
    "diagonal_scatter"
)


def _sample_of_choice(call: Call, tensors: list[Tensor]) -> Tensor | None:
    """Sample numbers of a choice between tensors element by element, where all those of the input have the same."""
    axes = max(t.ndim for t in tensors_in((call.args, call.kwargs)))
    samples = [value.sample for value in map(call.value, tensors) if value is not None]
    aligned = [s.reshape((1,) * (axes - s.ndim) + s.shape) for s in samples]
    same = all(s.shape == aligned[0].shape and torch.equal(s, aligned[0]) for s in aligned)
    return aligned[0] if same else None


def _sample_of_cat(call: Call, tensors: list[Tensor]) -> Tensor | None:
    """Sample numbers of a concatenation along an axis that has nothing to do with samples."""
    dim = call.kwargs.get("dim", call.kwargs.get("axis", call.args[1] if len(call.args) > 1 else 0))
    samples = [value.sample for value in map(call.value, tensors) if value is not None]
    same = all(s.shape == samples[0].shape and s.shape[dim] == 1 and torch.equal(s, samples[0]) for s in samples)
    return samples[0] if same else None


@operator(
    "pad constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d "
    "replication_pad3d"
)
def padding(call: Call) -> Any:
    """Zero (or constant) padding, or copies of values across the border."""

    def parameters(input: Tensor, pad: Any = (), mode: Any = "constant", value: Any = None, **_: Any) -> Any:
        return input, tuple(pad), mode

    tensor, pad, mode = call.bind(parameters)
    constants = call.name in ("pad", "constant_pad_nd") and mode not in ("reflect", "replicate", "circular")
    value = call.value(tensor)
    if value is None:
        raise Refusal("its padding depends on the input", "keep it constant")
    padded = len(pad) // 2
    sample = value.sample
    if any(size > 1 for size in sample.shape[sample.ndim - padded :]):
        raise Refusal("it pads along the sample axis", "pad along other axes")
    return record_index(
        call.tape, call.name, call.func, call.args, call.kwargs, constants=constants, sample=sample,
        nonnegative=value.nonnegative and (not constants or _is_zero(call)),
    )  # fmt: skip


def _is_zero(call: Call) -> bool:
    value = call.kwargs.get("value", call.args[3] if len(call.args) > 3 else None)
    if call.name == "constant_pad_nd":
        value = call.kwargs.get("value", call.args[2] if len(call.args) > 2 else 0)
    return value is None or value == 0


@operator(
    "max_pool1d max_pool2d max_pool3d _max_pool1d _max_pool2d _max_pool3d adaptive_max_pool1d adaptive_max_pool2d "
    "adaptive_max_pool3d max_pool1d_with_indices max_pool2d_with_indices max_pool3d_with_indices "
    "adaptive_max_pool1d_with_indices adaptive_max_pool2d_with_indices adaptive_max_pool3d_with_indices "
    "fractional_max_pool2d"
)
def max_pool(call: Call) -> Any:
    """The winner takes all, the first one if several are equal."""
    if call.name.startswith("fractional"):
        raise Refusal("its regions are random", "use max_pool2d")
    value = call.value(call.first)
    assert value is not None
    check_cells(call, value)
    return record_index(
        call.tape, call.name, call.func, call.args, call.kwargs, how="winner", sample=value.sample,
        nonnegative=value.nonnegative,
    )  # fmt: skip


def check_cells(call: Call, value: Value) -> None:
    """Raise if samples lie along the axes of cells, over which a pooling or interpolation runs."""
    digits = [int(c) for c in call.name if c.isdigit()]
    cells = digits[0] if digits else len(value.shape) - 2
    if any(size > 1 for size in value.sample.shape[len(value.shape) - cells :]):
        raise Refusal("samples lie along an axis of its cells", "keep the batch axis first")


@operator("max min amax amin maximum minimum fmax fmin")
def extremum(call: Call) -> Any:
    """The winner takes all; equal ones of ``amax`` and ``maximum`` share evenly."""
    tensors = [t for t in tensors_in((call.args, call.kwargs)) if t.is_floating_point()]
    values = [call.value(t) for t in tensors]
    known = [value for value in values if value is not None]
    if len(tensors) > 1:
        result = call.run()
        sample = broadcast_samples(call, [value.sample for value in known], result.ndim)
        return record_index(
            call.tape, call.name, call.func, call.args, call.kwargs, how="winner", sample=sample,
            constants=len(known) < len(values), born=_winners(call, tensors), values_needed=True,
            nonnegative=_winner_is_nonnegative(call, tensors),
        )  # fmt: skip
    dims = call.kwargs.get("dim", call.args[1] if len(call.args) > 1 else None)
    sample_out = reduced_sample(call, known[0], dims, bool(call.kwargs.get("keepdim", call.args[2:3] == (True,))))
    return record_index(
        call.tape, call.name, call.func, call.args, call.kwargs, how="winner", sample=sample_out,
        values_needed=True, nonnegative=known[0].nonnegative,
    )  # fmt: skip


def _winner_is_nonnegative(call: Call, tensors: list[Tensor]) -> bool:
    """Whether the larger (or smaller) of several values cannot be below 0, as in ``maximum(x, 0)``."""
    values = [call.value(tensor) for tensor in tensors]
    known = [bool((t >= 0).all()) if value is None else value.nonnegative for t, value in zip(tensors, values)]
    return all(known) if call.name in ("min", "minimum", "fmin") else any(known)


def _winners(call: Call, tensors: list[Tensor]) -> Callable[[], list[Tensor]]:
    """Of two tensors, one of them constant: 1 where the one of the input wins, 1/2 where both are equal, else 0."""
    signal, constant = (t.detach() for t in sorted(tensors, key=lambda t: call.value(t) is None))
    signal, constant = (signal, constant) if call.name in ("maximum", "fmax") else (-signal, -constant)
    share = (signal > constant).to(signal.dtype) + (signal == constant).to(signal.dtype) / 2
    return lambda: [share]


def reduced_sample(call: Call, value: Value, dims: Any, keepdim: bool) -> Tensor:
    """Sample numbers after a reduction over ``dims``; an error if that mixes samples."""
    axes = range(len(value.shape)) if dims is None or dims == () or dims == [] else dims
    axes = [a % len(value.shape) for a in ([axes] if isinstance(axes, int) else axes)]
    if any(value.sample.shape[a] > 1 for a in axes):
        raise Refusal(
            "it mixes samples, so there is no relevance of one sample",
            f"reduce over other axes than the sample's, {ALONE}",
        )
    if len(axes) == len(value.shape) and not keepdim:
        raise Refusal("it leaves no axis for samples", "name the axes to reduce over, all but the first")
    sample = value.sample
    for axis in sorted(axes, reverse=True) if not keepdim else ():
        sample = sample.squeeze(axis)
    return sample


def broadcast_samples(call: Call, samples: list[Tensor], ndim: int) -> Tensor:
    """Sample numbers of an element by element operation on several tensors; an error if they disagree."""
    aligned = [s.reshape((1,) * (ndim - s.ndim) + s.shape) for s in samples]
    longest = max(aligned, key=Tensor.numel)
    for other in aligned:
        if other is not longest and not (other.shape == longest.shape and torch.equal(other, longest)):
            one, two = torch.broadcast_tensors(longest, other)
            if not bool(((one == two) | (one < 0) | (two < 0)).all()):  # -1 is unknown, and yields
                raise Refusal(
                    "it mixes samples, so there is no relevance of one sample",
                    f"combine samples outside the network, {ALONE}",
                )
            longest = longest if bool((longest >= 0).all()) else torch.maximum(one, two)
    return longest


def refuse(call: Call, refusal: Refusal) -> Any:
    """Run the operation and mark its results as impossible to cross."""
    result = call.run()
    outputs = [t for t in tensors_in(result) if t.is_floating_point() or t.is_complex()]
    if not outputs:  # indices, conditions: constants for the explanation
        return result
    inputs = tuple(v for t in tensors_in((call.args, call.kwargs)) if (v := call.tape.value(t)) is not None)
    mark_refused(call.tape, call.name, inputs, outputs, refusal)
    return result


def mark_refused(tape: Tape, name: str, inputs: tuple[Value, ...], outputs: list[Tensor], refusal: Refusal) -> None:
    """Put results on the tape that relevance cannot cross to ``inputs``."""
    node = RefusedNode(name, inputs, outputs, refusal.reason, refusal.remedy)
    tape.add(node)
    unknown = torch.full((1,), -1, device=outputs[0].device)
    for index, tensor in enumerate(outputs):
        known = inputs[0].sample
        fits = known.ndim == tensor.ndim and all(k in (1, size) for k, size in zip(known.shape, tensor.shape))
        sample = known if fits else unknown.reshape([1] * tensor.ndim)
        tape.track(tensor, Value(node, index, tensor.shape, sample))


@operator("new_tensor")
def copy_like(call: Call) -> Any:
    """A copy of other data, with the type of the tensor whose method it is."""
    data = call.args[1] if len(call.args) > 1 else call.kwargs["data"]
    value = call.value(data)
    result = call.run()
    if value is None:
        if any(call.value(t) for t in tensors_in(data)):
            raise Refusal("it makes one tensor of several", "use torch.stack")
        return result
    return record_index(
        call.tape, call.name, lambda t: t.to(result.dtype, copy=True), (data,), {}, sample=value.sample
    )  # fmt: skip


# Reading shapes, positions and discrete facts: none of the input's values pass through these.
READS = names_in(
    "shape size dim ndim ndimension numel nelement dtype device layout is_cuda is_floating_point is_complex "
    "is_contiguous stride storage_offset is_leaf grad_fn grad requires_grad names is_sparse itemsize is_quantized "
    "is_nested is_mps is_meta is_cpu is_mkldnn element_size get_device __len__ _assert __bool__ __repr__ __format__ "
    "__hash__ is_nonzero __contains__ is_same_size output_nr _version argmax argmin argsort isnan isinf isfinite eq "
    "ne lt le gt ge __eq__ __ne__ __lt__ __le__ __gt__ __ge__ equal allclose isclose any all nonzero count_nonzero "
    "sign zeros_like ones_like empty_like rand_like randn_like full_like new_zeros new_ones new_empty new_full "
    "sym_size sym_numel sym_stride is_inference data_ptr untyped_storage storage _base is_pinned bool int "
    "long heaviside bucketize searchsorted signbit retain_grad is_signed _is_view is_shared is_tensor "
    "__dlpack_device__ histc bincount logical_not logical_and logical_or result_type can_cast "
    "_has_compatible_shallow_copy_type _assert_tensor_metadata"
)
# Values that leave torch or become Python numbers are constants afterwards; that is worth a note.
VALUE_READS = names_in("item tolist numpy __float__ __array__ __int__ __index__ __dlpack__")
