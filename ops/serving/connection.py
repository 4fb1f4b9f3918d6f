"""Connections to a Triton: address, TLS and token as the settings say, and what an operator asks of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from tritonclient import grpc as triton
from tritonclient.grpc import aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from ops.serving import address
from ops.serving.command import TOKEN_HEADER
from ops.settings import Settings

#: As gRPC's own, with room for a thousand vectors.
MAX_MESSAGE_BYTES = 16 * 1024 * 1024


class TritonError(RuntimeError):
    """Triton refused a request or does not answer. `code` is gRPC's, e.g. `INVALID_ARGUMENT`."""

    def __init__(self, what: str, error: BaseException) -> None:
        status = error.status() if isinstance(error, InferenceServerException) else None
        message = error.message() if isinstance(error, InferenceServerException) else str(error)
        self.code = str(status or "UNKNOWN").removeprefix("StatusCode.")
        super().__init__(f"{what}: {message} ({self.code})")


def headers_of(settings: Settings) -> dict[str, str]:
    """Return the metadata of every call: the token, if there is one."""
    token = settings.scoring.token.get_secret_value()
    return {TOKEN_HEADER: token} if token else {}


def channel_of(settings: Settings) -> dict[str, Any]:
    """Return the keyword arguments that both kinds of client share."""
    scoring = settings.scoring
    options = [
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        # An ad engine waits for no reconnect longer than for a few answers.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
        # A channel to a server of another version of these settings is none of ours.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if scoring.ca_file is None:
        return {"channel_args": options}
    files = {
        "root_certificates": scoring.ca_file,
        "private_key": scoring.key,
        "certificate_chain": scoring.certificate,
    }
    return {"channel_args": options, "ssl": True} | {name: str(path) for name, path in files.items() if path}


def async_client(settings: Settings) -> aio.InferenceServerClient:
    """Return a client for an event loop. Raises NotRunningError without an address."""
    return aio.InferenceServerClient(address.grpc_address(settings), **channel_of(settings))


def tensors(values: Mapping[str, npt.NDArray[Any]], *, module: Any = triton) -> list[Any]:
    """Return request inputs of arrays; object arrays are BYTES."""
    made = []
    for name, value in values.items():
        each = module.InferInput(name, list(value.shape), np_to_triton_dtype(value.dtype))
        each.set_data_from_numpy(value)
        made.append(each)
    return made


def texts(rows: list[list[str]]) -> npt.NDArray[np.object_]:
    """Return rows of texts of equal number as a BYTES array; lone surrogates are kept for the server to refuse."""
    return np.array(
        [[text.encode("utf-8", "surrogatepass") for text in row] for row in rows], dtype=np.object_
    )


class Control:
    """What an operator asks of a Triton. Every method raises TritonError. Not for use by several threads at once."""

    def __init__(self, settings: Settings, *, at: str | None = None, timeout_s: float | None = None) -> None:
        """`at` is host:port instead of the settings'; `timeout_s` bounds loading. Raises NotRunningError."""
        self._client = triton.InferenceServerClient(
            at or address.grpc_address(settings), **channel_of(settings)
        )
        self._headers = headers_of(settings)
        self._timeout_s = timeout_s or settings.serving.load_within_s

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def live(self, *, timeout_s: float) -> bool:
        """Tell whether the server answers."""
        try:
            return bool(self._client.is_server_live(headers=self._headers, client_timeout=timeout_s))
        except InferenceServerException:
            return False

    def load(self, model: str) -> None:
        """Have a model load the versions that its folder holds, and unload those it holds no more."""
        self._call(f"loading {model}", self._client.load_model, model)

    def unload(self, model: str) -> None:
        """Have all versions of a model unloaded."""
        self._call(f"unloading {model}", self._client.unload_model, model)

    def ready(self, model: str, version: int) -> bool:
        """Tell whether the server says that a version is ready; it also says so of one whose process has died."""
        return bool(
            self._call(f"asking for {model} {version}", self._client.is_model_ready, model, str(version))
        )

    def infer(
        self,
        model: str,
        version: int,
        values: Mapping[str, npt.NDArray[Any]],
        *,
        outputs: Sequence[str] = (),
        timeout_s: float | None = None,
    ) -> dict[str, npt.NDArray[Any]]:
        """Return a version's outputs by name: all of them, or those asked for."""
        try:
            result = self._client.infer(
                model,
                tensors(values),
                model_version=str(version),
                outputs=[triton.InferRequestedOutput(name) for name in outputs] or None,
                client_timeout=timeout_s or self._timeout_s,
                headers=self._headers,
            )
        except InferenceServerException as error:
            raise TritonError(f"{model} {version}", error) from error
        return {output.name: result.as_numpy(output.name) for output in result.get_response().outputs}

    def _call(self, what: str, function: Any, *arguments: Any) -> Any:
        try:
            return function(*arguments, headers=self._headers, client_timeout=self._timeout_s)
        except InferenceServerException as error:
            raise TritonError(what, error) from error
