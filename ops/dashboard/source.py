"""Where the page's numbers come from: the store, the broker's offsets, the parts' heartbeats. Calls block."""

from __future__ import annotations

import time

import msgspec
from clickhouse_connect.driver.client import Client

from ops import heartbeat
from ops.dashboard import (
    feature_queries,
    loop_view,
    pair_queries,
    pair_view,
    queries,
    sampling_queries,
    teacher_queries,
    teacher_view,
)
from ops.dashboard.feature_queries import AuditRow, ReadSearch, ReadsLately
from ops.dashboard.health import Part
from ops.dashboard.lag import GroupLag, LagWatch
from ops.dashboard.loop_view import LoopOverview
from ops.dashboard.pair_queries import PairFound
from ops.dashboard.pair_view import PairView, StudentView
from ops.dashboard.queries import (
    Arrivals,
    DeadLetter,
    DeadLetterCount,
    PairEvent,
    PairRow,
    QueryRow,
    QuerySort,
    Totals,
)
from ops.dashboard.sampling_queries import Lane, PairState, SampledRow
from ops.dashboard.teacher_queries import JudgementRow
from ops.dashboard.teacher_view import JudgementView, TeacherOverview
from ops.experiments.report import ExperimentReport, experiment_report, report_since
from ops.experiments.states import StateReader
from ops.settings import Settings
from streams.records import ExperimentState

PRIOR_FOR_S = 60


class StoreNumbers(msgspec.Struct, frozen=True):
    """What the store says about the flow of events."""

    arrivals: Arrivals
    totals: Totals
    dead_letters: list[DeadLetterCount]


class FeaturesOverview(msgspec.Struct, frozen=True, kw_only=True):
    """The feature store: its part and its consumer group if they are known, the last hour's reads, the audits."""

    part: Part | None
    shop: Part | None
    lag: GroupLag | None
    reads: ReadsLately
    audits: list[AuditRow]


class LoggedReads(msgspec.Struct, frozen=True):
    """Some of the searches that logged what they read, and how many there are in all."""

    total: int
    searches: list[ReadSearch]


class Source:
    """Answers the page's questions. Three clients, so that a long report keeps neither the flow of events nor
    a drill-down waiting: the embedded engine runs one query per client at a time."""

    def __init__(
        self,
        settings: Settings,
        *,
        report_client: Client,
        flow_client: Client,
        request_client: Client,
        lag: LagWatch,
        states: StateReader,
    ) -> None:
        self._settings = settings
        self._report_client = report_client
        self._flow_client = flow_client
        self._request_client = request_client
        self._lag = lag
        self._states = states
        self._state: ExperimentState | None = None
        self._prior: dict[int, float] = {}
        self._prior_until_s = 0.0

    def state(self) -> ExperimentState | None:
        """Ask the broker whether the experiment runs, for the reports to come. Raises KafkaError and
        StatesUnreadableError; the last known state then stays."""
        self._state = self._states.read().get(self._settings.experiment.name)
        return self._state

    def report(self) -> ExperimentReport:
        """Compute the experiment's report. Raises ClickHouseError."""
        return experiment_report(self._report_client, self._settings, now_ms=_now_ms(), state=self._state)

    def report_since(self, since_ms: int) -> ExperimentReport:
        """Compute the report over what has happened since then. Raises ClickHouseError."""
        return report_since(self._report_client, self._settings, since_ms=since_ms, now_ms=_now_ms())

    def store(self) -> StoreNumbers:
        """Ask for the flow of events. Raises ClickHouseError."""
        now_ms = _now_ms()
        return StoreNumbers(
            arrivals=queries.arrivals(self._flow_client, now_ms=now_ms),
            totals=queries.totals(self._flow_client),
            dead_letters=queries.dead_letter_counts(self._flow_client, now_ms=now_ms),
        )

    def lag(self) -> list[GroupLag]:
        """Return the consumer groups' lag as last known."""
        return self._lag.latest()

    def parts(self) -> list[Part]:
        """Return the parts of this run directory, by name."""
        now_s = time.time()
        return [
            Part(
                name=beat.part,
                state=beat.state,
                detail=beat.detail,
                age_s=max(0.0, now_s - beat.at_s),
                counters=beat.counters,
            )
            for beat in heartbeat.read_all(self._settings.run_dir)
        ]

    def queries(
        self, *, arm: str, search: str, traffic_class: str, sort: QuerySort, ascending: bool, limit: int
    ) -> list[QueryRow]:
        """Return an arm's queries. Raises ClickHouseError."""
        return queries.queries_of_arm(
            self._request_client,
            experiment=self._settings.experiment.name,
            arm=arm,
            search=search,
            traffic_class=traffic_class,
            sort=sort,
            ascending=ascending,
            limit=limit,
        )

    def pairs(self, *, arm: str, query: str, limit: int) -> list[PairRow]:
        """Return a query's items. Raises ClickHouseError."""
        if time.monotonic() >= self._prior_until_s:
            self._prior = queries.position_prior(self._request_client)
            self._prior_until_s = time.monotonic() + PRIOR_FOR_S
        return queries.pairs_of_query(
            self._request_client,
            experiment=self._settings.experiment.name,
            arm=arm,
            query=query,
            prior=self._prior,
            limit=limit,
        )

    def events(self, *, arm: str, query: str, item_id: str, limit: int) -> list[PairEvent]:
        """Return a pair's events. Raises ClickHouseError."""
        return queries.events_of_pair(
            self._request_client,
            experiment=self._settings.experiment.name,
            arm=arm,
            query=query,
            item_id=item_id,
            limit=limit,
        )

    def dead_letters(self, *, reason: str, limit: int) -> list[DeadLetter]:
        """Return the newest dead letters. Raises ClickHouseError."""
        return queries.dead_letters(self._request_client, reason=reason, limit=limit)

    def teacher(self) -> TeacherOverview:
        """Ask for the teacher's figures, with the report's client: both take their time. Raises ClickHouseError."""
        return teacher_view.overview(self._report_client, self._settings.teacher)

    def features(self) -> FeaturesOverview:
        """Ask how the feature store is doing. Raises ClickHouseError."""
        parts = {part.name: part for part in self.parts()}
        groups = {group.name: group for group in self.lag()}
        return FeaturesOverview(
            part=parts.get("features"),
            shop=parts.get("shop"),
            lag=groups.get("features"),
            reads=feature_queries.reads_lately(self._report_client, now_ms=_now_ms()),
            audits=feature_queries.audits(self._report_client),
        )

    def feature_reads(self, *, first_ms: int, last_ms: int, seed: int, after: int, limit: int) -> LoggedReads:
        """Return searches that logged what they read, in an order that `seed` draws. Raises ClickHouseError."""
        client = self._request_client
        return LoggedReads(
            feature_queries.count_searches(client, first_ms=first_ms, last_ms=last_ms),
            feature_queries.read_searches(
                client, first_ms=first_ms, last_ms=last_ms, seed=seed, after=after, limit=limit
            ),
        )

    def judgements(
        self, *, search: str, grade: str, mismatch: str, teacher: str, before: tuple[int, int], limit: int
    ) -> list[JudgementRow]:
        """Return judgements, newest first. Raises ClickHouseError."""
        return teacher_queries.judgements(
            self._request_client,
            search=search,
            grade=grade,
            mismatch=mismatch,
            teacher=teacher,
            before=before,
            limit=limit,
        )

    def judgement(
        self, *, query: str, item_id: str, content_hash: str, teacher_id: str, prompt_hash: str
    ) -> JudgementView | None:
        """Return one judgement beside its pair, None if there is none. Raises ClickHouseError."""
        stored = teacher_queries.judgement(
            self._request_client,
            query=query,
            item_id=item_id,
            content_hash=content_hash,
            teacher_id=teacher_id,
            prompt_hash=prompt_hash,
        )
        if stored is None:
            return None
        traffic = teacher_queries.pair_traffic(self._request_client, query=query, item_id=item_id)
        return teacher_view.view(stored, traffic=traffic, prices=self._settings.teacher)

    def loop(self) -> LoopOverview:
        """Ask how the loop is doing, with the report's client: both take their time. Raises ClickHouseError."""
        return loop_view.overview(
            self._report_client, self._settings, now_ms=_now_ms(), parts=self.parts(), lag=self.lag()
        )

    def sampled(
        self,
        *,
        search: str,
        traffic_class: str,
        lane: Lane,
        state: PairState,
        before: tuple[int, int],
        limit: int,
    ) -> list[SampledRow]:
        """Return sampled pairs, newest first. Raises ClickHouseError."""
        return sampling_queries.sampled(
            self._request_client,
            now_ms=_now_ms(),
            search=search,
            traffic_class=traffic_class,
            lane=lane,
            state=state,
            before=before,
            limit=limit,
        )

    def pairs_with(self, *, words: str, limit: int) -> list[PairFound]:
        """Return pairs that have all the words. Raises ClickHouseError."""
        return pair_queries.search(self._request_client, words=words, limit=limit)

    def why(self, *, query: str, item_id: str) -> PairView | None:
        """Return what is known of a pair, None if nothing is. Raises ClickHouseError."""
        return pair_view.pair(
            self._request_client, query=query, item_id=item_id, prices=self._settings.teacher
        )

    def student(self, *, query: str, item_id: str, version: int) -> StudentView:
        """Ask the served student about a pair; a Triton that is away is said. Raises ClickHouseError."""
        return pair_view.student(
            self._request_client, self._settings, version=version, query=query, item_id=item_id
        )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
