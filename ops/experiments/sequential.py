"""Intervals and p-values that stay valid however often one looks, for estimates and for shares.

A fixed-horizon interval is honest at one look that was planned; a page that shows it all the time finds a
"sure" winner in a third of all experiments without any difference (`python -m ops.bench.aa_tests` prints
how often). These are wider at any one look, and in return their error rate holds for all looks together.
"""

from __future__ import annotations

import math

from scipy.optimize import brentq
from scipy.special import betaln, xlog1py, xlogy

#: Weight, in observations, of the mixture over shares. It sets how far off a share is found fastest.
SHARE_CONCENTRATION = 100.0


def interval(
    *, estimate: float, standard_error: float, mixture_sd: float, alpha: float
) -> tuple[float, float]:
    """Return the always-valid (1 - alpha) interval (lower, upper) of an effect.

    Inverts `p_value`: all effects whose mixture likelihood ratio is below 1 / alpha, which is
        estimate ± s * sqrt((s² + t²) / t² * (2 ln(1 / alpha) + ln((s² + t²) / s²)))
    with s = `standard_error` and t = `mixture_sd`, both > 0 and in the unit of the estimate. It is tightest
    for effects about as large as `mixture_sd`. Raises ValueError on other values.
    Sources: H. Robbins, "Statistical methods related to the law of the iterated logarithm", Ann. Math.
    Stat. 41 (1970); R. Johari, P. Koomen, L. Pekelis, D. Walsh, "Always valid inference", Oper. Res. 70
    (2022), section 5.
    """
    _check(estimate=estimate, standard_error=standard_error, mixture_sd=mixture_sd)
    if not 0 < alpha < 1:
        raise ValueError(f"expected alpha in (0, 1), got {alpha}")
    variance, mixture = standard_error**2, mixture_sd**2
    widening = -2 * math.log(alpha) + math.log1p(mixture / variance)
    half = standard_error * math.sqrt((variance + mixture) / mixture * widening)
    return estimate - half, estimate + half


def p_value(*, estimate: float, standard_error: float, mixture_sd: float) -> float:
    """Return the always-valid p-value of "there is no effect", in [0, 1].

    It is min(1, 1 / L) with the normal mixture's likelihood ratio (mSPRT; sources at `interval`)
        L = sqrt(s² / (s² + t²)) * exp(t² * estimate² / (2 s² (s² + t²))).
    """
    _check(estimate=estimate, standard_error=standard_error, mixture_sd=mixture_sd)
    variance, mixture = standard_error**2, mixture_sd**2
    log_ratio = mixture * estimate**2 / (2 * variance * (variance + mixture))
    log_ratio -= math.log1p(mixture / variance) / 2
    return min(1.0, math.exp(-max(log_ratio, 0.0)))


def share_p_value(*, successes: int, trials: int, expected: float) -> float:
    """Return the always-valid p-value of "each trial succeeds with probability `expected`", in [0, 1].

    It is min(1, 1 / L) with the Beta mixture's likelihood ratio
        L = B(a + k, b + n - k) / B(a, b) / (q^k (1 - q)^(n - k)), a = 100 q, b = 100 (1 - q), q = expected.
    Source: M. Lindon, A. Malek, "Anytime-valid inference for multinomial count data", NeurIPS 2022 (here with
    two outcomes). `expected` is in (0, 1). Raises ValueError on other values.
    """
    _check_share(successes=successes, trials=trials, expected=expected)
    log_ratio = _log_share_ratio(successes, trials, centre=expected, share=expected)
    return min(1.0, math.exp(-max(log_ratio, 0.0)))


def share_lower_bound(*, successes: int, trials: int, expected: float, alpha: float) -> float:
    """Return the lower end, in [0, 1), of the always-valid (1 - alpha) interval of a success probability.

    All shares whose mixture likelihood ratio (see `share_p_value`) is below 1 / alpha; the mixture is centred
    at `expected`, so shares near it are told from it fastest. It holds if trials are independent.
    """
    _check_share(successes=successes, trials=trials, expected=expected)
    if not 0 < alpha < 1:
        raise ValueError(f"expected alpha in (0, 1), got {alpha}")
    if successes == 0:
        return 0.0

    def excess(share: float) -> float:
        return _log_share_ratio(successes, trials, centre=expected, share=share) + math.log(alpha)

    observed = successes / trials
    # The ratio falls from infinity at 0 to its least, below 1 / alpha, at the observed share.
    lowest = observed * 1e-12
    while excess(lowest) < 0:
        lowest *= 1e-12
        if lowest == 0.0:
            return 0.0
    highest = min(observed, 1 - 1e-16)
    return float(brentq(excess, lowest, highest)) if excess(highest) < 0 else highest


def share_upper_bound(*, successes: int, trials: int, expected: float, alpha: float) -> float:
    """Return the upper end, in (0, 1], of the always-valid (1 - alpha) interval of a success probability.

    As `share_lower_bound`, from the failures' side.
    """
    _check_share(successes=successes, trials=trials, expected=expected)
    return 1 - share_lower_bound(
        successes=trials - successes, trials=trials, expected=1 - expected, alpha=alpha
    )


def _log_share_ratio(successes: int, trials: int, *, centre: float, share: float) -> float:
    failures = trials - successes
    a, b = SHARE_CONCENTRATION * centre, SHARE_CONCENTRATION * (1 - centre)
    mixture = betaln(a + successes, b + failures) - betaln(a, b)
    return float(mixture - xlogy(successes, share) - xlog1py(failures, -share))


def _check(*, estimate: float, standard_error: float, mixture_sd: float) -> None:
    if not (math.isfinite(estimate) and 0 < standard_error < math.inf and 0 < mixture_sd < math.inf):
        raise ValueError(
            "expected a finite estimate, a standard error > 0 and a mixture sd > 0, "
            f"got {estimate}, {standard_error}, {mixture_sd}"
        )


def _check_share(*, successes: int, trials: int, expected: float) -> None:
    if not 0 <= successes <= trials or not 0 < expected < 1:
        raise ValueError(
            f"expected 0 <= successes <= trials and an expected share in (0, 1), "
            f"got {successes} of {trials} and {expected}"
        )
