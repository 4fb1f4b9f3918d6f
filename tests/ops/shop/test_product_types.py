from __future__ import annotations

import pytest

from ops.shop.product_types import TYPES, parse


def test_the_tree_is_wide_and_its_relations_make_sense() -> None:
    departments = {each.path[0] for each in TYPES.values()}
    assert len(departments) >= 12
    assert len(TYPES) >= 60
    for each in TYPES.values():
        assert each.price > 0
        assert each.name not in each.substitutes | each.complements
        assert all(each.other_names)
        if each.fits:
            assert TYPES[each.fits].has_models


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("lamp | 12 | light | basics", "expected 'name"),
        ("lamp | 12 | light | basics metals |", "two palettes for 'colour'"),
        ("lamp | 12 | light | basics | with bulb", "unknown types .'bulb'."),
    ],
)
def test_a_wrong_line_is_named(line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(line)
