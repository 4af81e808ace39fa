"""HTTP to a tracking server, with the same credentials, proxies and certificates as MLflow's own client."""

from __future__ import annotations

import base64
import configparser
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlencode, urlsplit, urlunsplit

import requests
import urllib3

from ..answers import MAX_ANSWER, EndlessAnswer, parse_retry_after, quote_answer, read_answer
from ..bounded_heads import BoundedHeadsAdapter
from ..sending.request_size import describe_hung_up, describe_too_large, may_be_size
from ..shown_addresses import hide_user_info
from ..types import BackendUnavailable
from .store import MAX_CONNECTIONS, StoreDenied, StoreRejected

# Seconds; *read* limits the time between two bytes of the answer.
_TIMEOUT: Final = urllib3.Timeout(connect=2.0, read=30.0)


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """The answer of a server."""

    status: int
    content: bytes
    headers: Mapping[str, str]

    def make_exception(self, where: str, sent: int) -> BackendUnavailable | StoreRejected:
        """Return the exception for an answer without success from *where* to a request of *sent* bytes."""
        status = self.status
        message = quote_answer(self.content)
        if status == 403 and b"Invalid Host header" in self.content:
            return StoreDenied(_UNKNOWN_HOST_MESSAGE.format(where=where))
        if status in {401, 403}:
            return StoreDenied(_DENIED_MESSAGE.format(where=where, status=status, message=message[:80]))
        if status in {408, 429} or (status >= 500 and status != 501):
            retry_after = parse_retry_after(self.headers.get("Retry-After"))
            text, too_slow = f"{where} answers {status}", status in {408, 504}
            return BackendUnavailable(text, retry_after, may_be_item=status == 500, too_slow=too_slow)
        if where.endswith("/v1/traces") and status in {404, 405, 501}:
            return StoreDenied(_NO_OTLP_MESSAGE.format(where=where, status=status))
        if status < 400:
            target = hide_user_info(self.headers.get("Location", "").partition("?")[0])
            return StoreRejected(f"{where} answers {status} and points to {target}: name that address", all_of_it=True)
        if status == 413:
            return StoreRejected(describe_too_large(where, sent), too_large=True)
        return StoreRejected(f"{where} answers {status}: {message}", all_of_it=status == 404)


_DENIED_MESSAGE: Final = (
    "{where} answers {status}: check MLFLOW_TRACKING_USERNAME and _PASSWORD or _TOKEN, and that this user may edit the "
    "experiment ({message})"
)
_UNKNOWN_HOST_MESSAGE: Final = (
    "{where} answers 403: MLflow does not accept this host name; start the server with an --allowed-hosts that has it "
    "(Invalid Host header)"
)
FOREIGN_MESSAGE: Final = (
    "{where} does not answer as MLflow does ({kind}): another server is behind this address, or a sign-in page"
)
_NO_OTLP_MESSAGE: Final = (
    "{where} answers {status}: this server takes no spans. That needs MLflow 3.4 or later, on a database, and started "
    "without --gunicorn-opts or --waitress-opts"
)


class HttpClient:
    """Keep-alive connections for many threads.

    Credentials, the first that is set: ``MLFLOW_TRACKING_USERNAME`` and ``_PASSWORD``, ``MLFLOW_TRACKING_TOKEN``, the
    URI's user and password, ``~/.mlflow/credentials``. TLS: ``MLFLOW_TRACKING_INSECURE_TLS``, ``_SERVER_CERT_PATH``,
    ``_CLIENT_CERT_PATH``, ``REQUESTS_CA_BUNDLE``. Proxies: ``HTTP_PROXY``, ``HTTPS_PROXY``, ``NO_PROXY``. Workspace:
    ``MLFLOW_WORKSPACE``. All are read once.

    *with_credentials*: False sends none but those in the URI, to a host that the environment does not name.

    Raises StoreRejected if the settings contradict each other or name something that does not exist.
    """

    def __init__(self, uri: str, *, with_credentials: bool = True) -> None:
        parts = urlsplit(uri.rstrip("/"))
        self.uri = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        self.headers: dict[str, str] = {"User-Agent": "mlspan"} | _read_authorization(
            parts.username, parts.password, of_environment=with_credentials
        )
        if workspace := os.environ.get("MLFLOW_WORKSPACE"):
            self.headers["X-MLFLOW-WORKSPACE"] = workspace
        self._prefix, self._pool = _open_pool(self.uri)

    def send_request(
        self,
        method: str,
        path: str,
        *,
        data: bytes | None = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        most: int = MAX_ANSWER,
    ) -> HttpResponse:
        """Send a request and return the answer, whatever its status, of at most so many bytes.

        Raise BackendUnavailable without an answer, StoreDenied for one without end.
        """
        url = f"{self._prefix}/{path}" + (f"?{urlencode(params)}" if params else "")
        for again in (True, False):
            try:
                answer = self._pool.urlopen(
                    method,
                    url,
                    body=data,
                    headers={**self.headers, **(headers or {})},
                    timeout=_TIMEOUT,
                    retries=False,
                    redirect=False,
                    assert_same_host=False,
                    preload_content=False,
                )
                return HttpResponse(answer.status, read_answer(answer, most), answer.headers)
            except EndlessAnswer as endless:
                where = f"{hide_user_info(self.uri)}/{path}"
                raise StoreDenied(FOREIGN_MESSAGE.format(where=where, kind=endless)) from endless
            except urllib3.exceptions.ProtocolError as error:  # the server has just closed an idle connection
                if again:
                    continue
                hung_up = may_be_size(len(data or b""))
                reason = self._describe_failure(error, describe_hung_up(len(data or b"")) if hung_up else "")
                raise BackendUnavailable(reason, may_be_size=hung_up) from error
            except (urllib3.exceptions.HTTPError, OSError) as error:
                too_slow = isinstance(error, urllib3.exceptions.ReadTimeoutError)
                raise BackendUnavailable(self._describe_failure(error), too_slow=too_slow) from error
        raise AssertionError

    def _describe_failure(self, error: Exception, why: str = "") -> str:
        why = why or type(error).__name__
        if isinstance(error, urllib3.exceptions.SSLError):
            why = f"{error}; MLFLOW_TRACKING_SERVER_CERT_PATH names a certificate to trust"
        elif isinstance(error, urllib3.exceptions.ProxyError):
            why = "the proxy refuses, or is not there"
        return f"cannot reach the tracking server {hide_user_info(self.uri)} ({why})"

    def close(self) -> None:
        self._pool.close()


def _read_authorization(user: str | None, password: str | None, *, of_environment: bool) -> dict[str, str]:
    """Return the Authorization header from the first credentials found; empty without any."""
    environ: Mapping[str, str] = os.environ if of_environment else {}
    user_variable, token = environ.get("MLFLOW_TRACKING_USERNAME"), environ.get("MLFLOW_TRACKING_TOKEN")
    if user_variable:
        user, password = user_variable, environ.get("MLFLOW_TRACKING_PASSWORD")
    elif token:
        return {"Authorization": f"Bearer {token}"}
    elif user:
        user, password = unquote(user), unquote(password or "")
    elif of_environment:
        user, password = _read_credentials_file()
    if not user:
        return {}
    credentials = base64.b64encode(f"{user}:{password or ''}".encode()).decode()
    return {"Authorization": f"Basic {credentials}"}


def _read_credentials_file() -> tuple[str | None, str | None]:
    """Return user and password from the file that ``mlflow`` keeps in the user's home."""
    found = configparser.ConfigParser(interpolation=None)
    try:
        found.read(Path.home() / ".mlflow" / "credentials")
        section = found["mlflow"]
    except (OSError, RuntimeError, KeyError, configparser.Error):
        return None, None
    return section.get("mlflow_tracking_username"), section.get("mlflow_tracking_password")


def _open_pool(uri: str) -> tuple[str, Any]:
    """Return the prefix for paths and the connection pool, with the proxy and certificates that requests chooses."""
    environ = os.environ
    insecure = environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in {"1", "true"}
    trusted, own = environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH"), environ.get("MLFLOW_TRACKING_CLIENT_CERT_PATH")
    if insecure and trusted:
        msg = "MLFLOW_TRACKING_INSECURE_TLS and MLFLOW_TRACKING_SERVER_CERT_PATH exclude each other: unset one"
        raise StoreRejected(msg, all_of_it=True)
    if insecure:  # the user has chosen this, and urllib3's warning would stop us where warnings are errors
        unverified = re.escape(f"Unverified HTTPS request is being made to host '{urlsplit(uri).hostname}'")
        warnings.filterwarnings("ignore", unverified, urllib3.exceptions.InsecureRequestWarning)
    found = requests.Session().merge_environment_settings(uri, {}, None, False if insecure else trusted or None, own)
    try:
        return _PoolAdapter(pool_maxsize=MAX_CONNECTIONS, pool_block=True).open_pool(
            uri, found["verify"], found["proxies"], found["cert"]
        )
    except (OSError, requests.RequestException) as error:  # a missing certificate, or a proxy without a valid address
        raise StoreRejected(str(error), all_of_it=True) from error


class _PoolAdapter(BoundedHeadsAdapter):
    """Finds proxies and certificates as requests does.

    Calls go to urllib3's pool, at a third of the cost of requests' own.
    """

    def open_pool(self, uri: str, verify: Any, proxies: Any, cert: Any) -> tuple[str, Any]:
        """Return the prefix for paths and the urllib3 pool."""
        asked = requests.Request("GET", uri).prepare()
        pool: Any = self.get_connection_with_tls_context(asked, verify, proxies, cert)
        self.cert_verify(pool, uri, verify, cert)  # type: ignore[no-untyped-call]
        return self.request_url(asked, proxies).rstrip("/"), pool
