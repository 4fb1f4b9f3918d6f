"""The store under the project's settings: where it lies, how it is made, and Feast's own handle on it.

Everything but the online store is in one folder: `registry.db`, `offline/VIEW/*.parquet`, and for sqlite
`online.db`. sqlite is the embedded default; with `features.redis` set the online store is Redis.
"""

from __future__ import annotations

import json
import sqlite3
from datetime import timedelta
from pathlib import Path

from feast import FeatureStore, RepoConfig
from feast.infra.online_stores.redis import RedisOnlineStoreConfig
from feast.infra.online_stores.sqlite import SqliteOnlineStoreConfig

from feature_store import offline
from feature_store.definitions import PROJECT, Definitions, define
from ops.files import write_atomically
from ops.settings import Settings

#: What Feast's command line reads instead of the folder's own feature_store.yaml.
FEAST_YAML_VARIABLE = "FEAST_FS_YAML_FILE_PATH"
FOLDER_VARIABLE = "RELEVANCE_FEATURES__FOLDER"
REDIS_VARIABLE = "RELEVANCE_FEATURES__REDIS"


def folder_of(settings: Settings) -> Path:
    """Return the store's folder as the settings say it, relative to the working directory if they do."""
    return settings.features.folder or settings.run_dir / "features"


def definitions(settings: Settings, *, folder: Path | None = None) -> Definitions:
    """Return what the store holds under these settings, with its files in `folder`."""
    streams = settings.streams
    return define(
        (folder or folder_of(settings)).resolve() / "offline",
        engagement=timedelta(seconds=streams.engagement_window_s * streams.engagement_windows_kept),
        frequency=timedelta(seconds=streams.frequency_window_s),
    )


def online_path(settings: Settings) -> Path:
    """Return the file of the online store in sqlite."""
    return folder_of(settings).resolve() / "online.db"


def repo_config(settings: Settings, *, redis_key_ttl_s: int | None = None) -> RepoConfig:
    """Return Feast's configuration, under which what is written to Redis leaves it after `redis_key_ttl_s`."""
    folder = folder_of(settings).resolve()
    online: SqliteOnlineStoreConfig | RedisOnlineStoreConfig
    if settings.features.redis.get_secret_value():
        online = redis_config(settings, key_ttl_s=redis_key_ttl_s)
    else:
        online = SqliteOnlineStoreConfig(path=str(online_path(settings)))
    return RepoConfig(
        project=PROJECT,
        provider="local",
        # The definitions change with a deployment only, so the registry is read once.
        registry={"path": str(folder / "registry.db"), "cache_ttl_seconds": 0},
        online_store=online,
        offline_store={"type": "duckdb"},
        entity_key_serialization_version=3,
        repo_path=folder,
    )


def redis_config(settings: Settings, *, key_ttl_s: int | None = None) -> RedisOnlineStoreConfig:
    """Return the configuration of the online store in Redis."""
    return RedisOnlineStoreConfig(
        connection_string=settings.features.redis.get_secret_value(), key_ttl_seconds=key_ttl_s
    )


def apply(settings: Settings) -> FeatureStore:
    """Make the store or bring it up to date, as `feast apply` does, and return Feast's handle on it.

    May run while others read and write. Raises OSError or sqlite3.Error if the folder can't be written, and
    redis.ConnectionError never: Redis needs no tables.
    """
    folder = folder_of(settings).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    defined = definitions(settings)
    prepare(defined)
    store = FeatureStore(config=repo_config(settings))
    store.apply([*defined.objects()])
    if not settings.features.redis.get_secret_value():
        with sqlite3.connect(online_path(settings)) as connection:
            # So that readers never wait for the pusher; the file remembers it.
            connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
    write_atomically(folder / "feature_store.yaml", _yaml(settings).encode())
    return store


def prepare(defined: Definitions) -> None:
    """Make the folders of the offline store, so that views without rows can be read. Raises OSError."""
    for view in defined.views.values():
        offline.prepare(view)


def feast_environment(settings: Settings) -> dict[str, str]:
    """Return the environment in which `feast` in feature_repo works on the store of these settings."""
    folder = folder_of(settings).resolve()
    environment = {FEAST_YAML_VARIABLE: str(folder / "feature_store.yaml"), FOLDER_VARIABLE: str(folder)}
    redis = settings.features.redis.get_secret_value()
    return environment | ({REDIS_VARIABLE: redis} if redis else {})


def _yaml(settings: Settings) -> str:
    folder = folder_of(settings).resolve()
    online = {"type": "sqlite", "path": str(online_path(settings))}
    if settings.features.redis.get_secret_value():
        # Feast fills it in from the environment, so no password lies on the disk.
        online = {"type": "redis", "connection_string": f"${{{REDIS_VARIABLE}}}"}
    configuration = {
        "project": PROJECT,
        "provider": "local",
        "registry": str(folder / "registry.db"),
        "offline_store": {"type": "duckdb"},
        "online_store": online,
        "entity_key_serialization_version": 3,
    }
    # JSON is YAML.
    return json.dumps(configuration, indent=2) + "\n"
