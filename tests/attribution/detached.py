"""A second truth, for whole networks: LRP-0 is gradient x input of the same network with its gates detached.

Nothing of the package is used here. The network runs under torch's own derivatives, which know every view and every
in-place write; only what LRP-0 does not take a derivative of is replaced by a product with a detached factor:
activations ``f(z)`` by ``z * (f(z) / z)``, products of a signal with a gate, attention weights, the standard deviation
of norms, recurrent gates. What is not in the lists below is an error, so that no network passes by a plain gradient.

It holds where no rule but zero (or epsilon with a tiny eps) is used, biases absorb, and activations are 0 at 0.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary


def names(text):
    return frozenset(text.split())


# z -> f(z): relevance passes
ACTIVATIONS = names(
    "relu relu6 sigmoid hardsigmoid softplus leaky_relu elu selu celu gelu silu mish tanh hardtanh hardswish softsign "
    "logsigmoid log_sigmoid tanhshrink softshrink hardshrink threshold prelu clamp clamp_min clamp_max clip atan "
    "arctan asinh arcsinh sinh erf expm1 log1p abs absolute square sqrt pow"
)
# as they are: linear in the input for fixed weights, or a choice of values
PLAIN = names(
    "linear addmm conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution avg_pool1d "
    "avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d _adaptive_avg_pool2d "
    "max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d "
    "max_pool2d_with_indices max min amax amin maximum minimum fmax fmin sort msort topk kthvalue median interpolate "
    "upsample_nearest2d upsample_bilinear2d upsample_bicubic2d grid_sample unfold fold im2col col2im max_unpool2d "
    "batch_norm native_batch_norm pad constant_pad_nd reflection_pad2d replication_pad2d mean sum add sub rsub neg "
    "cumsum diff lerp addcmul index_add scatter_add nansum cat concat concatenate stack hstack vstack dstack "
    "column_stack where "
    "masked_fill setitem copy tril triu index_put index_copy index_fill scatter slice_scatter select_scatter "
    "masked_scatter diagonal_scatter reshape view flatten unflatten ravel permute transpose t T mT H mH movedim "
    "moveaxis swapaxes swapdims squeeze unsqueeze expand expand_as broadcast_to view_as reshape_as contiguous clone "
    "narrow select slice getitem split chunk tensor_split hsplit vsplit dsplit unbind split_with_sizes index_select "
    "gather take take_along_dim flip fliplr flipud roll rot90 repeat tile repeat_interleave diagonal as_strided "
    "masked_select index alias channel_shuffle pixel_shuffle pixel_unshuffle atleast_1d atleast_2d atleast_3d "
    "broadcast_tensors diag diag_embed to type double float to_copy nan_to_num dropout feature_dropout alpha_dropout "
    "dropout2d lift_fresh addbmm baddbmm addmv positive requires_grad zero fill _unsafe_view detach_copy new_tensor"
)
READS = names(
    "shape size dim ndim numel dtype device layout is_floating_point is_complex is_contiguous stride storage_offset "
    "requires_grad __len__ __bool__ isnan isinf isfinite eq ne lt le gt ge __eq__ __ne__ __lt__ __le__ __gt__ __ge__ "
    "equal any all argmax argmin argsort zeros_like ones_like empty_like full_like new_zeros new_ones new_empty "
    "new_full item tolist is_cuda is_leaf grad_fn is_sparse is_quantized is_nested get_device data_ptr bool int long "
    "sign _assert_tensor_metadata logical_not logical_and logical_or sym_size __contains__ __repr__ __format__ "
    "is_mkldnn is_same_size is_meta"
)
GATES = names("softmax softmin exp rsqrt reciprocal rsqrt_ _softmax sigmoid hardsigmoid")
SAVING = names("amax amin")
CARRY_GATES = names(
    "reshape view flatten unflatten permute transpose squeeze unsqueeze expand expand_as broadcast_to contiguous "
    "clone narrow select getitem split chunk unbind mean sum avg_pool2d adaptive_avg_pool2d interpolate cat stack to "
    "float double masked_fill mT T t movedim index_select gather neg"
)
DUNDER = {
    "__radd__": "add", "__add__": "add", "__iadd__": "add_", "__sub__": "sub", "__rsub__": "rsub", "__isub__": "sub_",
    "__mul__": "mul", "__rmul__": "mul", "__imul__": "mul_", "__truediv__": "div", "__rtruediv__": "rdiv",
    "__itruediv__": "div_", "__neg__": "neg", "__matmul__": "matmul", "__rmatmul__": "rmatmul", "__pow__": "pow",
    "__getitem__": "getitem", "__setitem__": "setitem_",
    "subtract": "sub", "multiply": "mul", "divide": "div", "true_divide": "div", "negative": "neg", "mm": "matmul",
    "bmm": "matmul", "mv": "matmul", "_to_copy": "to",
}  # fmt: skip


def name_of(func):
    """(name, whether in place) of a torch function or aten operation."""
    if isinstance(func, torch._ops.OpOverload):
        name = func._schema.name.split("::")[-1]
    else:
        name = func.__name__
        if name in ("__get__", "__set__"):
            name = func.__self__.__name__ + ("" if name == "__get__" else ".set_")
    name = DUNDER.get(name, name)
    in_place = name.endswith("_") and not name.endswith("__")
    return DUNDER.get(name.rstrip("_"), name.rstrip("_")) if in_place else name, in_place


class Detached(TorchFunctionMode):
    """Runs a network so that its gradient x input is LRP-0."""

    def __init__(self):
        super().__init__()
        self.gates = WeakTensorKeyDictionary()
        self.made_of = WeakTensorKeyDictionary()  # tensor -> what it is a function of, element by element

    def __torch_function__(self, func, types, args=(), kwargs=None):
        with torch.inference_mode(False), torch.enable_grad():
            return self.run(func, args, dict(kwargs or {}))

    def run(self, func, args, kwargs):
        name, in_place = name_of(func)
        args, kwargs = plain(args), plain(kwargs)  # weights are no signals
        if not any(t.requires_grad for t in tensors((args, kwargs))) or name in READS:
            return func(*args, **kwargs)
        if name in ("detach", "data"):  # what is explained is the forward pass
            return args[0].view_as(args[0])
        if name in ACTIVATIONS:
            return self.activation(func, name, in_place, args, kwargs)
        for key, own in (("x1", "input"), ("x2", "other"), ("axis", "dim"), ("keepdims", "keepdim")):
            if key in kwargs:
                kwargs[own] = kwargs.pop(key)
        if name in GATES or hasattr(self, "of_" + name):
            args = (*args, *(kwargs.pop(key) for key in ("input", "other", "mat2") if key in kwargs))
        if name in SAVING:
            result = func(*args, **kwargs)  # torch keeps it for the derivative, and networks may write into it
            return type(result)(t.clone() for t in result) if isinstance(result, tuple) else result.clone()
        if "out" in kwargs and not hasattr(self, "of_" + name):
            return kwargs.pop("out").copy_(func(*args, **kwargs))
        special = getattr(self, "of_" + name, None)
        if special is not None:
            return special(func, in_place, *args, **kwargs)
        if name in GATES:
            return self.gate(func(*args, **kwargs).detach(), args[0])
        if name not in PLAIN:
            raise NotImplementedError(f"{name} is not known to the independent check")
        result = func(*args, **kwargs)
        signals = [t for t in tensors((args, kwargs)) if t.requires_grad or t in self.gates]
        if name in CARRY_GATES and all(t in self.gates for t in signals):
            for t in tensors(result):
                self.gates[t] = True
        return result

    def gate(self, result, source):
        """A tensor that stands; it goes on to be known as depending on the input."""
        result = result.requires_grad_()
        self.gates[result] = True
        self.made_of[result] = self.made_of.get(source, source)
        return result

    def activation(self, func, name, in_place, args, kwargs):
        x = args[0] if args else kwargs.pop("input")
        rest = args[1:]
        write = in_place or kwargs.pop("inplace", False)
        out = kwargs.pop("out", None)
        if getattr(func, "__module__", "") == "torch.nn.functional" and any(a is True for a in rest):
            write, rest = True, tuple(False if a is True else a for a in rest)  # F.relu(x, True)
        free = getattr(torch.Tensor, name, None) if in_place else func
        free = free or getattr(F, name)
        z = x.detach().clone()
        value = free(z, *rest, **kwargs)
        ratio = torch.where(z == 0, 0, value / torch.where(z == 0, 1, z))
        if write:
            x.mul_(ratio)
            result = x
        else:
            result = x * ratio if out is None else out.copy_(x * ratio)
        self.made_of[result] = self.made_of.get(x, x)
        if name in GATES:
            self.gates[result] = True
        return result

    def parts(self, func, in_place, x, *args, **kwargs):
        """Views that torch lets nobody write into, as views that it does."""
        found = func(x.detach(), *args, **kwargs)
        return tuple(x.as_strided(t.size(), t.stride(), t.storage_offset()) for t in found)

    of_chunk = of_split = of_unbind = of_tensor_split = of_split_with_sizes = of_unsafe_chunk = of_unsafe_split = parts

    def signal_and_gate(self, a, b):
        """Which of two factors stands."""
        signals = [isinstance(t, torch.Tensor) and t.requires_grad for t in (a, b)]
        if not all(signals):
            return None
        if self.made_of.get(b, b) is self.made_of.get(a, a):
            return (a, b) if b in self.made_of else (b, a)
        gates = a in self.gates, b in self.gates
        if gates[0] == gates[1]:
            raise NotImplementedError("a product of two signals, neither or both of them gates")
        return (b, a) if gates[0] else (a, b)

    def of_mul(self, func, in_place, a, b, out=None):
        if out is not None:
            return out.copy_(self.of_mul(func, in_place, a, b))
        kwargs = {}
        found = self.signal_and_gate(a, b)
        if found is None:
            result = func(a, b, **kwargs)
            if all(t in self.gates for t in (a, b) if isinstance(t, torch.Tensor) and t.requires_grad):
                self.gates[result] = True
            return result
        if in_place:
            return a.mul_(b.detach()) if found[0] is a else a.copy_(a.detach() * b)
        return torch.mul(found[0], found[1].detach(), **kwargs)

    def of_div(self, func, in_place, a, b, **kwargs):
        return func(a, b.detach() if isinstance(b, torch.Tensor) and isinstance(a, torch.Tensor) else b, **kwargs)

    def of_var(self, func, in_place, x, *args, **kwargs):
        return self.gate(func(x.detach(), *args, **kwargs), x)

    of_std = of_norm = of_linalg_vector_norm = of_var

    def of_normalize(self, func, in_place, x, p=2.0, dim=1, eps=1e-12, out=None):
        return x / x.detach().norm(p, dim, True).clamp_min(eps)

    def of_matmul(self, func, in_place, a, b, **kwargs):
        if all(t.requires_grad and t not in self.gates for t in (a, b)):
            return func(a.detach(), b.detach(), **kwargs)  # scores of an attention: only a softmax may come of them
        found = self.signal_and_gate(a, b)
        if found is None:
            return func(a, b, **kwargs)
        return func(a.detach() if found[1] is a else a, b.detach() if found[1] is b else b, **kwargs)

    of_rmatmul = of_matmul

    def of_einsum(self, func, in_place, equation, *operands, **kwargs):
        operands = list(operands[0]) if isinstance(operands[0], list | tuple) else list(operands)
        if len(operands) == 2 and (found := self.signal_and_gate(*operands)) is not None:
            operands = [t.detach() if found[1] is t else t for t in operands]
        return func(equation, *operands)

    def of_tensordot(self, func, in_place, a, b, *args, **kwargs):
        return func(a, b, *args, **kwargs)

    def of_layer_norm(self, func, in_place, x, shape, weight=None, bias=None, eps=1e-5):
        return affine(standard(x, range(x.ndim - len(shape), x.ndim), eps), weight, bias)

    def of_rms_norm(self, func, in_place, x, shape, weight=None, eps=None):
        eps = torch.finfo(x.dtype).eps if eps is None else eps
        root = x.detach().square().mean(tuple(range(x.ndim - len(shape), x.ndim)), keepdim=True).add(eps).sqrt()
        return affine(x / root, weight, None)

    def of_group_norm(self, func, in_place, x, groups, weight=None, bias=None, eps=1e-5):
        grouped = x.reshape(len(x), groups, -1)
        return channels_affine(standard(grouped, (2,), eps).reshape(x.shape), weight, bias)

    def of_instance_norm(self, func, in_place, x, running_mean=None, running_var=None, weight=None, bias=None,
                         use_input_stats=True, momentum=0.1, eps=1e-5, *_):  # fmt: skip
        if not use_input_stats:
            return func(x, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)
        return channels_affine(standard(x, range(2, x.ndim), eps), weight, bias)

    def of_glu(self, func, in_place, x, dim=-1):
        signal, gate = x.chunk(2, dim)
        return signal * gate.sigmoid().detach()

    def of_scaled_dot_product_attention(self, func, in_place, q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False,
                                        scale=None, enable_gqa=False):  # fmt: skip
        scores = q.detach() @ k.detach().mT * (q.shape[-1] ** -0.5 if scale is None else scale)
        if is_causal:
            attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        if attn_mask is not None:
            boolean = attn_mask.dtype == torch.bool
            scores = scores.masked_fill(~attn_mask, -torch.inf) if boolean else scores + attn_mask
        return scores.softmax(-1) @ v

    def of_multi_head_attention_forward(self, func, in_place, query, key, value, size, heads, weight, bias, bias_k,
                                        bias_v, zero_attn, dropout, out_weight, out_bias, **options):  # fmt: skip
        if options.get("attn_mask") is not None or options.get("key_padding_mask") is not None:
            raise NotImplementedError("masks of multi-head attention")
        projected = [F.linear(t, w, b) for t, w, b in zip((query, key, value), weight.chunk(3), bias.chunk(3))]
        q, k, v = (t.unflatten(-1, (heads, -1)).movedim(0, -2) for t in projected)
        weights = (q.detach() @ k.detach().mT * q.shape[-1] ** -0.5).softmax(-1)
        mixed = (weights @ v).movedim(-2, 0).flatten(-2)
        return F.linear(mixed, out_weight, out_bias), weights.mean(-3)

    def of_lstm(self, func, in_place, x, states, weights, biases, layers, dropout, train, both, batch_first):
        def cell(x, state, w, u, b, c):
            h, memory = state
            i, f, g, o = (F.linear(x, w, b) + F.linear(h, u, c)).chunk(4, -1)
            i, f, o = (gate.detach().sigmoid() for gate in (i, f, o))
            memory = f * memory + i * through(torch.tanh, g)
            return o * through(torch.tanh, memory), memory

        return recurrent(cell, x, states, weights, biases, layers, both, batch_first)

    def of_gru(self, func, in_place, x, state, weights, biases, layers, dropout, train, both, batch_first):
        def cell(x, state, w, u, b, c):
            (h,) = state
            of_x, of_h = F.linear(x, w, b).chunk(3, -1), F.linear(h, u, c).chunk(3, -1)
            r, z = ((of_x[k] + of_h[k]).detach().sigmoid() for k in (0, 1))
            return (((1 - z) * through(torch.tanh, of_x[2] + r * of_h[2]) + z * h),)

        return recurrent(cell, x, (state,), weights, biases, layers, both, batch_first)


def tensors(args):
    if isinstance(args, torch.Tensor):
        yield args
    elif isinstance(args, list | tuple):
        for item in args:
            yield from tensors(item)
    elif isinstance(args, dict):
        yield from tensors(list(args.values()))


def plain(args):
    if isinstance(args, nn.Parameter):
        return args.detach()
    if type(args) in (list, tuple):
        return type(args)(plain(item) for item in args)
    return {key: plain(item) for key, item in args.items()} if type(args) is dict else args


def through(function, z):
    """An activation that is 0 at 0."""
    fixed = z.detach()
    return z * torch.where(fixed == 0, 0, function(fixed) / torch.where(fixed == 0, 1, fixed))


def standard(x, axes, eps):
    axes = tuple(axes)
    if not x.numel():
        return x
    deviation = (x.detach().var(axes, correction=0, keepdim=True) + eps).sqrt()
    return (x - x.mean(axes, keepdim=True)) / deviation


def affine(x, weight, bias):
    x = x if weight is None else x * weight
    return x if bias is None else x + bias


def channels_affine(x, weight, bias):
    shape = (1, -1, *[1] * (x.ndim - 2))
    return affine(x, None if weight is None else weight.reshape(shape), None if bias is None else bias.reshape(shape))


def recurrent(cell, x, states, weights, biases, layers, both, batch_first):
    if not biases:
        raise NotImplementedError("recurrent layers without biases")
    steps = list(x.unbind(1 if batch_first else 0))
    ends = []
    directions = 2 if both else 1
    for layer in range(layers):
        found = []
        for direction in range(directions):
            place = layer * directions + direction
            state = tuple(s[place] for s in states)
            outputs = []
            for step in reversed(steps) if direction else steps:
                state = cell(step, state, *weights[4 * place : 4 * place + 4])
                outputs.append(state[0])
            found.append(outputs[::-1] if direction else outputs)
            ends.append(state)
        steps = [torch.cat(parts, -1) if both else parts[0] for parts in zip(*found)]
    return (torch.stack(steps, 1 if batch_first else 0), *(torch.stack(e) for e in zip(*ends)))


def relevance(network, x, coefficients):
    """LRP-0 of ``sum(coefficients * output)`` for inputs in float64: a tensor, or a tuple for several inputs."""
    inputs = x if isinstance(x, tuple) else (x,)
    leaves = [a.detach().clone().requires_grad_() for a in inputs]
    with torch.inference_mode(False), torch.enable_grad():
        copies = [leaf * 1 for leaf in leaves]  # networks may write in place into their input
        with Detached():
            output = network(*copies)
        found = torch.autograd.grad((output * coefficients).sum(), leaves, allow_unused=True)
    maps = tuple(leaf.detach() * (0 if g is None else g) for leaf, g in zip(leaves, found))
    return maps if isinstance(x, tuple) else maps[0]


def check(network, x, target=0, tolerance=1e-9, **options):
    """LRP-0 of one output per sample by the engine equals gradient x input with gates detached, and the account closes.

    Returns the engine's result. ``target`` is an index or index tuple into one sample's output.
    """
    from geoxai.attribution import attribute

    result = attribute(network, x, rules="zero", target=target, start="output", score="logit", **options)
    with torch.no_grad():
        output = network(*(a.clone() for a in x)) if isinstance(x, tuple) else network(x.clone())
    coefficients = torch.zeros_like(output.detach())
    coefficients[(slice(None), *target) if isinstance(target, tuple) else (slice(None), target)] = 1
    wanted = relevance(network, x, coefficients)
    for one, other in zip(*((m,) if isinstance(m, torch.Tensor) else m for m in (result.relevance, wanted))):
        scale = max(float(other.abs().max()), 1e-30)
        off = float((one - other).abs().max()) / scale
        assert off < tolerance, f"the map is off by {off:.2g} of its largest value"
    value = (output.detach() * coefficients).flatten(1).sum(1).double()
    torch.testing.assert_close(result.target_value, value, rtol=tolerance, atol=tolerance)
    maps = result.relevance if isinstance(result.relevance, tuple) else (result.relevance,)
    account = sum(m.flatten(1).sum(1).double() for m in maps) + result.bias + result.stabiliser + result.lost
    torch.testing.assert_close(account, value, rtol=10 * tolerance, atol=10 * tolerance)
    return result
