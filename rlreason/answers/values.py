r"""The value of an expression as a name, so that votes are counted without asking about every pair of answers.

Two expressions have one name where math-verify finds them equal: "x + 1" and "1 + x", "2\sqrt{2}" and "\sqrt{8}",
"x = 5" and "(5)". Instead of comparing, an expression with symbols is evaluated where each symbol has a number of its
own: equal expressions have equal values there, and it would be a coincidence of thirty digits if others had.

This runs beside math-verify in the subprocess of :mod:`rlreason.answers.worker` and imports SymPy at its first use.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from rlreason.answers.arithmetic import EQUALS

_EVALUATED_DIGITS = 40
_COMPARED_DIGITS = 15
_SEVERAL = re.compile(r"[,;]|\\text|\\(?:q?quad|lor|land)\b|\b(?:or|and)\b")


def valued_part(text: str, parsed: Callable[[str], Any]) -> Any:
    """The part of an answer that has its value: the right side of "x = 5" and of "9 + 9 = 18", otherwise all of it.

    A false equation, such as "5 - 7 = 7", has none.

    Args:
        text: An expression, an equation or several, in LaTeX without dollar signs.
        parsed: Reads LaTeX; returns a SymPy expression, or None.

    Returns:
        What `parsed` returns; None where it cannot read the text.
    """
    sides = EQUALS.split(text)
    if len(sides) > 1 and _SEVERAL.search(text) is None:
        first, last = parsed(sides[0]), parsed(sides[-1])
        if first is not None and last is not None and (_is_unknown(first) or not first.free_symbols):
            if not first.free_symbols and not last.free_symbols and value_name(first) != value_name(last):
                return None
            return first if _is_unknown(last) and not first.free_symbols else last
    return parsed(text)


def value_name(expression: Any) -> str:
    """A name of the value that a SymPy expression has.

    Returns:
        An exact number as an integer or a reduced fraction, with "%" behind it for a percentage; another name for
        anything else.

    Raises:
        ValueError: It has none, such as 1/0.
        Exception: Of any kind, where SymPy cannot say.
    """
    from sympy import And, Eq, FiniteSet, Interval, MatrixBase, Or, Set, Tuple
    from sympy.core.relational import Relational

    if isinstance(expression, Eq):
        return _equation_name(expression)
    if isinstance(expression, Relational):
        return _inequality_name(expression)
    if isinstance(expression, FiniteSet):
        unknowns = {item.lhs for item in expression.args if isinstance(item, Eq) and _is_unknown(item.lhs)}
        # "x = 1 or x = 2" says what "1, 2" says; "x = 1, y = 2" says more.
        names = [
            f"{item.lhs} = {value_name(item.rhs)}" if len(unknowns) > 1 and isinstance(item, Eq) else value_name(item)
            for item in expression.args
        ]
        return f"{{{'; '.join(sorted(names))}}}"
    if isinstance(expression, Interval):
        ends = (expression.start, expression.end, expression.left_open, expression.right_open)
        return f"interval({'; '.join([value_name(ends[0]), value_name(ends[1]), *map(str, ends[2:])])})"
    if isinstance(expression, Tuple):
        return f"({'; '.join(map(value_name, expression.args))})"
    if isinstance(expression, MatrixBase):
        return f"matrix{expression.shape}({'; '.join(map(value_name, expression.flat()))})"
    if isinstance(expression, (And, Or)) or (isinstance(expression, Set) and expression.args):
        return f"{type(expression).__name__}({'; '.join(sorted(map(value_name, expression.args)))})"
    return _number_name(expression)


def are_near_only(first: Any, second: Any) -> bool:
    """Whether two SymPy expressions that math-verify finds equal differ as numbers, which it rounds to some decimals.

    Rational numbers are compared exactly, others to fifteen digits, however small; a decimal beside an irrational
    number, such as 1.414214 beside the root of 2, is left to math-verify.
    """
    pairs = list(zip(_numbers(first), _numbers(second), strict=False))
    return any(_differ(one, other) for one, other in pairs) if len(pairs) == len(_numbers(second)) else False


def _numbers(expression: Any) -> list[Any]:
    """The numbers that an answer states: itself, the right side of "x = 5", or those of a set or a tuple."""
    from sympy import Eq, Expr, FiniteSet, Tuple, default_sort_key

    if isinstance(expression, Eq) and _is_unknown(expression.lhs):
        return _numbers(expression.rhs)
    if isinstance(expression, FiniteSet):
        return [number for item in sorted(expression.args, key=default_sort_key) for number in _numbers(item)]
    if isinstance(expression, Tuple):
        return [number for item in expression.args for number in _numbers(item)]
    return [expression] if isinstance(expression, Expr) and not expression.free_symbols else []


def _differ(first: Any, second: Any) -> bool:
    from sympy import Float

    names = value_name(first), value_name(second)
    if names[0] == names[1] or any(name.endswith("%") for name in names):
        return False
    is_rational = [not name.startswith(": ") for name in names]
    if any(is_rational) and not all(is_rational):
        rational, other = (first, second) if is_rational[0] else (second, first)
        size = _evaluated(other, 1)
        return not rational.has(Float) and abs(_evaluated(rational, 1) - size) > abs(size) / 10**_COMPARED_DIGITS
    return True


def _equation_name(equation: Any) -> str:
    """By the value of its right side, or of its only unknown; otherwise the same for all its multiples."""
    from sympy import Poly, PolynomialError

    if _is_unknown(equation.lhs) or not equation.free_symbols:
        return value_name(equation.rhs)
    difference = equation.lhs.doit() - equation.rhs.doit()
    if len(difference.free_symbols) == 1:
        try:
            polynomial = Poly(difference, *difference.free_symbols)
        except PolynomialError:
            polynomial = None
        if polynomial is not None and polynomial.degree() == 1:
            slope, constant = polynomial.all_coeffs()
            return value_name(-constant / slope)
    return f"equation({_ratios(difference)})"


def _inequality_name(relation: Any) -> str:
    from sympy import StrictGreaterThan, StrictLessThan

    if len(relation.free_symbols) == 1:
        try:
            return value_name(relation.doit().as_set())
        except Exception:  # of many kinds, where SymPy cannot solve it
            pass
    strict = isinstance(relation, (StrictGreaterThan, StrictLessThan))
    difference = relation.gts.doit() - relation.lts.doit() if hasattr(relation, "gts") else relation.lhs - relation.rhs
    kind = "above" if hasattr(relation, "gts") else type(relation).__name__
    return f"{kind}({strict}; {_sign(difference)}; {_ratios(difference)})"


def _number_name(expression: Any) -> str:
    from sympy import Float, Mul, Rational, Symbol, UnevaluatedExpr, expand, nan, simplify, zoo

    if isinstance(expression, Mul) and expression.args[-1] == UnevaluatedExpr(Rational(1, 100)):
        return f"{value_name(Mul(*expression.args[:-1]))}%"
    if isinstance(expression, Symbol):
        return expression.name.lower() if len(expression.name) > 1 else str(expression.name)
    value = expand(expression.doit())
    if value.has(nan, zoo):
        raise ValueError("no value")
    if not value.is_Rational and not isinstance(value, Float):
        value = simplify(value)
    if isinstance(value, Float):
        value = Rational(str(value))
    if value.is_Rational:
        return str(value)
    places = (1, 2) if value.free_symbols else (1,)
    symbols = sorted(map(str, value.free_symbols))
    return f"{' '.join(symbols)}: {', '.join(_digits(_evaluated(value, place)) for place in places)}"


def _is_unknown(expression: Any) -> bool:
    """Whether an expression only names something: x, AB or f(x)."""
    from sympy import Mul, Symbol
    from sympy.core.function import AppliedUndef

    if isinstance(expression, Mul):
        return all(isinstance(factor, Symbol) for factor in expression.args)
    return isinstance(expression, (Symbol, AppliedUndef))


def _ratios(difference: Any) -> str:
    """A name that all multiples of a difference have."""
    first = _evaluated(difference, 1)
    others = [_evaluated(difference, number) for number in (2, 3)]
    symbols = " ".join(sorted(map(str, difference.free_symbols)))
    return f"{symbols}: {', '.join(_digits(other / first) for other in others)}"


def _sign(difference: Any) -> str:
    from sympy import re as real_part
    from sympy import sign

    return str(sign(real_part(_evaluated(difference, 1))))


def _evaluated(expression: Any, place: int) -> Any:
    from sympy import N

    values = {symbol: _number_for(symbol.name, place) for symbol in expression.free_symbols}
    return N(expression.subs(values).doit(), _EVALUATED_DIGITS, chop=True)


def _digits(value: Any) -> str:
    from sympy import N

    return str(N(value, _COMPARED_DIGITS))


def _number_for(name: str, place: int) -> Any:
    """Of either sign and between 1 and 3, so that roots and powers neither vanish nor grow large."""
    from sympy import Rational

    drawn = int.from_bytes(sha256(f"{name}/{place}".encode()).digest()[:8], "big")
    size = 1 + Rational(drawn % 10**12, 5 * 10**11)
    return -size if (drawn >> 60) % 2 else size
