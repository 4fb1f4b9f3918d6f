"""Simulated shoppers: who searches, what they look at, click, put into the cart and buy, and when.

Position-based model: a shopper examines position k with probability k ** -patience, and clicks what was
examined with a probability that grows with the true gain and falls with the price against the page's median.
Carts and purchases follow the same way. Shoppers differ in patience, eagerness and how often they come.
Delays are those of a shop sped up about twenty times, so that a demonstration of minutes sees purchases:
most clicks within ten seconds, purchases within a minute or so of the search.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from streams.records import Action

NOISE_CLICKS = 0.02
RELEVANT_CLICKS = 0.3
NOISE_CARTS = 0.03
RELEVANT_CARTS = 0.32
BUY_FROM_CART = 0.45
PRICE_ELASTICITY = 0.4
PRICE_FACTORS = (0.5, 1.6)
PATIENCE = (0.7, 0.1)
EAGERNESS_SPREAD = 0.35
ACTIVITY_SPREAD = 0.8
#: Median delay in seconds and its log-normal spread, cut at the third number.
CLICK_DELAY_S = (2.5, 0.7, 30.0)
CART_DELAY_S = (5.0, 0.7, 30.0)
BUY_DELAY_S = (10.0, 0.7, 60.0)


@dataclass(frozen=True, slots=True)
class Shopper:
    """`patience` is the exponent of examination, `eagerness` multiplies the probability of a click."""

    client_id: str
    patience: float
    eagerness: float


@dataclass(frozen=True, slots=True)
class Deed:
    """What a shopper did with the item at `position` (from 1), `delay_ms` after the search."""

    action: Action
    position: int
    delay_ms: int
    quantity: int = 1


class Population:
    """A fixed crowd of shoppers, some of whom come far more often than others."""

    def __init__(self, *, shoppers: int, seed: int) -> None:
        rng = np.random.default_rng([seed, 1])
        patience = np.clip(rng.normal(*PATIENCE, shoppers), 0.3, 1.5)
        eagerness = rng.lognormal(-(EAGERNESS_SPREAD**2) / 2, EAGERNESS_SPREAD, shoppers)
        activity = rng.lognormal(0, ACTIVITY_SPREAD, shoppers)
        self._cumulative = np.cumsum(activity / activity.sum())
        self.shoppers = [
            Shopper(f"shopper-{number:06d}", float(patience[number]), float(eagerness[number]))
            for number in range(shoppers)
        ]

    def draw(self, rng: np.random.Generator) -> Shopper:
        """Return the shopper who searches next."""
        at = int(np.searchsorted(self._cumulative, rng.random()))
        return self.shoppers[min(at, len(self.shoppers) - 1)]


@dataclass(frozen=True, slots=True)
class Chances:
    """Probabilities for an item at its position: a click, and, once clicked, a cart."""

    click: float
    cart: float


def chances(shopper: Shopper, gains: Sequence[float], prices: Sequence[float]) -> list[Chances]:
    """Return the chances of each position of a page, from the true gains in [0, 1] and prices > 0."""
    if not gains:
        return []
    typical = median(prices)
    page = []
    for position, (gain, price) in enumerate(zip(gains, prices, strict=True), start=1):
        low, high = PRICE_FACTORS
        appeal = min(high, max(low, (typical / price) ** PRICE_ELASTICITY))
        attraction = min(1.0, shopper.eagerness * appeal * (NOISE_CLICKS + RELEVANT_CLICKS * gain))
        page.append(
            Chances(
                click=position**-shopper.patience * attraction,
                cart=min(1.0, appeal * (NOISE_CARTS + RELEVANT_CARTS * gain)),
            )
        )
    return page


def expected(page: Sequence[Chances]) -> tuple[float, float]:
    """Return the expected numbers of clicks and of purchases on a page."""
    return (
        sum(each.click for each in page),
        sum(each.click * each.cart * BUY_FROM_CART for each in page),
    )


def browse(rng: np.random.Generator, page: Sequence[Chances]) -> list[Deed]:
    """Return what the shopper does with a page, in order of time."""
    deeds = []
    draws = rng.random((len(page), 3)).tolist()
    for position, (each, (click, cart, buy)) in enumerate(zip(page, draws, strict=True), start=1):
        if click >= each.click:
            continue
        delay_ms = _delay_ms(rng, CLICK_DELAY_S) + 300 * position
        deeds.append(Deed(Action.CLICK, position, delay_ms))
        if cart >= each.cart:
            continue
        delay_ms += _delay_ms(rng, CART_DELAY_S)
        quantity = int(rng.geometric(0.85))
        deeds.append(Deed(Action.ADD_TO_CART, position, delay_ms, quantity))
        if buy < BUY_FROM_CART:
            deeds.append(Deed(Action.PURCHASE, position, delay_ms + _delay_ms(rng, BUY_DELAY_S), quantity))
    return sorted(deeds, key=lambda deed: deed.delay_ms)


def _delay_ms(rng: np.random.Generator, delay_s: tuple[float, float, float]) -> int:
    typical, spread, longest = delay_s
    return round(1000 * min(longest, rng.lognormal(math.log(typical), spread)))
