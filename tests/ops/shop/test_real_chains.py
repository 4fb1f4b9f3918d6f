"""Chains of a real catalogue: read off the words."""

from __future__ import annotations

from ops.shop.items import Item
from ops.shop.judged_pairs import text_of
from ops.shop.real_chains import ChainWriter, find


def item(title: str, brand: str = "", category: tuple[str, ...] = (), **attributes: str) -> Item:
    """Return an offer."""
    return Item(item_id="1", title=title, brand=brand, category=category, attributes=attributes, price=1.0)


PANTS = item("Levi Men's 501 Jeans, 32 in, Blue", "Levi", ("Clothing", "Jeans"), colour="Blue")
WRITER = ChainWriter([PANTS, item("Dickies work trousers", "Dickies")])


def findings(query: str, offer: Item) -> dict[str, tuple[str, str, str]]:
    """Return the chain as a dictionary."""
    lines = WRITER.chain(query, text_of(offer), offer)
    return {line.subtask: (line.query_words, line.item_words, line.verdict.value) for line in lines}


def test_brand_size_colour_audience_and_kind() -> None:
    """Every wish gets its line."""
    assert findings("dickies mens blue jeans 34 in", PANTS) == {
        "brand": ("dickies", "Levi", "mismatch"),
        "colour": ("blue", "Blue", "match"),
        "size": ("34 in", "32 in", "mismatch"),
        "audience": ("mens", "Men's", "match"),
    }


def test_no_line_guesses_whether_the_kind_of_product_is_right() -> None:
    """What is no match in words may be one for people: that is for the grade to weigh."""
    assert findings("trousers", PANTS) == {}
    assert findings("very long stretch jeans", PANTS) == {}


def test_unstated_and_empty() -> None:
    """A missing colour is unstated; a query of fillers has no chain."""
    plain = item("Desk lamp", "Levi")
    assert findings("red desk lamp", plain)["colour"] == ("red", "", "unstated")
    assert findings("for the", plain) == {}


def test_find_keeps_the_texts_own_words() -> None:
    """Case and a plural s do not matter, parts of words do."""
    assert find("Two Lamps here", "lamp") == "Lamps"
    assert find("Lampshade", "lamp") == ""
    assert find("C++ (book)", "c++ (") == ""
    assert find("LAMP of steel\ncategory: Lamps", "lamp") == "Lamps"
