"""What an agent does with a server, by one library.

    python programs.py LIBRARY RESULT URL
    python programs.py LIBRARY RESULT COMMAND ARGUMENT...

Each function lists the tools, calls ``add``, and calls ``fail``, and returns what came of it. It is run in the
environment of its library, which is the only one that can be imported there.
"""

# pyright: basic, reportMissingImports=false

import asyncio
import json
import os
import sys

ADD, FAIL = ("add", {"a": 1, "b": 2}), ("fail", {})


async def attempt(call):
    try:
        return str(await call)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


async def langchain(url, command):
    from langchain_mcp_adapters.client import MultiServerMCPClient
    from langchain_mcp_adapters.tools import load_mcp_tools

    connection = (
        {"transport": "streamable_http", "url": url}
        if url
        else {"transport": "stdio", "command": command[0], "args": command[1:]}
    )
    client = MultiServerMCPClient({"s": connection})
    async with client.session("s") as session:
        tools = {tool.name: tool for tool in await load_mcp_tools(session)}
        answers = [await attempt(tools[name].ainvoke(arguments)) for name, arguments in (ADD, FAIL)]
        # Ids of messages are drawn anew.
        return [sorted(tools), ["3" in answers[0], "Error executing" in answers[1]]]


async def openai_agents(url, command):
    from agents.mcp import MCPServerStdio, MCPServerStreamableHttp

    server = (
        MCPServerStreamableHttp(params={"url": url}, client_session_timeout_seconds=60)
        if url
        else MCPServerStdio(params={"command": command[0], "args": command[1:]}, client_session_timeout_seconds=60)
    )
    async with server:
        tools = await server.list_tools()
        return [
            sorted(tool.name for tool in tools),
            [await attempt(server.call_tool(name, arguments)) for name, arguments in (ADD, FAIL)],
        ]


async def pydantic_ai(url, command):
    try:
        from pydantic_ai.mcp import MCPServerStdio, MCPServerStreamableHTTP

        server = MCPServerStreamableHTTP(url) if url else MCPServerStdio(command[0], command[1:], timeout=60)
    except ImportError:  # a later release
        from fastmcp.client.transports import StdioTransport
        from pydantic_ai.mcp import MCPToolset

        server = MCPToolset(url or StdioTransport(command[0], command[1:], keep_alive=False))
    async with server:
        tools = await server.list_tools()
        return [
            sorted(tool.name for tool in tools),
            [await attempt(server.direct_call_tool(name, arguments)) for name, arguments in (ADD, FAIL)],
        ]


async def mcp_use(url, command):
    from mcp_use import MCPClient

    server = {"url": url} if url else {"command": command[0], "args": command[1:]}
    client = MCPClient({"mcpServers": {"s": server}})
    session = await client.create_session("s")
    tools = await session.list_tools()
    answers = [await attempt(session.call_tool(name, arguments)) for name, arguments in (ADD, FAIL)]
    await client.close_all_sessions()
    return [sorted(tool.name for tool in tools), answers]


async def strands(url, command):
    from mcp import StdioServerParameters, stdio_client
    from mcp.client.streamable_http import streamable_http_client
    from strands.tools.mcp import MCPClient

    def connect():
        if url:
            return streamable_http_client(url)
        return stdio_client(StdioServerParameters(command=command[0], args=command[1:]))

    def use():
        with MCPClient(connect, startup_timeout=60) as client:
            tools = client.list_tools_sync()
            answers = [client.call_tool_sync(name, name, arguments) for name, arguments in (ADD, FAIL)]
            return [sorted(tool.tool_name for tool in tools), [str(answer) for answer in answers]]

    return await asyncio.to_thread(use)


async def smolagents(url, command):
    from mcp import StdioServerParameters
    from smolagents import MCPClient

    def use():
        parameters = (
            {"url": url, "transport": "streamable-http"}
            if url
            else StdioServerParameters(command=command[0], args=command[1:])
        )
        with MCPClient(parameters, structured_output=False) as tools:
            named = {tool.name: tool for tool in tools}
            answers = []
            for name, arguments in (ADD, FAIL):
                try:
                    answers.append(str(named[name](**arguments)))
                except Exception as error:
                    answers.append(f"{type(error).__name__}: {error}")
            return [sorted(named), answers]

    return await asyncio.to_thread(use)


async def agno(url, command):
    from agno.tools.mcp import MCPTools
    from mcp import StdioServerParameters

    tools = (
        MCPTools(transport="streamable-http", url=url, timeout_seconds=60)
        if url
        else MCPTools(
            server_params=StdioServerParameters(command=command[0], args=command[1:]),
            transport="stdio",
            timeout_seconds=60,
        )
    )
    async with tools:
        answers = [await attempt(tools.session.call_tool(name, arguments)) for name, arguments in (ADD, FAIL)]
        return [sorted(tools.functions), answers]


async def google_adk(url, command):
    from google.adk.tools.mcp_tool import McpToolset
    from google.adk.tools.mcp_tool.mcp_session_manager import (
        StdioConnectionParams,
        StdioServerParameters,
        StreamableHTTPConnectionParams,
    )

    toolset = McpToolset(
        connection_params=StreamableHTTPConnectionParams(url=url, timeout=60)
        if url
        else StdioConnectionParams(
            server_params=StdioServerParameters(command=command[0], args=command[1:]), timeout=60
        )
    )
    tools = {tool.name: tool for tool in await toolset.get_tools()}
    session = await toolset._mcp_session_manager.create_session()
    answers = [await attempt(session.call_tool(name, arguments)) for name, arguments in (ADD, FAIL)]
    await toolset.close()
    return [sorted(tools), answers]


async def fastmcp(url, command):
    from fastmcp import Client
    from fastmcp.client.transports import StdioTransport

    async with Client(url or StdioTransport(command[0], command[1:], keep_alive=False)) as client:
        tools = await client.list_tools()
        return [
            sorted(tool.name for tool in tools),
            [await attempt(client.call_tool(name, arguments)) for name, arguments in (ADD, FAIL)],
        ]


if __name__ == "__main__":
    # openai-agents is imported as `agents`, which a file beside this one is called as well.
    sys.path.remove(os.path.dirname(os.path.abspath(__file__)))
    library, result, *target = sys.argv[1:]
    url = target[0] if target[0].startswith("http:") else ""
    # The other names of this module are not a library's.
    outcome = asyncio.run(asyncio.wait_for(globals()[library](url, target), 150))
    with open(result, "w") as output:
        json.dump(outcome, output)
