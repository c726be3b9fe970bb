"""A server with something of everything, by the names that the conformance suite calls.

    python everything.py            over stdio
    python everything.py PORT [RECORD]

With RECORD each body that is POSTed is written there. Where the suite wants more than is here, a check fails, and has
to fail in the same way whether this process is instrumented or not.
"""

# One of the two imports below is always missing, and the type of all that follows from it half unknown.
# pyright: basic, reportAttributeAccessIssue=false, reportMissingImports=false

import base64
import json
import sys

import uvicorn
from mcp.types import EmbeddedResource, ImageContent, SamplingMessage, TextContent
from pydantic import BaseModel

try:
    from mcp.server.mcpserver import Audio, Context, Image
    from mcp.server.mcpserver import MCPServer as Server
except ImportError:  # mcp 1.x
    from mcp.server.fastmcp import Audio, Context, Image
    from mcp.server.fastmcp import FastMCP as Server

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
SOUND = base64.b64decode("UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA=")

server = Server("everything")


class Answer(BaseModel):
    username: str
    email: str


def embedded(uri: str, mime_type: str = "text/plain") -> EmbeddedResource:
    # Both generations take the wire's names.
    return EmbeddedResource.model_validate(
        {"type": "resource", "resource": {"uri": uri, "mimeType": mime_type, "text": "This is an embedded resource."}}
    )


@server.tool()
def add(a: int, b: int) -> int:
    """Adds."""
    return a + b


@server.tool()
def fail() -> str:
    """Always fails."""
    raise ValueError("this tool always fails")


@server.tool()
def test_simple_text() -> str:
    """Text."""
    return "This is a simple text response for testing."


@server.tool(structured_output=False)
def test_image_content() -> Image:
    """An image."""
    return Image(data=PIXEL, format="png")


@server.tool(structured_output=False)
def test_audio_content() -> Audio:
    """A sound."""
    return Audio(data=SOUND, format="wav")


@server.tool(structured_output=False)
def test_embedded_resource() -> list[EmbeddedResource]:
    """A resource."""
    return [embedded("test://embedded-resource")]


@server.tool(structured_output=False)
def test_multiple_content_types() -> list:
    """Text, an image and a resource."""
    return ["Several types:", Image(data=PIXEL, format="png"), embedded("test://mixed", "application/json")]


@server.tool()
def test_error_handling() -> str:
    """Fails."""
    raise RuntimeError("This tool intentionally returns an error for testing")


@server.tool()
async def test_tool_with_logging(ctx: Context) -> str:
    """Logs three times."""
    for message in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await ctx.info(message)
    return "logged"


@server.tool()
async def test_tool_with_progress(ctx: Context) -> str:
    """Reports its progress three times."""
    for progress in (0, 50, 100):
        await ctx.report_progress(progress, 100)
    return "done"


@server.tool()
async def test_sampling(prompt: str, ctx: Context) -> str:
    """Asks the client's model."""
    message = SamplingMessage(role="user", content=TextContent(type="text", text=prompt))
    result = await ctx.session.create_message(messages=[message], max_tokens=100)
    return f"LLM response: {getattr(result.content, 'text', '')}"


@server.tool()
async def test_elicitation(message: str, ctx: Context) -> str:
    """Asks the user."""
    result = await ctx.elicit(message, Answer)
    return f"User response: {result.action}"


@server.resource("test://static-text", mime_type="text/plain")
def static_text() -> str:
    """Text."""
    return "This is the content of the static text resource."


@server.resource("test://static-binary", mime_type="image/png")
def static_binary() -> bytes:
    """An image."""
    return PIXEL


@server.resource("test://template/{id}/data", mime_type="application/json")
def template(id: str) -> str:  # noqa: A002
    """A template."""
    return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


@server.prompt()
def test_simple_prompt() -> str:
    """A prompt."""
    return "This is a simple prompt for testing."


@server.prompt()
def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
    """A prompt with arguments."""
    return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"


@server.prompt()
def test_prompt_with_embedded_resource(resourceUri: str) -> list:
    """A prompt with a resource."""
    return [
        {"role": "user", "content": embedded(resourceUri)},
        {"role": "user", "content": TextContent(type="text", text="Please process the embedded resource above.")},
    ]


@server.prompt()
def test_prompt_with_image() -> list:
    """A prompt with an image."""
    image = {"type": "image", "data": base64.b64encode(PIXEL).decode(), "mimeType": "image/png"}
    return [
        {"role": "user", "content": ImageContent.model_validate(image)},
        {"role": "user", "content": TextContent(type="text", text="Please analyze the image above.")},
    ]


def recorded(app, path):
    """The application, and each body that is POSTed to it as a line of a file."""

    async def wrapped(scope, receive, send):
        if scope["type"] != "http" or scope["method"] != "POST":
            await app(scope, receive, send)
            return
        body = b""

        async def seen():
            nonlocal body
            message = await receive()
            if message["type"] == "http.request":
                body += message.get("body", b"")
                if not message.get("more_body"):
                    with open(path, "a") as record:
                        record.write(json.dumps({"to_server": True, "line": body.decode()}) + "\n")
            return message

        await app(scope, seen, send)

    return wrapped


if __name__ == "__main__":
    if len(sys.argv) == 1:
        server.run("stdio")
    else:
        app = server.streamable_http_app()
        if len(sys.argv) > 2:
            app = recorded(app, sys.argv[2])
        uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", timeout_graceful_shutdown=1)
