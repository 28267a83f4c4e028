"""One attempt at an OpenAI-compatible server: bounded in time and size, its errors sorted by what can be done."""

import asyncio
import email.utils
import os
import re
import time
from collections.abc import AsyncIterator
from typing import Any

from fivl_hf.files.json_stream import parse_json
from fivl_hf.llm.answers import Reply
from fivl_hf.llm.settings import ChatSettings, RequestError, ServiceError

__all__ = ["MAX_REPLY_BYTES", "ChatServer", "RejectedError", "TransientError", "clean_text", "read_completion"]

# Far more than the longest reply that is asked for.
MAX_REPLY_BYTES = 2_000_000
MAX_FILE_BYTES = 1_000_000_000
_MAX_TOKENS = 10_000_000
_MAX_RETRY_AFTER = 120.0
_KEY = re.compile(
    r"\b(?:sk|hf|pk|gsk|xai|r8)[-_][\w-]{6,}|\bAIza[\w-]{10,}|\beyJ[\w-]+\.[\w.-]+|\b[0-9a-f]{32,}\b"
    r"|(?<=bearer )\S+|(?<=basic )[\w+/=]{12,}|(?<=://)[^/@\s]+(?=@)",
    re.IGNORECASE,
)
# Markup of HTML and Markdown.
_INERT = str.maketrans("<>`[]", "‹›'()")
_TAG = re.compile(r"<[^<>]*>")
_ESCAPE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")


class TransientError(Exception):
    """An attempt that failed; the next one may not.

    Attributes:
        reason, detail: as those of :class:`RequestError`.
        retry_after: seconds that the server asks to wait.
        paid: whether the server may have answered, so that the attempt may be paid for.
        refused: whether nothing listens at the server's address.
    """

    def __init__(
        self, reason: str, detail: str, *, retry_after: float | None = None, paid: bool = False, refused: bool = False
    ) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail
        self.retry_after, self.paid, self.refused = retry_after, paid, refused


class RejectedError(RequestError):
    """The server does not take the request as it is."""


class ChatServer:
    """The server that settings name, without retries.

    Raises:
        ServiceError: neither a key nor a server is known.
    """

    def __init__(self, settings: ChatSettings) -> None:
        self._settings = settings
        self.sdk = _open_sdk(settings)

    async def complete(self, body: dict[str, Any], format: str) -> Reply:
        """Send one chat completion.

        Raises:
            PassingError: another attempt may succeed.
            RejectedError: the request has to be changed.
            RequestError: this request fails each time.
            ServiceError: every request fails.
        """
        import httpx2
        import openai

        try:
            data = await asyncio.wait_for(self._raw(body), self._settings.timeout)
            return read_completion(parse_json(data), format)
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            raise RejectedError("the server rejects the request", clean_text(error)) from error
        except openai.AuthenticationError as error:
            missing = "" if os.environ.get("OPENAI_API_KEY") else " (OPENAI_API_KEY is not set)"
            raise ServiceError(f"the server does not accept the API key{missing}: {clean_text(error)}") from error
        except (openai.PermissionDeniedError, openai.NotFoundError) as error:
            name = self._settings.model
            raise ServiceError(f"the server has no model {name!r} for this key: {clean_text(error)}") from error
        except openai.RateLimitError as error:
            if error.code == "insufficient_quota":
                raise ServiceError(f"the account has no credit left: {clean_text(error)}") from error
            raise TransientError("the server is busy", clean_text(error), retry_after=_retry_after(error)) from error
        except openai.APIStatusError as error:
            detail = f"{error.status_code} {clean_text(error)}"
            raise TransientError("the server failed", detail, retry_after=_retry_after(error)) from error
        except (asyncio.TimeoutError, openai.APITimeoutError, httpx2.TimeoutException) as error:
            limit = f"within {self._settings.timeout:g} s"
            raise TransientError("the server did not reply in time", limit, paid=True) from error
        except (openai.APIConnectionError, httpx2.TransportError, OSError) as error:
            raise self._disconnected(error) from error
        except (openai.APIError, httpx2.DecodingError, ValueError) as error:
            raise TransientError("the server's reply is not a chat completion", clean_text(error), paid=True) from error

    async def _raw(self, body: dict[str, Any]) -> bytes:
        import httpx2

        # By the SDK's untyped `post`: its typed method walks through the whole body, which takes as long as all our
        # other work on a request.
        response = await self.sdk.post("/chat/completions", cast_to=httpx2.Response, body=body)
        return bytes(response.content)

    def _disconnected(self, error: Exception) -> TransientError:
        cause = error.__cause__ or error
        refused = type(cause).__name__ == "ConnectError"
        detail = f"{clean_text(self.sdk.base_url)} ({clean_text(cause) or type(cause).__name__})"
        return TransientError("no connection to the server", detail, paid=not refused, refused=refused)

    async def close(self) -> None:
        """Close the connections."""
        await self.sdk.close()


def _open_sdk(settings: ChatSettings) -> Any:
    """Yield the SDK's asynchronous client for these settings."""
    try:
        import httpx2
        import openai
    except ImportError as error:
        raise ImportError("asking a language model needs `pip install fivl-hf[augment]`") from error
    key = os.environ.get("OPENAI_API_KEY")
    base_url = settings.base_url or os.environ.get("OPENAI_BASE_URL")
    if not key and not base_url:
        raise ServiceError("OPENAI_API_KEY is not set: set it, or name another server")

    class BoundedTransport(httpx2.AsyncHTTPTransport):
        """Ends replies, also those of errors, that are longer than any that is asked for, or compressed."""

        async def handle_async_request(self, request: Any) -> Any:
            response = await super().handle_async_request(request)
            encoding = response.headers.get("content-encoding", "identity")
            if encoding != "identity":
                await response.aclose()
                raise httpx2.DecodingError(f"a reply compressed by {encoding!r}, which was not asked for")
            limit = MAX_FILE_BYTES if request.url.path.endswith("/content") else MAX_REPLY_BYTES
            response.stream = BoundedStream(response.stream, limit)
            return response

    class BoundedStream(httpx2.AsyncByteStream):
        def __init__(self, stream: Any, limit: int) -> None:
            self._stream, self._limit = stream, limit

        async def __aiter__(self) -> AsyncIterator[bytes]:
            size = 0
            async for block in self._stream:
                size += len(block)
                if size > self._limit:
                    raise httpx2.DecodingError(f"a reply of more than {self._limit:,} bytes")
                yield block

        async def aclose(self) -> None:
            await self._stream.aclose()

    return openai.AsyncOpenAI(
        # Local servers want no key, but the SDK wants one to send.
        api_key=key or "none",
        base_url=base_url,
        timeout=settings.timeout,
        # Its own retries would be neither counted nor stopped by the budget.
        max_retries=0,
        default_headers={"Accept-Encoding": "identity"},
        http_client=openai.DefaultAsyncHttpxClient(transport=BoundedTransport(), timeout=settings.timeout),
    )


def _retry_after(error: Any) -> float | None:
    """Return seconds that a server asks to wait, by its Retry-After header (seconds or a date), at most two minutes."""
    value = error.response.headers.get("retry-after")
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        parsed = email.utils.parsedate_tz(value)
        if parsed is None:
            return None
        seconds = email.utils.mktime_tz(parsed) - time.time()
    return min(max(seconds, 0.0), _MAX_RETRY_AFTER) if seconds == seconds else None


def read_completion(completion: Any, format: str) -> Reply:
    """Read a reply from a chat completion's JSON.

    Raises:
        ValueError: it is not a chat completion.
    """
    try:
        choice = completion["choices"][0]
        message, usage = choice["message"], completion.get("usage")
        told = usage if isinstance(usage, dict) else {}
        content = message.get("content") or ""
        if not isinstance(content, str):
            raise TypeError("the content is not text")
        return Reply(
            text=content,
            format=format,
            finish=str(choice.get("finish_reason") or "stop"),
            refusal=str(message["refusal"]) if message.get("refusal") else None,
            prompt_tokens=_tokens(told.get("prompt_tokens")),
            completion_tokens=_tokens(told.get("completion_tokens")),
        )
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(f"not a chat completion: {clean_text(str(completion)[:300])}") from error


def _tokens(value: Any) -> int:
    """Return a count of tokens as a server tells it; 0 for one that cannot be true."""
    return value if type(value) is int and 0 <= value <= _MAX_TOKENS else 0


def clean_text(text: object, limit: int = 300) -> str:
    """Sanitize a server's text for terminal, report and card: one line without keys, markup and control characters."""
    key = os.environ.get("OPENAI_API_KEY")
    plain = _ESCAPE.sub("", str(text))
    # Shorter ones, which local servers take, are not secret, and parts of words.
    plain = plain.replace(key, "\0") if key and len(key) >= 8 else plain
    plain = _TAG.sub(" ", _KEY.sub("\0", plain)).translate(_INERT).replace("\0", "[key]")
    return " ".join("".join(c if c.isprintable() else " " for c in plain).split())[:limit]
