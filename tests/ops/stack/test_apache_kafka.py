"""Everything about starting Apache Kafka that can be told without its jars."""

from __future__ import annotations

import os
import uuid
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.settings import Settings, Stack
from ops.stack import apache_kafka
from ops.stack.apache_kafka import Installation
from ops.stack.embedded_broker import BrokerSetupError
from streams.topics import TOPICS

FAKE_JAVA = """#!/bin/sh
if [ "$1" = "-version" ]; then echo 'openjdk version "{version}" 2025-04-15' >&2; exit 0; fi
echo "$@" >> "{record}"
for argument; do
  case "$argument" in
    *server.properties) touch "$(sed -n 's/^log.dirs=//p' "$argument")/meta.properties" ;;
  esac
done
exit {code}
"""


def make_jar(path: Path, *classes: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("META-INF/MANIFEST.MF", "")
        for name in classes:
            archive.writestr(name.replace(".", "/") + ".class", b"")


def make_kafka(folder: Path, version: str = "3.9.1", storage_tool: str = "kafka.tools.StorageTool") -> Path:
    make_jar(folder / f"kafka-clients-{version}.jar")
    make_jar(folder / f"kafka_2.13-{version}.jar", "kafka.Kafka", storage_tool)
    return folder


def make_java(folder: Path, version: str = "17.0.15", code: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "java"
    path.write_text(FAKE_JAVA.format(version=version, record=folder / "record", code=code))
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("libs", ["libs", "."])
def test_distribution_and_folder_of_jars_are_found(tmp_path: Path, libs: str) -> None:
    make_kafka(tmp_path / libs, "4.1.0")
    found = apache_kafka.find(tmp_path)
    assert found.version == (4, 1, 0)
    assert found.jars == tmp_path / libs
    assert found.storage_tool == "kafka.tools.StorageTool"
    assert found.java_needed == 17


def test_moved_storage_tool_is_found(tmp_path: Path) -> None:
    make_kafka(tmp_path, storage_tool="org.apache.kafka.tools.StorageTool")
    assert apache_kafka.find(tmp_path).storage_tool == "org.apache.kafka.tools.StorageTool"


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BrokerSetupError, match=r"nowhere is none"):
        apache_kafka.find(tmp_path / "nowhere")


def test_folder_without_jars_says_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(BrokerSetupError, match=r"expected kafka-clients-VERSION\.jar"):
        apache_kafka.find(tmp_path)


def test_client_jars_alone_are_not_a_server(tmp_path: Path) -> None:
    make_jar(tmp_path / "kafka-clients-3.9.1.jar")
    with pytest.raises(BrokerSetupError, match=r"kafka_2\.13-VERSION\.jar"):
        apache_kafka.find(tmp_path)


def test_old_release_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BrokerSetupError, match=r"3\.2\.3 .* too old: expected 3\.3"):
        apache_kafka.find(make_kafka(tmp_path, "3.2.3"))


def test_mixed_releases_are_refused(tmp_path: Path) -> None:
    make_kafka(tmp_path, "3.9.1")
    make_kafka(tmp_path, "4.0.0")
    with pytest.raises(BrokerSetupError, match=r"mixes the releases 3\.9\.1, 4\.0\.0"):
        apache_kafka.find(tmp_path)


def test_damaged_jar_is_named(tmp_path: Path) -> None:
    make_jar(tmp_path / "kafka-clients-3.9.1.jar")
    (tmp_path / "kafka_2.13-3.9.1.jar").write_bytes(b"not a zip")
    with pytest.raises(BrokerSetupError, match=r"kafka_2\.13-3\.9\.1\.jar is damaged"):
        apache_kafka.find(tmp_path)


def test_home_from_setting_before_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KAFKA_HOME", "/opt/kafka")
    assert apache_kafka.home(Settings()) == Path("/opt/kafka")
    named = Settings(stack=Stack(kafka_home=tmp_path))
    assert apache_kafka.home(named) == tmp_path
    monkeypatch.delenv("KAFKA_HOME")
    with pytest.raises(BrokerSetupError, match="set KAFKA_HOME"):
        apache_kafka.home(Settings())


def test_java_is_looked_for_in_java_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    expected = make_java(tmp_path / "bin")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert apache_kafka.java(17) == str(expected)


@pytest.mark.parametrize(("version", "needed"), [("1.8.0_452", 17), ("11.0.2", 17)])
def test_old_java_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, version: str, needed: int
) -> None:
    make_java(tmp_path / "bin", version)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(BrokerSetupError, match=f"expected {needed} or newer"):
        apache_kafka.java(needed)
    assert apache_kafka.java(8)


def test_missing_java_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BrokerSetupError, match="no java in PATH: install Java 17"):
        apache_kafka.java(17)


def test_server_properties_keep_to_this_machine_and_take_the_largest_record(tmp_path: Path) -> None:
    values = apache_kafka.server_properties(port=9092, controller_port=9093, log_dir=tmp_path, partitions=4)
    assert values["listeners"] == "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093"
    assert values["advertised.listeners"] == "PLAINTEXT://127.0.0.1:9092"
    assert values["controller.quorum.voters"] == "1@127.0.0.1:9093"
    assert int(values["message.max.bytes"]) >= max(spec.max_record_bytes for spec in TOPICS)
    replicated = [value for key, value in values.items() if "replication.factor" in key or "min.i" in key]
    assert replicated == ["1"] * 7


def test_comma_in_the_data_folder_is_refused() -> None:
    with pytest.raises(BrokerSetupError, match="comma"):
        apache_kafka.server_properties(port=1, controller_port=2, log_dir=Path("/a,b"), partitions=1)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_properties_can_be_read_back(value: str) -> None:
    line = apache_kafka.render_properties({"key": value})
    assert line.isascii()
    assert line.count("\n") == 1
    text = line.removeprefix("key=").removesuffix("\n")
    assert not text.startswith(" ")
    assert read_property(text) == value


def read_property(text: str) -> str:
    """Undo the escapes as java.util.Properties does: backslash pairs and \\uXXXX units of UTF-16."""
    units: list[int] = []
    at = 0
    while at < len(text):
        if text.startswith("\\u", at):
            units.append(int(text[at + 2 : at + 6], 16))
            at += 6
        elif text[at] == "\\":
            units.append(ord(text[at + 1]))
            at += 2
        else:
            units.append(ord(text[at]))
            at += 1
    return b"".join(unit.to_bytes(2, "big") for unit in units).decode("utf-16-be")


@pytest.mark.parametrize(
    ("version", "option"),
    [((3, 9, 1), "-Dlog4j.configuration=file:"), ((4, 1, 0), "-Dlog4j2.configurationFile=file:")],
)
def test_each_release_gets_its_own_kind_of_log_settings(version: tuple[int, int, int], option: str) -> None:
    installation = Installation(Path("/opt/kafka/libs"), version, "kafka.tools.StorageTool")
    command = apache_kafka.command(installation, "/usr/bin/java", "kafka.Kafka", Path("/run/kafka"))
    assert command[0] == "/usr/bin/java"
    assert command[-3:] == ["-cp", "/opt/kafka/libs/*", "kafka.Kafka"]
    assert len([argument for argument in command if argument.startswith(option)]) == 1
    assert len([argument for argument in command if "log4j" in argument]) == 1


@given(st.uuids())
def test_cluster_ids_are_sixteen_bytes_and_no_option(random: uuid.UUID) -> None:
    text = apache_kafka.cluster_id(random)
    assert len(text) == 22
    assert not text.startswith("-")


def test_storage_is_formatted_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    make_java(tmp_path / "java" / "bin")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "java"))
    settings = Settings(stack=Stack(broker="apache", kafka_home=make_kafka(tmp_path / "kafka")))
    record = tmp_path / "java" / "bin" / "record"
    commands = [apache_kafka.prepare(settings, port=29192, data_dir=tmp_path / "data") for _ in range(2)]
    formats = record.read_text().splitlines()
    assert len(formats) == 1
    assert "kafka.tools.StorageTool format --cluster-id" in formats[0]
    assert formats[0].endswith("--ignore-formatted")
    for command in commands:
        assert command[-2:] == ["kafka.Kafka", str(tmp_path / "data" / "server.properties")]
        assert os.access(command[0], os.X_OK)


def test_failed_format_quotes_the_tool(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    java = make_java(tmp_path / "bin", code=3)
    java.write_text(java.read_text().replace("exit 3", "echo 'disk is full' >&2; exit 3"))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    settings = Settings(stack=Stack(broker="apache", kafka_home=make_kafka(tmp_path / "kafka")))
    with pytest.raises(BrokerSetupError, match="ended with 3: disk is full"):
        apache_kafka.prepare(settings, port=29192, data_dir=tmp_path / "data")
