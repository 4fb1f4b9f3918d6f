"""Fixtures of the students' tests."""

from tests.students.samples import small_encoder

__all__ = ["small_encoder"]
