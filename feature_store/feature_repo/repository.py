"""What `feast apply` in this folder registers. The parquet files lie in `$RELEVANCE_FEATURES__FOLDER`, by default
in .relevance/features of the project's root."""

from __future__ import annotations

from pathlib import Path

from feature_store.store import definitions, folder_of, prepare
from ops.settings import load

ROOT = Path(__file__).resolve().parents[2]

_settings = load()
_definitions = definitions(_settings, folder=ROOT / folder_of(_settings))
# Feast makes no folders, and DuckDB reads none that is empty.
prepare(_definitions)

query = _definitions.query
item = _definitions.item
student = _definitions.student
shopper = _definitions.shopper
item_content = _definitions.item_content
item_vectors = _definitions.item_vectors
pair_engagement = _definitions.pair_engagement
query_statistics = _definitions.query_statistics
shopper_segment = _definitions.shopper_segment
