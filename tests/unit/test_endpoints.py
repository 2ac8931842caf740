"""What every endpoint does before its answer is asked for."""

import asyncio
from hashlib import sha256

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from service.access import Access
from service.endpoints import guarded, json_reply


def get(path):
    asked = []

    async def answer(request):
        asked.append(request.url.path)
        return json_reply("here")

    async def main():
        access = Access({sha256(b"auditor").hexdigest(): ["audit"]})
        app = Starlette(routes=[Route("/v1/{name}", guarded(access, "audit", answer))])
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as http:
            return await http.get(path, headers={"authorization": "Bearer auditor"})

    return asyncio.run(main()), asked


@pytest.mark.parametrize("path", ["/v1/a%00b", "/v1/a?campaign=a%00b", "/v1/a?a%00b=1"])
def test_an_address_with_a_null_character_is_refused_before_anything_is_asked(path):
    answer, asked = get(path)
    assert (answer.status_code, answer.json()["detail"]) == (400, "the address has a U+0000")
    assert asked == []


@pytest.mark.parametrize("path", ["/v1/a%2500b?campaign=a%2500b", "/v1/%F0%9F%92%A5"])
def test_any_other_address_is_asked(path):
    answer, asked = get(path)
    assert (answer.status_code, len(asked)) == (200, 1)
