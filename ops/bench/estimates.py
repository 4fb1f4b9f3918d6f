"""A figure with its interval, as the benches print it."""

from __future__ import annotations

from ops.evaluation.bootstrap import Estimate


def told(found: Estimate, *, sign: str = "") -> str:
    """Return value and interval in four decimals, or why there is none; `sign` "+" shows the sign of a difference.

    >>> told(Estimate(value=0.5, lower=0.4, upper=0.6), sign="+")
    '+0.5000 [+0.4000, +0.6000]'
    """
    if found.value is None:
        return f"none ({found.why})"
    if found.lower is None or found.upper is None:
        return f"{found.value:{sign}.4f} ({found.why})"
    return f"{found.value:{sign}.4f} [{found.lower:{sign}.4f}, {found.upper:{sign}.4f}]"
