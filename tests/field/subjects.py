"""What is tried: a row each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

V1, V2 = "mcp == 1.30.0", "mcp == 2.3.0"


@dataclass(frozen=True)
class Call:
    """A call of a method of the TypeScript SDK's client. ``{work}`` and ``{page}`` are filled in.

    Attributes:
        params: The parameters of the method.
        method: Its name.
    """

    params: dict[str, Any]
    method: str = "callTool"


def tool(name: str, **arguments: Any) -> Call:
    """A call of a tool."""
    return Call({"name": name, "arguments": arguments})


@dataclass(frozen=True)
class Server:
    """A server on PyPI that speaks over stdio.

    Attributes:
        package: What is installed.
        environment: The environment it is installed into.
        sdk: The SDK it gets; where it is empty the package decides.
        command: The console script and its arguments.
        calls: What a client calls, beside the handshake, a ping and every listing.
    """

    package: str
    environment: str
    sdk: str
    command: tuple[str, ...]
    calls: tuple[Call, ...]


@dataclass(frozen=True)
class Agent:
    """A client library on PyPI; ``programs.py`` has the program that uses it.

    Attributes:
        name: The function there, and the environment.
        packages: What is installed.
        environment: Variables that it gets.
    """

    name: str
    packages: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict[str, str])


SERVERS: Final = (
    Server(
        "mcp-server-time",
        "servers-2",
        V2,
        ("mcp-server-time", "--local-timezone", "UTC"),
        (
            tool("convert_time", source_timezone="Europe/Berlin", time="12:30", target_timezone="Asia/Tokyo"),
            tool("convert_time", source_timezone="no such zone", time="12:30", target_timezone="Asia/Tokyo"),
            tool("no_such_tool"),
        ),
    ),
    Server(
        "mcp-server-git",
        "servers-2",
        V2,
        ("mcp-server-git", "--repository", "{work}"),
        (
            tool("git_status", repo_path="{work}"),
            tool("git_log", repo_path="{work}", max_count=1),
            tool("git_show", repo_path="{work}", revision="no-such-revision"),
        ),
    ),
    Server(
        "mcp-server-fetch",
        "servers-2",
        V2,
        ("mcp-server-fetch", "--ignore-robots-txt", "--allow-private-ips"),
        (
            tool("fetch", url="{page}"),
            tool("fetch", url="{page}missing", max_length=100),
            Call({"name": "fetch", "arguments": {"url": "{page}"}}, "getPrompt"),
        ),
    ),
    Server(
        "mcp-server-sqlite",
        "servers-1",
        V1,
        ("mcp-server-sqlite", "--db-path", "{work}/data.db"),
        (
            tool("create_table", query="CREATE TABLE t (a INTEGER, b TEXT)"),
            tool("write_query", query="INSERT INTO t VALUES (1, 'größe')"),
            tool("read_query", query="SELECT * FROM t"),
            tool("read_query", query="SELECT * FROM missing"),
            tool("append_insight", insight="one row"),
            Call({"uri": "memo://insights"}, "readResource"),
            Call({"name": "mcp-demo", "arguments": {"topic": "shops"}}, "getPrompt"),
        ),
    ),
    Server(
        "mcp-server-calculator",
        "servers-1",
        V1,
        ("mcp-server-calculator",),
        (tool("calculate", expression="2 * (3 + 4)"), tool("calculate", expression="1 / 0")),
    ),
    Server(
        "mcp-server-duckdb",
        "servers-1",
        V1,
        ("mcp-server-duckdb", "--db-path", "{work}/duck.db"),
        (tool("query", query="SELECT 42 AS answer"), tool("query", query="SELECT * FROM missing")),
    ),
    Server(
        "excel-mcp-server",
        "servers-1",
        V1,
        ("excel-mcp-server", "stdio"),
        (
            tool("create_workbook", filepath="{work}/book.xlsx"),
            tool("create_worksheet", filepath="{work}/book.xlsx", sheet_name="two"),
            tool("get_workbook_metadata", filepath="{work}/missing.xlsx"),
        ),
    ),
    Server(
        "office-word-mcp-server",
        "word",
        "",
        ("word_mcp_server",),
        (
            tool("create_document", filename="{work}/letter.docx", title="Title"),
            tool("add_paragraph", filename="{work}/letter.docx", text="A paragraph."),
            tool("get_document_text", filename="{work}/letter.docx"),
            tool("get_document_text", filename="{work}/missing.docx"),
        ),
    ),
    Server(
        "mcp-server-motherduck",
        "motherduck",
        "",
        ("mcp-server-motherduck", "--db-path", ":memory:", "--read-write"),
        (
            tool("execute_query", sql="SELECT 42 AS answer"),
            tool("execute_query", sql="SELECT * FROM missing"),
            tool("no_such_tool"),
        ),
    ),
    Server(
        "markitdown-mcp",
        "markitdown",
        "",
        ("markitdown-mcp",),
        (tool("convert_to_markdown", uri="file://{work}/README.md"), tool("convert_to_markdown", uri="gopher://x")),
    ),
)

AGENTS: Final = (
    Agent("langchain", ("langchain-mcp-adapters",)),
    Agent("openai_agents", ("openai-agents",)),
    Agent("pydantic_ai", ("pydantic-ai-slim[mcp]",)),
    Agent("mcp_use", ("mcp-use",), environment={"MCP_USE_ANONYMIZED_TELEMETRY": "false"}),
    Agent("strands", ("strands-agents",)),
    Agent("smolagents", ("smolagents[mcp]", "mcp < 2")),
    Agent("agno", ("agno", "fastmcp >= 4, < 5")),
    Agent("google_adk", ("google-adk[mcp]",)),
    Agent("fastmcp", ("fastmcp",)),
)
