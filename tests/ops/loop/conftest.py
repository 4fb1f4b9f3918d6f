"""Fixtures of the loop's tests."""

from tests.students.samples import small_encoder

__all__ = ["small_encoder"]
