"""The endpoints as MCP tools, asked by the protocol's own client."""

import ast
import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

pytestmark = pytest.mark.slow


async def _ask(url: str) -> tuple[list[str], Any]:
    """(names of the tools, what `search_zoo` answers)."""
    from mcp import ClientSession
    from mcp.client.streamable_http import streamablehttp_client

    async with (
        streamablehttp_client(f"{url}gradio_api/mcp/") as (read, write, _),
        ClientSession(read, write) as session,
    ):
        await session.initialize()
        names = [tool.name for tool in (await session.list_tools()).tools]
        asked = {"description": "get the value of a pair", "count": 2}
        return names, await session.call_tool("search_zoo", asked)


def test_mcp_flag_offers_the_endpoints_as_tools(mcp_url: str) -> None:
    with ThreadPoolExecutor(1) as pool:  # the browser's driver keeps a loop in this thread
        names, found = pool.submit(asyncio.run, _ask(mcp_url)).result()
    assert {"generate_adapters", "search_zoo", "inspect_adapter", "answer_inputs"} <= set(names)
    assert not found.isError
    assert len(ast.literal_eval(found.content[0].text)) == 2


def test_app_offers_no_tools_without_the_flag(app_url: str) -> None:
    httpx = pytest.importorskip("httpx")
    asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    assert httpx.post(f"{app_url}gradio_api/mcp/", json=asked).status_code >= 400
