"""The settings that a demo ran with, for benches of what it left behind or of parts of it."""

from __future__ import annotations

from collections.abc import Mapping

from ops.cli.context import Context
from ops.loop.demo_settings import demo_settings
from ops.settings import Settings, load


def settings_of_demo(
    given: Mapping[str, object] | None = None, *, fast: bool = False, real: bool = False
) -> Settings:
    """Return the settings of `relevance demo` with `given` ones, by name, laid over them. Raises SettingsError."""
    context = Context()
    wanted = demo_settings(context.settings(), fast=fast, real=real)
    return load(context.environment({**wanted, **(given or {})}))
