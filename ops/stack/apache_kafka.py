"""A real Apache Kafka (3.3 or newer) on this machine: one node, KRaft, broker and controller in one JVM.

Started with plain `java`, so an unpacked distribution and a bare folder of its jars both serve. The quorum
is a static one (`controller.quorum.voters`): every release from 3.3 on formats it without extra flags.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import uuid
import zipfile
from dataclasses import dataclass
from pathlib import Path

from ops.settings import Settings
from ops.stack.embedded_broker import BrokerSetupError
from ops.stack.ports import free_port
from streams.topics import MAX_DEAD_LETTER_BYTES

OLDEST = (3, 3)
FORMAT_TIMEOUT_S = 120
SERVER_CLASS = "kafka.Kafka"
#: Where the storage tool lives, by release; the first that the jars hold is used.
STORAGE_TOOL_CLASSES = ("kafka.tools.StorageTool", "org.apache.kafka.tools.StorageTool")
JVM_OPTIONS = (
    "-Xms256m",
    "-Xmx768m",
    "-XX:+UseG1GC",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
)

LOG4J1 = """\
log4j.rootLogger=INFO, stdout
log4j.appender.stdout=org.apache.log4j.ConsoleAppender
log4j.appender.stdout.layout=org.apache.log4j.PatternLayout
log4j.appender.stdout.layout.ConversionPattern=[%d] %p %m (%c)%n
"""
LOG4J2 = """\
status=error
name=relevance
appender.stdout.type=Console
appender.stdout.name=STDOUT
appender.stdout.layout.type=PatternLayout
appender.stdout.layout.pattern=[%d] %p %m (%c)%n
rootLogger.level=info
rootLogger.appenderRef.stdout.ref=STDOUT
"""


@dataclass(frozen=True, slots=True)
class Installation:
    """The folder that holds Kafka's jars, the release, and the class that formats storage."""

    jars: Path
    version: tuple[int, int, int]
    storage_tool: str

    @property
    def java_needed(self) -> int:
        """Return the oldest Java release that runs this server."""
        return 17 if self.version >= (4, 0, 0) else 8


def home(settings: Settings) -> Path:
    """Return the folder named by the setting or by KAFKA_HOME. Raises BrokerSetupError if none is named."""
    named = settings.stack.kafka_home or os.environ.get("KAFKA_HOME")
    if not named:
        raise BrokerSetupError(
            "no Apache Kafka named: set KAFKA_HOME (or RELEVANCE_STACK__KAFKA_HOME) to an unpacked"
            " distribution or to a folder of its jars"
        )
    return Path(named).expanduser().absolute()


def find(folder: Path) -> Installation:
    """Recognise an unpacked distribution (jars under libs/) or a folder of jars.

    Raises BrokerSetupError that says which jar is missing, or that the release is older than 3.3.
    """
    if not folder.is_dir():
        raise BrokerSetupError(f"KAFKA_HOME: expected a folder, {folder} is none")
    jars = folder / "libs" if (folder / "libs").is_dir() else folder
    versions = set()
    for path in jars.glob("kafka-clients-*.jar"):
        if match := re.fullmatch(r"kafka-clients-(\d+)\.(\d+)\.(\d+)[^/]*\.jar", path.name):
            versions.add((int(match[1]), int(match[2]), int(match[3])))
    if not versions:
        raise BrokerSetupError(
            f"KAFKA_HOME: expected kafka-clients-VERSION.jar in {folder} or in {folder / 'libs'}, found none;"
            " unpack the binary distribution (kafka_2.13-VERSION.tgz), not the sources"
        )
    if len(versions) > 1:
        named = ", ".join(".".join(map(str, version)) for version in sorted(versions))
        raise BrokerSetupError(f"KAFKA_HOME: {jars} mixes the releases {named}; expected the jars of one")
    version = versions.pop()
    if version[:2] < OLDEST:
        raise BrokerSetupError(
            f"KAFKA_HOME: Kafka {'.'.join(map(str, version))} in {jars} is too old: expected 3.3 or newer"
        )
    # Longest first: where several jars match, the server's own is the large one.
    candidates = sorted(jars.glob("kafka*.jar"), key=lambda path: -path.stat().st_size)
    if _first_class(candidates, (SERVER_CLASS,)) is None:
        raise BrokerSetupError(
            f"KAFKA_HOME: no jar in {jars} holds {SERVER_CLASS}: the server itself (kafka_2.13-VERSION.jar)"
            " is missing, only client jars are there"
        )
    storage_tool = _first_class(candidates, STORAGE_TOOL_CLASSES)
    if storage_tool is None:
        raise BrokerSetupError(
            f"KAFKA_HOME: no jar in {jars} holds the storage tool, {' or '.join(STORAGE_TOOL_CLASSES)}"
        )
    return Installation(jars, version, storage_tool)


def _first_class(jars: list[Path], names: tuple[str, ...]) -> str | None:
    for path in jars:
        try:
            with zipfile.ZipFile(path) as archive:
                entries = set(archive.namelist())
        except zipfile.BadZipFile as error:
            raise BrokerSetupError(f"KAFKA_HOME: {path} is damaged ({error}); unpack Kafka again") from error
        for name in names:
            if name.replace(".", "/") + ".class" in entries:
                return name
    return None


def java(needed: int) -> str:
    """Return the path of Java `needed` or newer, from JAVA_HOME or PATH. Raises BrokerSetupError."""
    at_home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=os.path.join(at_home, "bin")) if at_home else shutil.which("java")
    if found is None:
        where = f"JAVA_HOME={at_home}" if at_home else "PATH"
        raise BrokerSetupError(
            f"no java in {where}: install Java {max(needed, 17)} (Debian: openjdk-17-jre-headless)"
            " or set JAVA_HOME"
        )
    answer = subprocess.run([found, "-version"], capture_output=True, text=True, timeout=60, check=False)
    text = answer.stderr + answer.stdout
    match = re.search(r'version "(\d+)(?:\.(\d+))?', text)
    if answer.returncode != 0 or match is None:
        raise BrokerSetupError(f"{found} -version: expected a version, got {text.strip()[:200]!r}")
    # Releases up to 8 call themselves 1.8.
    release = int(match[2] or 0) if match[1] == "1" else int(match[1])
    if release < needed:
        raise BrokerSetupError(f"{found} is Java {release}: expected {needed} or newer (set JAVA_HOME)")
    return found


def server_properties(*, port: int, controller_port: int, log_dir: Path, partitions: int) -> dict[str, str]:
    """Return the server's configuration: loopback only, one replica of everything."""
    if "," in str(log_dir):
        raise BrokerSetupError(f"Kafka takes a comma as a separator of folders: expected none in {log_dir}")
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "log.dirs": str(log_dir),
        "num.partitions": str(partitions),
        "default.replication.factor": "1",
        "min.insync.replicas": "1",
        "auto.create.topics.enable": "false",
        "message.max.bytes": str(MAX_DEAD_LETTER_BYTES),
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        # Known from 4.1 on; earlier releases pass over it.
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        # There is no other broker to hand leadership to, so a stop need not ask for it.
        "controlled.shutdown.enable": "false",
    }


def render_properties(values: dict[str, str]) -> str:
    """Write a Java properties file; what is outside printable ASCII becomes a \\uXXXX escape."""
    return "".join(f"{key}={_escape(value)}\n" for key, value in values.items())


def _escape(value: str) -> str:
    text = ""
    encoded = value.encode("utf-16-be")
    for high, low in zip(encoded[::2], encoded[1::2], strict=True):
        code = high << 8 | low
        if code == ord("\\"):
            text += "\\\\"
        # Blanks at the start of a value would be dropped.
        elif 0x20 < code < 0x7F or (code == 0x20 and text):
            text += chr(code)
        else:
            text += f"\\u{code:04x}"
    return text


def command(installation: Installation, java_path: str, main_class: str, folder: Path) -> list[str]:
    """Return the java command of one of Kafka's programs; its own arguments are to be added."""
    if os.pathsep in str(installation.jars):
        raise BrokerSetupError(
            f"Java takes {os.pathsep!r} as a separator: expected none in {installation.jars}"
        )
    if installation.version >= (4, 0, 0):
        logging_option = f"-Dlog4j2.configurationFile={(folder / 'log4j2.properties').as_uri()}"
    else:
        logging_option = f"-Dlog4j.configuration={(folder / 'log4j.properties').as_uri()}"
    classpath = f"{installation.jars}/*"
    return [
        java_path,
        *JVM_OPTIONS,
        logging_option,
        f"-Dkafka.logs.dir={folder}",
        "-cp",
        classpath,
        main_class,
    ]


def prepare(settings: Settings, *, port: int, data_dir: Path) -> list[str]:
    """Write the configuration, format the storage where it is new, and return the command of the server.

    Raises BrokerSetupError with what to mend: no Java, no jars, a wrong folder, or the storage tool's words.
    """
    installation = find(home(settings))
    java_path = java(installation.java_needed)
    data_dir = data_dir.absolute()
    log_dir = data_dir / "logs"
    log_dir.mkdir(parents=True, exist_ok=True)
    (data_dir / "log4j.properties").write_text(LOG4J1, encoding="ascii")
    (data_dir / "log4j2.properties").write_text(LOG4J2, encoding="ascii")
    controller_port = free_port(port + 1 if port < 65535 else 0, taken=frozenset({port}))
    properties = server_properties(
        port=port, controller_port=controller_port, log_dir=log_dir, partitions=settings.streams.partitions
    )
    path = data_dir / "server.properties"
    path.write_text(render_properties(properties), encoding="ascii")
    if not (log_dir / "meta.properties").exists():
        _format(installation, java_path, path)
    return [*command(installation, java_path, SERVER_CLASS, data_dir), str(path)]


def _format(installation: Installation, java_path: str, properties: Path) -> None:
    arguments = ["format", "--cluster-id", cluster_id(uuid.uuid4()), "--config", str(properties)]
    tool = command(installation, java_path, installation.storage_tool, properties.parent)
    answer = subprocess.run(
        [*tool, *arguments, "--ignore-formatted"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=FORMAT_TIMEOUT_S,
        check=False,
    )
    if answer.returncode != 0:
        said = (answer.stderr + answer.stdout).strip()[-2000:]
        raise BrokerSetupError(f"Kafka's storage tool ended with {answer.returncode}: {said}")


def cluster_id(random: uuid.UUID) -> str:
    """Return a cluster id as Kafka writes them: 16 bytes in URL-safe base64, not taken for an option.

    >>> cluster_id(uuid.UUID("12345678-1234-4678-9234-567812345678"))
    'EjRWeBI0RniSNFZ4EjRWeA'
    """
    text = base64.urlsafe_b64encode(random.bytes).decode().rstrip("=")
    return "A" + text[1:] if text.startswith("-") else text
