"""Whether the mix of a teacher's grades has moved since an earlier period: for its report, and to stop publishing."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec
import numpy as np
from scipy.stats import chi2_contingency

#: Population stability index: below the first a mix is stable, from the second on it has moved (Siddiqi 2006).
PSI_MOVING = 0.1
PSI_MOVED = 0.25
#: The index alone is noise on few judgements: the G-test has to agree.
DRIFT_ALPHA = 0.01
#: Judgements that each of the two periods needs.
MIN_JUDGEMENTS = 50


class Drift(StrEnum):
    """What the grade mix has done since an earlier period; UNKNOWN with too few judgements to tell."""

    STABLE = "stable"
    MOVING = "moving"
    MOVED = "moved"
    UNKNOWN = "unknown"


class GradeDrift(msgspec.Struct, frozen=True, kw_only=True):
    """How two grade mixes differ. `psi` >= 0; `p_value` is None where both hold one and the same grade only."""

    state: Drift
    psi: float | None
    p_value: float | None
    why: str


def grade_drift(earlier: Mapping[str, int], later: Mapping[str, int]) -> GradeDrift:
    """Compare two grade mixes, counts by label of the same labels.

    The population stability index is the sum of (q - p) ln(q / p) over the labels' shares, half a judgement added
    to each count so that an empty one stays finite; the p-value is the G-test's of one common mix. The mix has
    moved at PSI >= 0.25, is moving from 0.1, both only with p < 0.01. Pairs of one query are alike, so p is
    somewhat too small; and a change in what is sampled moves the mix as a change of the teacher does.
    """
    if set(earlier) != set(later):
        raise ValueError(f"expected counts of the same grades, got {sorted(earlier)} and {sorted(later)}")
    table = np.array([[counts[label] for label in earlier] for counts in (earlier, later)], dtype=np.float64)
    few = int(table.sum(axis=1).min())
    if few < MIN_JUDGEMENTS:
        why = f"{few} judgements in one period, {MIN_JUDGEMENTS} are needed"
        return GradeDrift(state=Drift.UNKNOWN, psi=None, p_value=None, why=why)
    shares = (table + 0.5) / (table + 0.5).sum(axis=1, keepdims=True)
    psi = float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())
    used = table[:, table.sum(axis=0) > 0]
    if used.shape[1] < 2:
        return GradeDrift(state=Drift.STABLE, psi=psi, p_value=None, why="both periods hold one grade only")
    p_value = float(chi2_contingency(used, correction=False, lambda_="log-likelihood").pvalue)
    state = Drift.STABLE
    if p_value < DRIFT_ALPHA and psi >= PSI_MOVING:
        state = Drift.MOVED if psi >= PSI_MOVED else Drift.MOVING
    why = (
        f"PSI {psi:.3f} (moving from {PSI_MOVING}, moved from {PSI_MOVED}), p {p_value:.2g} of {DRIFT_ALPHA}"
    )
    return GradeDrift(state=state, psi=psi, p_value=p_value, why=why)
