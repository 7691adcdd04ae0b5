"""The reference client of the Model Context Protocol over streamable HTTP, with a key in a header field of its own; the
key comes from the environment, the base URL, where there is one, too. Called by the tests."""

import asyncio
import os

import httpx2
from common import main, say
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

URL = os.environ.get("MCP_URL", "https://mcp.tools.example") + "/mcp"
FIELDS = {"x-mcp-key": os.environ["MCP_KEY"]}


async def with_session(use):
    async with httpx2.AsyncClient(headers=FIELDS) as client, streamable_http_client(URL, http_client=client) as streams:
        async with ClientSession(*streams) as session:
            await session.initialize()
            await use(session)


def run(use):
    try:
        asyncio.run(with_session(use))
    except Exception as group:
        # What happened lies inside, once for each task that it ended.
        error = group
        while hasattr(error, "exceptions"):
            error = error.exceptions[0]
        raise error from None


def tools():
    async def use(session):
        for tool in (await session.list_tools()).tools:
            say(text=tool.name)

    run(use)


def call():
    async def use(session):
        say(text=(await session.call_tool("where", {"what": "keys"})).content[0].text)

    run(use)


def call_stream():
    async def use(session):
        async def hear(progress, total, message):
            say(text=message)

        answer = await session.call_tool("tell", {"what": "keys"}, progress_callback=hear)
        say(final=answer.content[0].text)

    run(use)


main(tools=tools, call=call, call_stream=call_stream)
