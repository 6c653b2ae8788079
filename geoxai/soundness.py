"""Whether relevance says much about the explained value, although its account closes.

Rules that share out by positive contributions alone find none in some neurons of networks whose values have both signs
(GELU, SiLU, layer norms, residual sums): what arrives there is lost. Others divide by sums that nearly cancel, and give
relevance of both signs that is far larger than what it explains. Either map adds up, and neither is worth showing.
"""

from __future__ import annotations

import xarray as xr

LOST_WARNED = 0.5  # of the explained value
SIZE_WARNED = 100.0  # sum of |relevance|, in explained values


def unsound(explained: xr.Dataset) -> str | None:
    """What to tell of explanations by LRP that lose more than half of what they explain, or whose ``sum(|R|)`` is more
    than 100 times ``|f|``: of how many values, by how much at worst, and what to do. None where all is well.

    ``explained`` is a dataset of ``geoxai.explain`` or a store of relevance, whose values may be of several samples,
    targets and networks. Relevance on filled cells, which is among what is lost, is left out here. Other methods than
    lrp have no account.
    """
    if "absolute_relevance" not in explained:
        return None
    rules = str(explained.attrs.get("rules_chosen", explained.attrs["rules"]))
    value = abs(explained["target_value"])
    value = value.where(value > 0)
    there = int(value.notnull().sum())
    lost = abs(explained["lost_relevance"] - explained.get("filled_relevance", 0)) / value
    size = explained["absolute_relevance"] / value
    found, remedies = [], []
    if count := int((lost > LOST_WARNED).sum()):
        worst = 100 * float(lost.max())
        found.append(f"more than half of the explained value is lost in {count} of {there} (at worst {worst:.3g} %)")
        remedies.append("rules epsilon lose nothing where values have both signs")
    if count := int((size > SIZE_WARNED).sum()):
        worst = float(size.max())
        found.append(
            f"the sum of |relevance| is more than 100 times the explained value in {count} of {there} (at worst"
            f" {worst:.3g} times)"
        )
        remedies.append("rules gamma keep relevance small where sums nearly cancel")
    if not found:
        return None
    named = "the list of rules" if rules.startswith("[") else f"rules {rules}"
    better = [remedy for remedy in remedies if f"rules {rules} " not in remedy]
    advice = f"; {', and '.join(better)}" if better else "; a score far from 0 may explain better (score: logit)"
    return f"with {named} {', and '.join(found)}: such maps say little about the network{advice}"
