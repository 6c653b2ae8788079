"""Conditions on samples: ``confidence > 0.9 and label == 'el_nino'``, read safely.

Only comparisons, ``and``, ``or``, ``not``, names, numbers, strings and lists of them are understood; nothing is ever
executed as Python. Reading a condition needs neither numpy nor xarray.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from geoxai.errors import OptionError
from geoxai.names import unknown

if TYPE_CHECKING:
    import xarray as xr

_COMPARE: dict[type, Callable[[Any, Any], Any]] = {
    ast.Eq: lambda a, b: a == b,
    ast.NotEq: lambda a, b: a != b,
    ast.Lt: lambda a, b: a < b,
    ast.LtE: lambda a, b: a <= b,
    ast.Gt: lambda a, b: a > b,
    ast.GtE: lambda a, b: a >= b,
}
MAX_LENGTH, MAX_DEPTH = 10_000, 50
_ORDER = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)


@dataclass(frozen=True)
class Condition:
    """A parsed condition: its text, its expression, and the names in it."""

    text: str
    body: ast.expr
    names: tuple[str, ...]


def parse_condition(text: str) -> Condition:
    """Read a condition.

    Raises
    ------
    ValueError
        It is not a condition, or uses more than comparisons, ``and``, ``or``, ``not``, names and literals.
    """
    if len(text) > MAX_LENGTH:
        raise ValueError(f"a condition has at most {MAX_LENGTH} characters, this one has {len(text)}")
    try:
        body = ast.parse(text.strip(), mode="eval").body
        if _depth(body) > MAX_DEPTH:
            raise RecursionError
    except (RecursionError, MemoryError):  # MemoryError: the stack of Python's own parser
        raise ValueError(
            f"the condition {text[:40]!r}... is nested more than {MAX_DEPTH} deep; write it with fewer brackets and not"
        ) from None
    except (SyntaxError, ValueError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else error
        raise ValueError(f"{text!r} is not a condition ({reason})") from None
    _check(body, text, outermost=True)
    names = dict.fromkeys(node.id for node in ast.walk(body) if isinstance(node, ast.Name))
    return Condition(text, body, tuple(names))


def _depth(node: ast.AST) -> int:
    """How deeply expressions are nested."""
    depth, level = 0, [node]
    while level:
        depth, level = depth + 1, [child for parent in level for child in ast.iter_child_nodes(parent)]
    return depth


def evaluate(condition: Condition, variables: Mapping[str, xr.DataArray]) -> xr.DataArray:
    """Where a condition holds, as a boolean array over the dims of the variables it names.

    Variables with ``flag_meanings`` compare with class names. A comparison with NaN is false, except ``!=``.

    Raises
    ------
    OptionError
        An unknown variable or class, or a meaningless comparison.
    """
    import xarray as xr

    for name in condition.names:
        if name not in variables:
            raise OptionError(f"{condition.text!r}: {unknown('variable', name, variables)}")
    try:
        result = _value(condition.body, variables)
    except TypeError as error:
        raise OptionError(f"{condition.text!r} compares values that cannot be compared: {error}") from None
    if isinstance(result, bool):
        return xr.DataArray(result)
    if result.dtype != bool:
        raise OptionError(
            f"{condition.text!r} is neither true nor false", fix="compare it with something, as in 'x > 0'"
        )
    return result


def _check(node: ast.expr, text: str, outermost: bool = False) -> None:
    """Refuse by name any expression that a condition may not contain."""
    if isinstance(node, ast.BoolOp):
        for value in node.values:
            _check(value, text, outermost=True)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        _check(node.operand, text, outermost=True)
    elif isinstance(node, ast.Compare):
        operands = [node.left, *node.comparators]
        for operator, operand in zip(node.ops, operands[1:]):
            if isinstance(operator, ast.In | ast.NotIn) and not isinstance(operand, ast.List | ast.Tuple | ast.Set):
                raise ValueError(f"{text!r}: 'in' needs a list of values, as in 'month in [12, 1, 2]'")
            if not isinstance(operator, (ast.In, ast.NotIn, *_COMPARE)):
                raise ValueError(f"{text!r}: 'is' has no meaning here; write '=='")
        for operand in operands:
            _check(operand, text)
    elif isinstance(node, ast.List | ast.Tuple | ast.Set) and not outermost:
        for element in node.elts:
            _literal(element, text)
    elif isinstance(node, ast.Name):
        return
    elif outermost:
        raise ValueError(f"{text!r} is not a condition: {ast.unparse(node)!r} is neither true nor false")
    else:
        _literal(node, text)


def _literal(node: ast.expr, text: str) -> Any:
    """The value of a number, string, true or false."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        if isinstance(node.operand.value, int | float):
            return -node.operand.value
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float | str):
        return node.value
    raise ValueError(
        f"{text!r}: {ast.unparse(node)!r} is not allowed; a condition has comparisons, and, or, not, names and literals"
    )


def _value(node: ast.expr, variables: Mapping[str, xr.DataArray]) -> Any:
    if isinstance(node, ast.Name):
        return variables[node.id]
    if isinstance(node, ast.BoolOp):
        parts = [_truth(value, variables) for value in node.values]
        result = parts[0]
        for part in parts[1:]:
            result = result & part if isinstance(node.op, ast.And) else result | part
        return result
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        value = _truth(node.operand, variables)
        return (not value) if isinstance(value, bool) else ~value
    if isinstance(node, ast.Compare):
        operands = [node.left, *node.comparators]
        result = None
        for left, operator, right in zip(operands, node.ops, operands[1:]):
            part = _comparison(left, operator, right, variables)
            result = part if result is None else result & part
        return result
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        return [_literal(element, "") for element in node.elts]
    return _literal(node, "")


def _truth(node: ast.expr, variables: Mapping[str, xr.DataArray]) -> Any:
    value = _value(node, variables)
    if not isinstance(value, bool) and value.dtype != bool:
        raise OptionError(f"{ast.unparse(node)!r} is neither true nor false", fix="compare it with something")
    return value


def _comparison(left: ast.expr, operator: ast.cmpop, right: ast.expr, variables: Mapping[str, xr.DataArray]) -> Any:
    a, b = _value(left, variables), _value(right, variables)
    a, b = _flags(left, a, b, operator), _flags(right, b, a, operator)
    if isinstance(operator, ast.In | ast.NotIn):
        found = a.isin(b) if hasattr(a, "isin") else a in b
        wanted = isinstance(operator, ast.In)
        return found == wanted
    return _COMPARE[type(operator)](a, b)


def _flags(node: ast.expr, value: Any, other: Any, operator: ast.cmpop) -> Any:
    """A flag variable as class names if it is compared with strings."""
    import numpy as np

    from geoxai.statistics.flags import flag_classes

    strings = [o for o in (other if isinstance(other, list) else [other]) if isinstance(o, str)]
    if not hasattr(value, "dims") or not strings:
        return value
    classes = flag_classes(value)
    if not classes:
        return value
    for name in strings:
        if name not in classes:
            raise OptionError(f"{ast.unparse(node)!r} has {unknown('class', name, classes)}")
    if isinstance(operator, _ORDER):
        raise OptionError(f"classes of {ast.unparse(node)!r} have no order", fix="use == , != or in")
    names = np.full(value.shape, "", dtype=object)
    for name, number in classes.items():
        names[np.asarray(value.values) == number] = name
    return value.copy(data=names)
