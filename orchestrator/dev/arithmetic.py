"""What models are bad at: exact arithmetic and units."""

import ast
import math
from collections.abc import Callable, Mapping
from typing import Any, cast

Number = int | float

LONGEST_EXPRESSION = 500
LARGEST_BITS = 1024
"""Whole numbers may not grow beyond this many bits: ``9**9**9`` would take all memory."""

BINARY: Mapping[type[ast.operator], Callable[[Number, Number], Number]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
    ast.FloorDiv: lambda a, b: a // b,
    ast.Mod: lambda a, b: a % b,
}

FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "abs": abs,
    "ceil": math.ceil,
    "cos": math.cos,
    "exp": math.exp,
    "floor": math.floor,
    "log": math.log,
    "log10": math.log10,
    "max": max,
    "min": min,
    "round": round,
    "sin": math.sin,
    "sqrt": math.sqrt,
    "tan": math.tan,
}

CONSTANTS = {"pi": math.pi, "e": math.e}

KELVIN_AT_ZERO_CELSIUS = 273.15

UNITS: Mapping[str, tuple[str, float, float]] = {
    # name: (what it measures, factor to the base unit, offset to the base unit)
    **{name: ("length", factor, 0.0) for name, factor in {
        "m": 1.0, "km": 1000.0, "cm": 0.01, "mm": 0.001, "mi": 1609.344, "ft": 0.3048, "in": 0.0254,
        "yd": 0.9144, "nmi": 1852.0,
    }.items()},
    **{name: ("mass", factor, 0.0) for name, factor in {
        "kg": 1.0, "g": 0.001, "t": 1000.0, "lb": 0.45359237, "oz": 0.028349523125,
    }.items()},
    **{name: ("time", factor, 0.0) for name, factor in {
        "s": 1.0, "ms": 0.001, "min": 60.0, "h": 3600.0, "d": 86400.0,
    }.items()},
    **{name: ("speed", factor, 0.0) for name, factor in {
        "m/s": 1.0, "km/h": 1 / 3.6, "mph": 0.44704, "kn": 1852 / 3600,
    }.items()},
    **{name: ("data", factor, 0.0) for name, factor in {
        "B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30,
    }.items()},
    "K": ("temperature", 1.0, 0.0),
    "C": ("temperature", 1.0, KELVIN_AT_ZERO_CELSIUS),
    "F": ("temperature", 5 / 9, KELVIN_AT_ZERO_CELSIUS - 32 * 5 / 9),
}  # fmt: skip
"""International yard and pound (1959); the rest is SI and exact by definition."""


def calculate(expression: str) -> Number:
    """The value of an arithmetic expression; nothing else is evaluated.

    Raises:
        ValueError: It is no such expression, or its value is no real, finite number.
    """
    if len(expression) > LONGEST_EXPRESSION:
        raise ValueError(f"the expression is longer than {LONGEST_EXPRESSION} characters")
    try:
        value = _value(ast.parse(expression.strip().replace("^", "**"), mode="eval").body)
    except SyntaxError:
        raise ValueError(f"{expression!r} is no arithmetic expression") from None
    except (ArithmeticError, TypeError, RecursionError, MemoryError) as error:
        raise ValueError(f"{expression!r} cannot be calculated: {error}") from None
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{expression!r} is not finite")
    return value


def convert(value: float, source: str, target: str) -> float:
    """A quantity in another unit of the same kind.

    Raises:
        ValueError: A unit is unknown, or the two measure different things.
    """
    for unit in (source, target):
        if unit not in UNITS:
            raise ValueError(f"unknown unit {unit!r}; known are {', '.join(UNITS)}")
    (measures, factor, offset), (measures_too, target_factor, target_offset) = UNITS[source], UNITS[target]
    if measures != measures_too:
        raise ValueError(f"{source} measures {measures} and {target} {measures_too}")
    return (value * factor + offset - target_offset) / target_factor


def _value(node: ast.expr) -> Number:
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            return _bounded(value)
        case ast.Name(id=name) if name in CONSTANTS:
            return CONSTANTS[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _power(_value(left), _value(right))
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in BINARY:
            return _bounded(BINARY[type(sign)](_value(left), _value(right)))
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in FUNCTIONS:
            return _bounded(FUNCTIONS[name](*(_value(argument) for argument in arguments)))
        case _:
            raise ValueError(
                f"{ast.unparse(node)!r} is no number; write numbers, + - * / // % **, brackets and "
                f"{', '.join([*FUNCTIONS, *CONSTANTS])}"
            )


def _power(base: Number, exponent: Number) -> Number:
    if isinstance(base, int) and base.bit_length() * abs(exponent) > LARGEST_BITS:
        base = float(base)
    power = cast("object", base**exponent)
    if isinstance(power, complex):
        raise ValueError(f"{base} to the power of {exponent} is no real number")
    return cast("Number", power)


def _bounded(value: Number) -> Number:
    if isinstance(value, int) and value.bit_length() > LARGEST_BITS:
        raise ValueError("a number is too large")
    return value
