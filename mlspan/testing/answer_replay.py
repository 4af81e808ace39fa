"""Record what models answer, and replay it without a network: a local server takes the place of the provider."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import requests

from .answer_server import AnswerServer, IncomingRequest, OutgoingAnswer
from .answer_services import SERVICES, keep_from_network, list_variables, set_variables
from .recorded_secrets import SecretRemover
from .recording_file import (
    Exchange,
    RecordedAnswer,
    RecordedRequest,
    decode_body,
    describe_unknown,
    encode_piece,
    is_encoded,
    is_json_document,
    read_recording,
    write_recording,
)
from .running_session import Recording

_KEPT_HEADERS: Final = frozenset(  # of answers; all others may hold what is nobody's business
    {"content-type", "retry-after", "retry-after-ms", "x-should-retry", "request-id", "x-request-id"}
)
_LEFT_HEADERS: Final = frozenset(  # of requests: those of one connection
    {"host", "content-length", "connection", "transfer-encoding", "accept-encoding", "keep-alive", "expect", "te"}
)
_TIMEOUTS: Final = (30.0, 600.0)  # seconds to connect, and to wait for more of an answer
_LAST_ANSWERS: Final = 60.0  # seconds to wait at the end for answers that are still being recorded


class ModelAnswers:
    """The answers of one test: recorded ones, or those of the provider.

    Attributes:
        path: the file of the recording.
        requests: what was asked, in the order of arrival, without secrets.
        problems: what went wrong, each a text to read: a request that is not recorded, a provider that is away.
    """

    def __init__(
        self,
        path: Path,
        record: Recording = "none",
        ignore: Sequence[str] = (),
        redact: Callable[[str], str] | None = None,
    ) -> None:
        self.path = path
        self.requests: list[RecordedRequest] = []
        self.problems: list[str] = []
        self._record, self._ignored = record, tuple(ignore)
        self._secrets = SecretRemover(redact)
        self._exchanges = [] if record == "all" else read_recording(path)
        self._unused = [*self._exchanges]
        self._addresses = {service.name: service.find_address() for service in SERVICES}
        self._lock = threading.Lock()
        self._under_way = threading.Semaphore(0)
        self._forwarded = 0
        self._server = AnswerServer(self._answer)

    @property
    def unused(self) -> list[RecordedRequest]:
        """Return the requests that are recorded and that nobody has made again."""
        return [exchange.request for exchange in self._unused]

    def url(self, address: str, name: str | None = None) -> str:
        """Return the base URL to give to a client in the place of *address*.

        Args:
            address: the base URL of the provider.
            name: what the recording calls it; by default its host.
        """
        known = {service.address: service.name for service in SERVICES}
        service = name or known.get(address.rstrip("/")) or urlsplit(address).netloc.rpartition("@")[2]
        self._addresses[service] = address.rstrip("/")
        return f"{self._server.url}/{service}"

    @contextmanager
    def serve(self) -> Iterator[None]:
        """Lead clients here inside the block; afterwards write what was recorded."""
        try:
            with ExitStack() as stack:
                stack.enter_context(set_variables(list_variables(self._server.url)))
                if self._record == "none":
                    stack.enter_context(keep_from_network(self._note_problem))
                yield
        finally:
            for _ in range(self._forwarded):
                self._under_way.acquire(timeout=_LAST_ANSWERS)
            self._server.stop()
            if self._forwarded:
                write_recording(self.path, self._exchanges)

    @property
    def has_recorded(self) -> bool:
        """Return whether a provider was asked, so that the file is written."""
        return self._forwarded > 0

    def _note_problem(self, told: str) -> None:
        if told not in self.problems:
            self.problems.append(told)

    def _answer(self, incoming: IncomingRequest) -> OutgoingAnswer:
        service, _, path = incoming.path.lstrip("/").partition("/")
        with self._lock:
            self._secrets.learn_credentials(incoming.headers)
            request = self._make_request(incoming, service, f"/{path}")
            self.requests.append(request)
            if (exchange := self._take_recorded(request)) is not None and exchange.answer is not None:
                return _replay(exchange.answer)
            if self._record == "none" or service not in self._addresses:
                return self._refuse(describe_unknown(request, self._exchanges, self._ignored, self.path))
            self._forwarded += 1
            self._exchanges.append(exchange := Exchange(request))
        try:
            return self._forward(incoming, exchange, f"{self._addresses[service]}/{path}")
        except (OSError, ValueError) as error:
            self._under_way.release()
            return self._refuse(self._secrets.clean_text(f"{self._addresses[service]} cannot be asked: {error}"))

    def _make_request(self, incoming: IncomingRequest, service: str, path: str) -> RecordedRequest:
        body = decode_body(incoming.body, incoming.get_header("content-type"))
        if is_encoded(body):  # sounds and pictures: to know them again is enough
            body = {"sha256": hashlib.sha256(incoming.body).hexdigest(), "bytes": len(incoming.body)}
        cleaned = self._secrets.clean_value(body)
        return RecordedRequest(service, incoming.method, self._secrets.clean_path(path), cleaned)

    def _take_recorded(self, request: RecordedRequest) -> Exchange | None:
        key = request.make_key(self._ignored)
        found = next((one for one in self._unused if one.request.make_key(self._ignored) == key), None)
        if found is not None:
            self._unused.remove(found)
        return found

    def _refuse(self, told: str) -> OutgoingAnswer:
        """Note a problem, and answer in the form of an error that clients show and do not try again."""
        self._note_problem(told)
        body = {"error": {"message": told, "type": "mlspan_replay", "code": "not_recorded"}, "message": told}
        headers = {"Content-Type": "application/json", "x-should-retry": "false"}
        return OutgoingAnswer(400, headers, iter([json.dumps(body).encode()]), is_stream=False)

    def _forward(self, incoming: IncomingRequest, exchange: Exchange, address: str) -> OutgoingAnswer:
        """Ask the provider, and return its answer, which is noted as it passes."""
        sent = {name: value for name, value in incoming.headers if name.lower() not in _LEFT_HEADERS}
        response = requests.request(
            incoming.method,
            address,
            headers={**sent, "Accept-Encoding": "identity"},
            data=incoming.body,
            stream=True,
            allow_redirects=False,
            timeout=_TIMEOUTS,
            auth=_leave_as_is,
        )
        headers = {name.lower(): value for name, value in response.headers.items() if name.lower() in _KEPT_HEADERS}
        is_stream = "Content-Length" not in response.headers and not is_json_document(headers.get("content-type", ""))
        pieces = self._note_pieces(exchange, response, headers, is_stream=is_stream)
        return OutgoingAnswer(response.status_code, headers, pieces, is_stream)

    def _note_pieces(
        self, exchange: Exchange, response: requests.Response, headers: dict[str, str], *, is_stream: bool
    ) -> Iterator[bytes]:
        """Yield the pieces of an answer as they arrive; then note it."""
        pieces: list[bytes] = []
        answer = RecordedAnswer(response.status_code, self._secrets.clean_value(headers))
        try:
            for piece in response.iter_content(chunk_size=None):
                pieces.append(piece)
                yield piece
        except requests.RequestException as error:
            answer.is_cut_off = True
            raise ConnectionError("the answer was cut off") from error
        finally:
            response.close()
            if is_stream:
                answer.chunks = self._clean_chunks(pieces)
            else:
                body = decode_body(b"".join(pieces), headers.get("content-type", ""))
                answer.body = self._secrets.clean_value(body)
            exchange.answer = answer
            self._under_way.release()

    def _clean_chunks(self, pieces: Sequence[bytes]) -> list[Any]:
        """Return the pieces of a stream without secrets; as one, if a secret lies across two of them."""
        encoded = [encode_piece(piece) for piece in pieces]
        cleaned = self._secrets.clean_value(encoded)
        whole = encode_piece(b"".join(pieces))
        if isinstance(whole, str) and all(isinstance(piece, str) for piece in cleaned):
            clean_whole = self._secrets.clean_text(whole)
            return [clean_whole] if clean_whole != "".join(cleaned) else list(cleaned)
        return list(cleaned)


def _leave_as_is(request: Any) -> Any:
    """Keep requests from adding credentials of its own, of a file with passwords."""
    return request


def _replay(answer: RecordedAnswer) -> OutgoingAnswer:
    def iterate_pieces() -> Iterator[bytes]:
        yield from answer.list_pieces()
        if answer.is_cut_off:
            raise ConnectionError("the recorded answer was cut off here")

    return OutgoingAnswer(answer.status, dict(answer.headers), iterate_pieces(), answer.chunks is not None)


@contextmanager
def model_answers(
    path: str | os.PathLike[str],
    *,
    record: Recording = "none",
    ignore: Sequence[str] = (),
    redact: Callable[[str], str] | None = None,
) -> Iterator[ModelAnswers]:
    """Answer the requests of clients from a recording.

    Inside the block the variables from which the clients of OpenAI, Anthropic, Google Gen AI, Groq, Cohere and Ollama
    take their base URL name a local server. Clients are to be made inside the block, or given ``answers.url(...)``.

    Args:
        path: the file of the recording.
        record: ``none`` replays and lets nothing pass; ``missing`` asks the provider what is not recorded, and adds it;
            ``all`` asks everything anew.
        ignore: what changes from run to run in the bodies of requests, such as ``"metadata.run"`` or ``"*.id"``.
        redact: takes out what else is to be hidden in what is written. Keys, credentials and headers of requests never
            are written.

    Yields:
        The answers, whose ``problems`` are empty if everything asked was recorded.
    """
    answers = ModelAnswers(Path(path), record, ignore, redact)
    with answers.serve():
        yield answers
