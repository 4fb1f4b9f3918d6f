"""Settings: environment variables over one TOML file over defaults. Wrong or unknown ones are refused by name.

A setting `click_window_s` of section `[streams]` in the file is `RELEVANCE_STREAMS__CLICK_WINDOW_S` in the
environment. The file is `relevance.toml` in the working directory, or whatever `RELEVANCE_SETTINGS` names.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

PREFIX = "RELEVANCE_"
FILE_VARIABLE = "RELEVANCE_SETTINGS"
DEFAULT_FILE = "relevance.toml"

Seconds = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class SettingsError(ValueError):
    """A setting is unknown or has a value it cannot have. The message names each one."""


class Section(BaseModel):
    """Base of every section: unknown names are errors, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class KafkaSecurity(Section):
    """How to log in to the broker. `protocol` is Kafka's `security.protocol`."""

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "PLAIN"
    username: str = ""
    password: SecretStr = SecretStr("")
    ca_file: Path | None = None


class Stack(Section):
    """The local stack."""

    broker: Literal["embedded", "apache"] = "embedded"
    kafka_home: Path | None = Field(None, description="an unpacked Apache Kafka, or a folder of its jars")
    broker_port: int = Field(19092, ge=1, le=65535)
    workers: int = Field(1, ge=1, le=64, description="streams workers")
    stale_after_s: Seconds = Field(60, description="a part without a heartbeat for so long is restarted")
    features: bool = Field(True, description="run the feature store; the shop's ad engine reads from it")
    sampler: bool = Field(False, description="run the sampler, which sends pairs to the teacher")
    teacher_workers: bool = Field(
        False, description="run the teacher's workers here; they need a teacher that answers"
    )
    trainer: bool = Field(
        False, description="run the incremental trainer; needs trainer.start and gate.golden"
    )
    loop: bool = Field(False, description="run what promotes students under guardrails; needs a Triton")
    triton: bool = Field(False, description="run a Triton here, unless `triton` is the address of another")
    teacher_server: bool = Field(
        False, description="run a vLLM here, unless `teacher_url` is the address of another"
    )
    gives_way: bool = Field(
        True, description="vLLM, trainer and teacher's workers leave the cores to what shoppers wait for"
    )


class Ubi(Section):
    """How the shop's front ends write UBI."""

    first_position: int = Field(0, ge=0, le=1, description="the ordinal that clients give the first result")
    first_position_of: dict[str, Annotated[int, Field(ge=0, le=1)]] = Field(
        default_factory=dict, description="the same, by application"
    )
    actions: dict[str, Literal["impression", "click", "add_to_cart", "purchase", "other"]] = Field(
        default_factory=dict, description="further names of actions, in lower case with underscores"
    )
    max_future_s: float = Field(300, ge=0, description="events further in the future are dead letters")


class Streams(Section):
    """The streams worker."""

    group: str = "relevance-streams"
    partitions: int = Field(4, ge=1, le=1024, description="of each topic that the project creates")
    click_window_s: Seconds = 30 * 60
    conversion_window_s: Seconds = 24 * 3600
    allowed_lateness_s: Seconds = Field(
        600, description="how long past its windows a page of results is kept"
    )
    clock_skew_s: float = Field(
        5, ge=0, description="an impression stamped so much after its click still counts"
    )
    max_open_queries: int = Field(
        2_000_000, ge=1000, description="oldest pages beyond this are let go, counted"
    )
    batch_events: int = Field(1000, ge=1, le=100_000)
    batch_within_s: Seconds = 0.25
    engagement_window_s: int = Field(3600, ge=1)
    engagement_windows_kept: int = Field(24, ge=1)
    head_share: Share = Field(0.5, description="the most frequent queries that make this share of traffic")
    torso_share: Share = Field(0.3, description="the next ones; the rest is tail")
    frequency_window_s: Seconds = Field(24 * 3600, description="the sketch forgets over one to two of these")

    @model_validator(mode="after")
    def _shares(self) -> Streams:
        if self.head_share + self.torso_share > 1:
            raise ValueError("head_share + torso_share must be at most 1")
        return self


class Metrics(Section):
    """The process that writes to ClickHouse and serves the dashboard."""

    group: str = "relevance-metrics"
    flush_rows: int = Field(50_000, ge=1)
    flush_within_s: Seconds = 1.0
    clickhouse_ca_file: Path | None = None
    host: str = "127.0.0.1"
    port: int = Field(8080, ge=1, le=65535)
    token: SecretStr = Field(SecretStr(""), description="login token; required when host is not loopback")


class Experiment(Section):
    """The online experiment."""

    name: str = Field("ranking", pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    control: str = "control"
    treatment: str = "treatment"
    treatment_share: Share = 0.5
    salt: str = ""
    alpha: float = Field(0.05, gt=0, lt=0.5)
    #: The mixture's standard deviation: the relative effect for which the interval is tightest.
    expected_effect: float = Field(0.1, gt=0, description="relative effect the sequential test is tuned to")
    min_shoppers: int = Field(100, ge=2, description="per arm, before intervals are shown")
    guardrail_ctr_drop: float = Field(0.05, gt=0, description="stop if CTR is surely this much lower")
    guardrail_latency_ms: float = Field(
        250,
        gt=0,
        description="stop if surely 1 % more queries of the treatment than of the control are slower",
    )
    guardrail_fallback_share: Share = Field(
        0.05, description="stop if the treatment surely falls back more often than the control by more"
    )
    guardrails_stop: bool = Field(True, description="breached guardrails stop the experiment by themselves")


class Shop(Section):
    """The simulated shop."""

    catalogue: Path | None = Field(None, description="folder of a real catalogue with judged queries")
    golden_share: Share = Field(
        0.0, description="of a real catalogue's queries, that nobody searches: the golden set is of these"
    )
    seed: int = Field(7, ge=0)
    items: int = Field(20_000, ge=100)
    queries: int = Field(5_000, ge=50)
    shoppers: int = Field(4_000, ge=10)
    searches_per_s: float = Field(25, gt=0, le=10_000)
    speed: float = Field(
        1,
        gt=0,
        le=1000,
        description="so many times as many searches, and whatever follows from one so much sooner",
    )
    page_size: int = Field(10, ge=1, le=100)
    history_searches: int = Field(4_000, ge=0, description="searches of the day before the experiment")
    oracle_noise: float = Field(0.15, ge=0, description="standard deviation added to the oracle's score")
    students: bool = Field(
        False, description="the published students score both arms through Triton, not the two scorers above"
    )
    changed_share_per_hour: Share = Field(0.05, description="of the items, whose offers sellers reword")


class ExtraSubtask(Section):
    """A question that this shop adds to the teacher's."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")
    asks: str = Field(min_length=1, max_length=200)


class GradeSetting(Section):
    """A level of the shop's own relevance scale."""

    label: str = Field(pattern=r"^[A-Za-z0-9]{1,12}$")
    name: str
    gain: Share
    means: str = Field(min_length=1, max_length=200)


class Teacher(Section):
    """The LLM that judges pairs, as its clients see it. Addresses: `teacher_url`."""

    model: str = Field("relevance-teacher", description="the name under which the endpoint serves it")
    api_key: SecretStr = SecretStr("")
    mode: Literal["chain", "score"] = Field("chain", description="chain and grade in one pass, or grade only")
    max_tokens: int = Field(192, ge=1, le=4096)
    temperature: float = Field(0.0, ge=0, le=2)
    concurrency: int = Field(32, ge=1, le=4096, description="requests in flight, over all endpoints")
    timeout_s: Seconds = 120
    retries: int = Field(4, ge=0, le=20, description="after transient faults only")
    policy: Path | None = Field(None, description="TOML file instead of the project's subtasks and grades")
    subtasks: list[ExtraSubtask] = Field(default_factory=list, description="asked after the policy's own")
    grades: list[GradeSetting] = Field(default_factory=list, description="another scale, best first")
    usd_per_million_prompt_tokens: float = Field(0.0, ge=0)
    usd_per_million_completion_tokens: float = Field(0.0, ge=0)


class TeacherWorker(Section):
    """The workers that have the pairs on `relevance.pairs` judged."""

    group: str = "relevance-teacher"
    workers: int = Field(1, ge=1, le=1024, description="how many share the topic's partitions")
    attempts: int = Field(2, ge=1, le=20, description="answers asked for before a pair is a dead letter")
    open_pairs: int = Field(256, ge=1, le=100_000, description="read and not yet committed, at most, about")


class Sampling(Section):
    """Which pairs the teacher is sent, and how many."""

    group: str = "relevance-sampling"
    tokens_per_hour: float = Field(1_000_000, gt=0, description="the teacher's, prompts and answers")
    burst_share: float = Field(
        0.1, gt=0, le=0.5, description="of an hour's tokens, that may be spent at once"
    )
    tokens_per_judgement: float = Field(500, gt=0, description="what one costs until some have been seen")
    uniform_share: float = Field(
        0.05, ge=0, le=0.5, description="of pairs and tokens, drawn by lot for unbiased monitoring"
    )
    pairs_per_query_hour: int = Field(5, ge=1, description="of one query, those drawn by lot aside")
    max_waiting_pairs: int = Field(256, ge=1, description="before the teacher; beyond it none is sent")
    deadline_s: Seconds = Field(3600, description="after it nobody waits for a judgement any more")
    max_candidates: int = Field(50_000, ge=1000, description="held in memory, the best ones")
    candidate_age_s: Seconds = Field(3600, description="how long a pair is a candidate after it was shown")
    tail_exponent: float = Field(0.5, ge=0, le=4, description="how much rarity counts; 0: not at all")
    coec_prior: float = Field(1.0, gt=0, description="expected clicks that the score itself is worth")
    floor: Share = Field(0.05, description="what uncertainty and contradiction count at least")
    seed: int = Field(1, ge=0)

    @model_validator(mode="after")
    def _affordable(self) -> Sampling:
        smallest = self.tokens_per_hour * (self.uniform_share or 1)
        if smallest < 4 * self.tokens_per_judgement:
            raise ValueError(
                "tokens_per_hour must pay for four judgements of tokens_per_judgement, in uniform_share too:"
                f" expected at least {4 * self.tokens_per_judgement:g} tokens, got {smallest:g}"
            )
        return self


class TeacherServer(Section):
    """The vLLM server that `relevance teacher serve` starts."""

    environment: Path = Field(Path(".venv-teacher"), description="its own virtual environment")
    device: Literal["cpu", "cuda"] = "cpu"
    model: str = Field("", description="model folder or hub name; empty: the small model of the project")
    base: bool = Field(False, description="the small model as it comes, without the project's fine-tuning")
    adapter: Literal["default", "score"] = Field(
        "default",
        description="fine-tuning of the small model: for chain and grade, or for teacher.mode score",
    )
    host: str = "127.0.0.1"
    port: int = Field(18000, ge=1, le=65535)
    dtype: Literal["bfloat16", "float16", "auto"] = "bfloat16"
    max_model_len: int = Field(1024, ge=256)
    kv_cache_gib: int = Field(1, ge=1, description="CPU only")
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1, description="CUDA only")
    tensor_parallel: int = Field(1, ge=1, description="CUDA only: GPUs that share the model")
    quantization: str = Field("", description="CUDA only: as vLLM names it")
    start_within_s: Seconds = 900

    @model_validator(mode="after")
    def _small(self) -> TeacherServer:
        if self.base and self.model:
            raise ValueError("base is for the small model of the project, but another model is set")
        return self


class StudentLosses(Section):
    """What students learn by. A weight of 0 leaves a loss out; each is a mean in nats but margin_mse."""

    hard_grade: float = Field(1.0, ge=0)
    score_distribution: float = Field(1.0, ge=0)
    bio_tags: float = Field(0.5, ge=0, description="interaction student only")
    attention_adjustment: float = Field(0.3, ge=0, description="representation student only")
    margin_mse: float = Field(0.0, ge=0, description="keeps pairs of a query together in a batch")
    temperature: float = Field(2.0, gt=0, description="of score_distribution")
    attention_factor: float = Field(4.0, ge=1, description="attention of a used token over that of another")


class Students(Section):
    """The students: their size, how they are trained, by what."""

    encoder: Path | None = Field(None, description="a Hugging Face encoder's folder; empty: MiniLM-L6")
    interaction_layers: int = Field(
        3, ge=1, description="the encoder's lowest ones; those it lacks are an error"
    )
    representation_layers: int = Field(6, ge=1)
    dimensions: int = Field(0, ge=0, description="of query and item vectors; 0: the encoder's hidden size")
    shared_towers: bool = Field(True, description="query and item are read by the same weights")
    max_query_tokens: int = Field(24, ge=1)
    max_tokens: int = Field(96, ge=16, description="of a pair, or of an item alone, with special tokens")
    device: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["bf16", "fp32"] = "bf16"
    epochs: int = Field(3, ge=1)
    batch_pairs: int = Field(32, ge=1, description="of one process at a time")
    accumulation: int = Field(1, ge=1, description="batches that make an optimiser step")
    length_buckets: bool = Field(True, description="batches of pairs of like length")
    learning_rate: float = Field(2e-4, gt=0)
    head_learning_rate: float = Field(1e-3, gt=0, description="of what has no weights to start from")
    weight_decay: float = Field(0.01, ge=0)
    warmup_share: Share = 0.1
    max_grad_norm: float = Field(1.0, gt=0)
    frozen_embeddings: bool = Field(True, description="the table of tokens stays as it is")
    frozen_layers: int = Field(0, ge=0, description="the lowest ones stay as they are")
    seed: int = Field(1, ge=0)
    save_every_s: float = Field(60, ge=0, description="between checkpoints")
    log_every_s: float = Field(10, ge=0, description="between lines of progress")
    losses: StudentLosses = StudentLosses()

    @property
    def bf16(self) -> bool:
        """Tell whether a student is trained, and judged by the gate, in half precision."""
        return self.precision == "bf16"

    @model_validator(mode="after")
    def _room(self) -> Students:
        if self.max_tokens < self.max_query_tokens + 8:
            raise ValueError("max_tokens must leave an item at least 8 tokens beside max_query_tokens")
        return self


class Trainer(Section):
    """The incremental trainer. An update is due after so many new judgements, or so long after the first of them."""

    start: Path | None = Field(
        None, description="folder of the trained student that the first update goes on from"
    )
    start_version: int = Field(0, ge=0, description="its version, if it is served; 0: none")
    labels: Path | None = Field(
        None, description="pairs that people graded for it, as JSON lines: replayed from the first update on"
    )
    group: str = Field(
        "relevance-trainer", description="what its lag is shown under; offsets are the checkpoint's"
    )
    update_judgements: int = Field(256, ge=1, description="new ones that make an update due")
    update_within_s: Seconds = Field(120, description="or so long after the first new one")
    least_judgements: int = Field(16, ge=1, description="with fewer the update waits for more")
    most_new: int = Field(4096, ge=1, description="that no champion has learned yet, learned from at a time")
    replay_pairs: int = Field(20_000, ge=0, description="past judgements that are kept")
    replay_share: float = Field(4.0, ge=0, description="replayed for each new judgement")
    averaging: float = Field(
        0.7, gt=0, le=1, description="share of the trained weights, the champion has the rest"
    )
    epochs: int = Field(1, ge=1)
    learning_rate: float = Field(5e-5, gt=0)
    head_learning_rate: float = Field(2e-4, gt=0)
    held_out_share: float = Field(
        0.2, gt=0, lt=1, description="of the queries, never learned from, for the gate"
    )
    seed: int = Field(1, ge=0)
    threads: int = Field(0, ge=0, description="of torch on the CPU; 0: one a core")
    checkpoints: int = Field(3, ge=2, description="that are kept")
    to_treatment: bool = Field(
        True, description="a published version scores the treatment at once; false: `loop` promotes it"
    )


class Gate(Section):
    """What a challenger must show before it is published, and what stops publishing."""

    golden: Path | None = Field(
        None, description="pairs graded by people as JSON lines; no training sees them"
    )
    alpha: float = Field(0.05, gt=0, lt=0.5, description="chance that a challenger no better passes")
    margin: float = Field(0.01, ge=0, description="it may be so much worse on the golden set")
    tail_gain: float = Field(0.0, ge=0, description="it must be so much better on unseen tail queries")
    calibration_margin: float = Field(0.02, ge=0, description="its calibration error may be so much larger")
    slower: float = Field(1.5, ge=1, description="it may take so many times the champion's time")
    held_out_pairs: int = Field(1000, ge=10, description="recent ones that are kept")
    least_queries: int = Field(
        30, ge=10, description="unseen ones of the tail; with fewer nothing is published"
    )
    window: int = Field(200, ge=50, description="latest judgements that are watched for poison and drift")
    reference: int = Field(500, ge=100, description="judgements before these, to compare them with")
    disagreement_rise: float = Field(
        0.08, gt=0, description="nats a judgement that the teacher may contradict champions more than before"
    )
    people_rise: float = Field(0.05, gt=0, description="share that people may contradict more than before")
    guard_alpha: float = Field(0.01, gt=0, lt=0.5, description="chance that publishing stops for nothing")
    guard_doubt: float = Field(0.1, gt=0, lt=0.5, description="chance that judgements wait for nothing")
    most_refused: Share = Field(0.2, description="of the window's records; more stop publishing")


class Loop(Section):
    """What promotes published students to the treatment arm, and takes them off again if they do harm."""

    first_versions: Path | None = Field(
        None, description="folder of exported versions that become champions, pinned, where a kind has none"
    )
    check_every_s: Seconds = 2
    guard_every_s: Seconds = Field(10, description="how often the guardrails are asked")


class TritonServer(Section):
    """The Triton server that `relevance serve` starts."""

    environment: Path = Field(Path(".venv-serving"), description="its own virtual environment")
    host: str = "127.0.0.1"
    port: int = Field(18101, ge=1, le=65535, description="gRPC")
    metrics_port: int = Field(18102, ge=1, le=65535, description="Prometheus, on loopback")
    threads: int = Field(0, ge=0, description="CPU only: of one execution of a graph; 0: one a core")
    response_cache_mib: int = Field(64, ge=1)
    certificate: Path | None = Field(None, description="PEM; with `key` the gRPC port speaks TLS alone")
    key: Path | None = None
    client_ca_file: Path | None = Field(None, description="PEM; clients must show a certificate of it")
    start_within_s: Seconds = 120
    probe_every_s: Seconds = Field(10, description="how often every served version is asked something")

    @model_validator(mode="after")
    def _both(self) -> TritonServer:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together")
        if self.client_ca_file is not None and self.certificate is None:
            raise ValueError("client_ca_file needs certificate and key")
        return self


class Serving(Section):
    """The model repository and what is published to it."""

    repository: Path | None = Field(None, description="empty: `triton` in the run directory")
    versions: Path | None = Field(
        None, description="where exported versions lie; empty: `students/versions` in the run directory"
    )
    profile: Literal["cpu", "cuda", "tensorrt"] = Field("cpu", description="what the graphs run on")
    precision: Literal["int8", "fp16", "fp32"] = "int8"
    parity: float = Field(0.03, gt=0, lt=1, description="a served score may be so far from the exported one")
    load_within_s: Seconds = 120
    retire_after_s: Seconds = Field(600, description="how long a version stays that no arm uses any more")

    @property
    def served_precision(self) -> Literal["int8", "fp16", "fp32"]:
        """Return the precision that computes on a CPU what is served: on GPUs the graphs are fp32."""
        return self.precision if self.profile == "cpu" else "fp32"


class Scoring(Section):
    """The ad engine's client of Triton. The address is `triton`."""

    token: SecretStr = Field(SecretStr(""), description="shared with the server; needed beyond loopback")
    ca_file: Path | None = Field(None, description="PEM; with it the client speaks TLS")
    certificate: Path | None = Field(None, description="the client's own, where the server asks for one")
    key: Path | None = None
    deadline_ms: float = Field(100, gt=0, description="for one query with all its candidates")
    attempts: int = Field(3, ge=1, le=10, description="of one call, as long as the deadline allows")
    hedge_after_ms: float = Field(0, ge=0, description="a second call is sent after so long; 0: never")
    max_candidates: int = Field(1000, ge=1, le=1000)
    interaction_candidates: int = Field(50, ge=1, le=256, description="the best by the towers")
    batch_candidates: int = Field(64, ge=1, le=256, description="of one call to the interaction student")
    kept_scores: int = Field(200_000, ge=0, description="last known towers scores that the fallback has")


class Features(Section):
    """The feature store. `redis` is Feast's connection string: host:port[,db=0][,ssl=true][,password=...]."""

    folder: Path | None = Field(None, description="empty: `features` in the run directory")
    redis: SecretStr = Field(
        SecretStr(""), description="address of the online store; empty: sqlite in the folder"
    )
    redis_timeout_s: Seconds = Field(0.1, description="a read that takes longer is answered without Redis")
    group: str = "relevance-features"
    flush_rows: int = Field(10_000, ge=1, description="rows of a push at most, about")
    flush_within_s: Seconds = 2.0
    feed_every_s: Seconds = Field(
        10, description="pause between looks at ClickHouse for query statistics and shoppers' history"
    )
    engagement_staleness_s: Seconds = Field(5, description="how old the reader's engagement may be")
    vector_staleness_s: Seconds = Field(60, description="how old the reader's vectors may be")
    outage_staleness_s: Seconds = Field(600, description="both, while the online store is away")
    retry_after_s: Seconds = Field(1, description="pause after a failed read of the online store")
    cached_rows: int = Field(200_000, ge=1, description="rows the reader keeps of each view")
    judge_again_within_s: Seconds = Field(
        24 * 3600, description="deadline of pairs that are judged anew because their item's text changed"
    )


class Settings(Section):
    """Everything that can be set. Addresses left empty mean the embedded part."""

    run_dir: Path = Path(".relevance")
    kafka: str = Field("", description="bootstrap servers, host:port[,host:port]; empty: the local broker")
    clickhouse: str = Field("", description="http(s)://user:password@host:port/database; empty: embedded")
    teacher_url: str = Field(
        "", description="OpenAI-compatible http(s)://host:port/v1[,more]; empty: the local server"
    )
    triton: str = Field("", description="gRPC host:port of Triton; empty: the local server")
    data: Path = Field(Path("../shared/data"), description="folder of the public data sets")
    kafka_security: KafkaSecurity = KafkaSecurity()
    stack: Stack = Stack()
    ubi: Ubi = Ubi()
    streams: Streams = Streams()
    metrics: Metrics = Metrics()
    experiment: Experiment = Experiment()
    shop: Shop = Shop()
    sampling: Sampling = Sampling()
    teacher: Teacher = Teacher()
    teacher_worker: TeacherWorker = TeacherWorker()
    teacher_server: TeacherServer = TeacherServer()
    students: Students = Students()
    trainer: Trainer = Trainer()
    gate: Gate = Gate()
    features: Features = Features()
    loop: Loop = Loop()
    triton_server: TritonServer = TritonServer()
    serving: Serving = Serving()
    scoring: Scoring = Scoring()

    @field_validator("kafka", "triton")
    @classmethod
    def _addresses(cls, value: str) -> str:
        for address in value.split(",") if value else []:
            host, _, port = address.strip().rpartition(":")
            if not host or not port.isdigit():
                raise ValueError(f"expected host:port[,host:port], got {address!r}")
        return value

    @field_validator("clickhouse")
    @classmethod
    def _url(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("expected http(s)://user:password@host:port/database")
        return value

    @field_validator("teacher_url")
    @classmethod
    def _urls(cls, value: str) -> str:
        for url in value.split(",") if value else []:
            if not url.strip().startswith(("http://", "https://")):
                raise ValueError(f"expected http(s)://host:port/v1[,more], got {url.strip()!r}")
        return value


def load(environment: Mapping[str, str] | None = None, file: Path | None = None) -> Settings:
    """Read settings from the environment and the TOML file.

    Raises SettingsError that names every unknown or wrong setting, where it came from and what was expected.
    """
    environment = os.environ if environment is None else environment
    named = environment.get(FILE_VARIABLE)
    path = file or Path(named or DEFAULT_FILE)
    merged: dict[str, Any] = {}
    if path.exists():
        merged = _read(path)
    elif named or file:
        raise SettingsError(f"settings file {path} does not exist ({FILE_VARIABLE})")
    origins = _merge_environment(merged, environment)
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        raise SettingsError(_explain(error, origins, path)) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"settings file {path} cannot be read: {error}") from error


def _merge_environment(merged: dict[str, Any], environment: Mapping[str, str]) -> dict[tuple[str, ...], str]:
    origins: dict[tuple[str, ...], str] = {}
    for variable, value in environment.items():
        if not variable.startswith(PREFIX) or variable == FILE_VARIABLE:
            continue
        keys = tuple(variable.removeprefix(PREFIX).lower().split("__"))
        target = merged
        for key in keys[:-1]:
            target = target.setdefault(key, {})
            if not isinstance(target, dict):
                raise SettingsError(f"{variable}: {key!r} is a single setting, not a section")
        target[keys[-1]] = value
        origins[keys] = variable
    return origins


def _explain(error: ValidationError, origins: Mapping[tuple[str, ...], str], path: Path) -> str:
    lines = []
    for problem in error.errors():
        keys = tuple(str(part) for part in problem["loc"])
        name = origins.get(keys) or (".".join(keys) + f" (in {path})" if keys else str(path))
        if problem["type"] == "extra_forbidden":
            lines.append(f"{name}: no such setting; expected one of {_siblings(keys)}")
        else:
            # The value may be a password, so it is not repeated.
            lines.append(f"{name}: {problem['msg']}")
    return "wrong settings:\n  " + "\n  ".join(lines)


def _siblings(keys: tuple[str, ...]) -> str:
    model: type[BaseModel] = Settings
    for key in keys[:-1]:
        inner = model.model_fields[key].annotation if key in model.model_fields else None
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            model = inner
    return ", ".join(sorted(model.model_fields))
