from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.dashboard import access
from ops.settings import Settings


def with_metrics(**metrics: object) -> Settings:
    return Settings.model_validate({"metrics": metrics})


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.0.0.9"])
def test_loopback_needs_no_token(host: str) -> None:
    assert access.required_token(with_metrics(host=host)) == ""


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "10.1.2.3", "shop.example", "localhost.example", "127.0.0.1.example"]
)
def test_beyond_loopback_a_token_is_required(host: str) -> None:
    with pytest.raises(access.AccessError, match="RELEVANCE_METRICS__TOKEN"):
        access.required_token(with_metrics(host=host))
    assert access.required_token(with_metrics(host=host, token="s3cret")) == "s3cret"


def test_the_cookie_does_not_hold_the_token() -> None:
    assert "s3cret" not in access.session_cookie("s3cret", expires_s=100)


def test_a_cookie_of_another_token_or_a_changed_expiry_does_not_open() -> None:
    cookie = access.session_cookie("s3cret", expires_s=100)
    assert access.opens(cookie, "s3cret", now_s=50)
    assert not access.opens(cookie, "other", now_s=50)
    assert not access.opens(cookie.replace("100.", "900."), "s3cret", now_s=50)


@given(st.text(max_size=200))
def test_no_other_text_opens(text: str) -> None:
    assert not access.opens(text, "s3cret", now_s=0)
