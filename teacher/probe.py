"""Whether the endpoints can judge, asked before the first pair: every thing that is missing is said, with its cure.

Asked of each address: the model under its name, a context long enough, one token for each label, log-probabilities,
and structured output (older servers ignore what they do not know, so a nonsense form is demanded and checked).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Final, TypeVar

import msgspec

from streams.item_text import ATTRIBUTES, MAX_QUERY_CHARS, MAX_TITLE_CHARS, item_text
from teacher.client import BadResponseError, RejectedError, TeacherClient, TeacherError
from teacher.policy import Policy
from teacher.prompt import Mode, answer_form, messages
from teacher.scoring import BLANKS, ScoringError, label_place, read_grades

#: No model writes this by itself.
NONSENSE: Final = r"zq[0-9]{3}kx"
_ONE_TOKEN: Final = (
    "the probability of a grade can only be read off one token of its own; choose labels that this model writes as "
    "one, such as single letters (teacher.grades)"
)
_QUERY: Final = "red steel kettle 1.5 litre"
_ITEM: Final = item_text(
    title="Kettle, stainless steel, red, 1.5 l",
    brand="Norvik",
    category=("Home", "Kitchen", "Kettles"),
    attributes={"colour": "red", "material": "steel"},
)
_WORDS: Final = "stainless steel kettle with lid "
_LONG_QUERY: Final = (_WORDS * 99)[:MAX_QUERY_CHARS]
_LONG_ITEM: Final = item_text(
    title=(_WORDS * 99)[:MAX_TITLE_CHARS],
    brand="Norvik",
    category=("Home", "Kitchen", "Kettles"),
    attributes=dict.fromkeys(ATTRIBUTES, "stainless steel, red"),
)


class ProbeError(RuntimeError):
    """The teacher cannot judge. The message lists everything that is missing, and what mends it."""

    def __init__(self, problems: Sequence[str]) -> None:
        """Hold each problem."""
        super().__init__("the teacher cannot judge:\n  " + "\n  ".join(problems))
        self.problems = tuple(problems)


class LabelError(ValueError):
    """The labels are not told apart by one token each. The message says which and why."""


class EndpointReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one address said. `root` is the folder or hub name of its model, `max_model_len` its context in tokens;
    both None if it does not tell. `label_tokens` maps labels to token ids, empty if they could not be asked for.
    `prompt_tokens` is that of an ordinary pair. `notes` are for people."""

    url: str
    root: str | None
    max_model_len: int | None
    label_tokens: dict[str, int]
    prompt_tokens: int
    notes: tuple[str, ...]


class ProbeReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the probe found. `teacher_id` is the model's name and, where the server tells, its revision."""

    teacher_id: str
    endpoints: tuple[EndpointReport, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """Return every address's notes."""
        return tuple(note for endpoint in self.endpoints for note in endpoint.notes)


class _Model(msgspec.Struct):
    id: str
    root: str | None = None
    max_model_len: int | None = None


class _Models(msgspec.Struct):
    data: list[_Model]


class _Tokenized(msgspec.Struct):
    tokens: list[int]


_Form = TypeVar("_Form", _Models, _Tokenized)


def _decode(answer: bytes, form: type[_Form]) -> _Form:
    try:
        return msgspec.json.decode(answer, type=form)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadResponseError(f"{error}, got {answer[:120]!r}") from error


def teacher_id(model: str, root: str | None) -> str:
    """Return the teacher's name in a judgement's identity: the model's, and the last part of where it lies.

    >>> teacher_id("relevance-teacher", "/srv/models/7b-2f1c"), teacher_id("org/model", "org/model")
    ('relevance-teacher@7b-2f1c', 'org/model')
    """
    if not root or root == model:
        return model
    return f"{model}@{PurePath(root).name}"


def label_tokens(
    before: Sequence[int], with_label: Mapping[str, Sequence[int]], *, blank: Sequence[int] = ()
) -> dict[str, int]:
    """Return the token that stands for each label.

    `before` are the tokens of what stands before a label in an answer, `with_label` those of the same with the
    label, `blank` those of a blank between them where it is not part of the label's token. Raises LabelError for
    a label of several tokens, and for labels that begin with the same token.
    """
    rests: dict[str, list[int]] = {}
    for label, tokens in with_label.items():
        rest = list(tokens[len(before) :])
        if list(tokens[: len(before)]) != list(before) or not rest:
            raise LabelError(f"label {label!r} melts into the token before it: choose another label")
        apart = bool(blank) and rest[: len(blank)] == list(blank) and len(rest) > len(blank)
        rests[label] = rest[len(blank) :] if apart else rest
    problems = [
        f"label {label!r} is {len(rest)} tokens ({', '.join(map(str, rest))})"
        for label, rest in rests.items()
        if len(rest) != 1
    ]
    first: dict[int, list[str]] = {}
    for label, rest in rests.items():
        first.setdefault(rest[0], []).append(label)
    problems += [
        f"labels {' and '.join(map(repr, sharing))} begin with the same token ({token})"
        for token, sharing in first.items()
        if len(sharing) > 1
    ]
    if problems:
        raise LabelError(f"{'; '.join(problems)}: {_ONE_TOKEN}")
    return {label: rest[0] for label, rest in rests.items()}


async def probe(client: TeacherClient, *, policy: Policy, mode: Mode, max_tokens: int) -> ProbeReport:
    """Return what the endpoints are, having tried everything that judging needs.

    Raises ProbeError that lists all that is missing, of all addresses.
    """
    looks = [_Look(client, url, policy, mode, max_tokens) for url in client.urls]
    await asyncio.gather(*(look.run() for look in looks))
    problems = [problem for look in looks for problem in look.problems]
    ids = {look.url: teacher_id(client.model, look.model.root) for look in looks if look.model}
    if len(set(ids.values())) > 1:
        told = ", ".join(f"{name} at {url}" for url, name in ids.items())
        problems.append(
            f"expected one model at all addresses, got {told}: give each its own name and settings"
        )
    if problems:
        raise ProbeError(problems)
    return ProbeReport(teacher_id=next(iter(ids.values())), endpoints=tuple(look.report() for look in looks))


class _Look:
    """One address looked at; what is missing gathers in `problems`."""

    def __init__(self, client: TeacherClient, url: str, policy: Policy, mode: Mode, max_tokens: int) -> None:
        self.url = url
        self.problems: list[str] = []
        self.model: _Model | None = None
        self._client = client
        self._policy = policy
        self._mode = mode
        self._max_tokens = max_tokens
        self._tokens: dict[str, int] = {}
        self._prompt_tokens = 0
        self._notes: list[str] = []

    def report(self) -> EndpointReport:
        return EndpointReport(
            url=self.url,
            root=self.model.root if self.model else None,
            max_model_len=self.model.max_model_len if self.model else None,
            label_tokens=self._tokens,
            prompt_tokens=self._prompt_tokens,
            notes=tuple(self._notes),
        )

    async def run(self) -> None:
        try:
            self.model = await self._find_model()
        except TeacherError as error:
            self._miss(
                f"the list of models cannot be read ({error}): start the server (`relevance teacher serve`) or "
                "set teacher_url to an address that ends in /v1 and teacher.api_key to its key"
            )
            return
        if self.model is None:
            return
        for check in (self._check_structured_output, self._check_labels, self._check_answer):
            try:
                await check()
            except TeacherError as error:
                self._miss(f"{check.__name__.removeprefix('_check_').replace('_', ' ')}: {error}")

    def _miss(self, problem: str) -> None:
        self.problems.append(f"{self.url}: {problem}")

    async def _find_model(self) -> _Model | None:
        listed = _decode(await self._client.request("/models", url=self.url), _Models)
        for model in listed.data:
            if model.id == self._client.model:
                return model
        named = ", ".join(model.id for model in listed.data) or "none"
        self._miss(f"expected model {self._client.model!r}, the server has {named}: set teacher.model")
        return None

    async def _check_structured_output(self) -> None:
        asked = [{"role": "user", "content": "Write one line about the sea."}]
        got = await self._client.complete(asked, regex=NONSENSE, max_tokens=32, url=self.url)
        if not re.fullmatch(NONSENSE, got.text):
            self._miss(
                f"structured output is ignored: asked for {NONSENSE}, got {got.text[:60]!r}; it needs a server that "
                "knows `structured_outputs`, such as a current vLLM"
            )

    async def _check_labels(self) -> None:
        prefix, form = ("grade:", "grade: {}") if self._mode is Mode.CHAIN else ("", "{}")
        try:
            before = await self._tokenize(prefix) if prefix else []
            spaced = await self._tokenize(f"{prefix} ") if prefix else []
            with_label = {label: await self._tokenize(form.format(label)) for label in self._policy.labels}
        except RejectedError as error:
            if error.status not in (404, 405, 501):
                raise
            await self._check_labels_by_answers(prefix, form)
            return
        blank = spaced[len(before) :] if spaced[: len(before)] == before else []
        try:
            self._tokens = label_tokens(before, with_label, blank=blank)
        except LabelError as error:
            self._miss(str(error))

    async def _tokenize(self, text: str) -> list[int]:
        body = {"model": self._client.model, "prompt": text, "add_special_tokens": False}
        return _decode(
            await self._client.request("/tokenize", body, url=self.url, at_root=True), _Tokenized
        ).tokens

    async def _check_labels_by_answers(self, prefix: str, form: str) -> None:
        self._notes.append(
            f"{self.url}: has no /tokenize; labels were checked in answers of the model instead"
        )
        for label in self._policy.labels:
            got = await self._client.complete(
                messages(self._policy, self._mode, _QUERY, _ITEM),
                regex=form.format(label),
                max_tokens=16,
                url=self.url,
            )
            texts = [token.text for token in got.tokens]
            place = label_place(texts, label, after=prefix)
            if place is None or texts[place].strip(BLANKS) != label:
                self._miss(f"expected label {label!r} as one token, got {texts}: {_ONE_TOKEN}")

    async def _check_answer(self) -> None:
        """Try the real prompt and form, with the one letter forced for the log-probabilities."""
        asked = messages(self._policy, self._mode, _QUERY, _ITEM)
        real = await self._client.complete(
            asked, regex=answer_form(self._policy, self._mode), max_tokens=self._max_tokens, url=self.url
        )
        self._prompt_tokens = real.prompt_tokens
        if real.finish_reason == "length" and self._mode is Mode.CHAIN:
            self._notes.append(f"{self.url}: an ordinary answer was cut: raise teacher.max_tokens")
        await self._check_context()
        labels = self._policy.labels
        after = "grade:" if self._mode is Mode.CHAIN else ""
        got = await self._client.complete(
            asked, regex=f"{after and 'grade: '}({'|'.join(labels)})", max_tokens=16, url=self.url
        )
        if not got.tokens:
            self._miss(
                "no log-probabilities come back: the server must know `logprobs` and `top_logprobs` for chats"
            )
            return
        try:
            read_grades(
                got.tokens,
                written=got.text.strip().removeprefix("grade:").strip(),
                labels=labels,
                after=after,
            )
        except ScoringError as error:
            self._miss(
                f"the labels' log-probabilities cannot be read: {error}; the server must return the likeliest 20 "
                "(vLLM: --max-logprobs 20)"
            )

    async def _check_context(self) -> None:
        room = self.model.max_model_len if self.model else None
        if room is None:
            self._notes.append(f"{self.url}: does not tell its context; whether long pairs fit is not known")
            return
        cure = "raise teacher_server.max_model_len (vLLM: --max-model-len) or lower teacher.max_tokens"
        if self._prompt_tokens + self._max_tokens > room:
            self._miss(
                f"expected a context of at least {self._prompt_tokens} + {self._max_tokens} tokens, it has {room}: "
                f"{cure}"
            )
            return
        body = {
            "model": self._client.model,
            "messages": messages(self._policy, self._mode, _LONG_QUERY, _LONG_ITEM),
        }
        try:
            answer = await self._client.request("/tokenize", body, url=self.url, at_root=True)
        except RejectedError:
            self._notes.append(f"{self.url}: does not count tokens; whether long pairs fit is not known")
            return
        longest = len(_decode(answer, _Tokenized).tokens)
        if longest + self._max_tokens > room:
            self._notes.append(
                f"{self.url}: the longest pairs take {longest} + {self._max_tokens} tokens, the context has {room}: "
                f"such pairs are refused; {cure}"
            )
