"""The few requests that tests make of components, with the standard library."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any


def get(url: str) -> str:
    """The body of a 2xx answer; `OSError` for anything else."""
    with urllib.request.urlopen(url, timeout=10) as response:
        return response.read().decode()


def get_json(url: str) -> Any:
    return json.loads(get(url))


def post(url: str, body: bytes, content_type: str = "application/json", **headers: str) -> tuple[int, bytes]:
    """Status and body, whatever the status."""
    request = urllib.request.Request(url, data=body, headers={"content-type": content_type, **headers})
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def post_json(url: str, body: Any) -> tuple[int, Any]:
    status, answer = post(url, json.dumps(body).encode())
    return status, json.loads(answer)


def answers(url: str) -> bool:
    """Whether `url` answers 2xx."""
    try:
        get(url)
    except OSError:
        return False
    return True
