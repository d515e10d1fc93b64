"""The API's endpoints as tools of the Model Context Protocol, through Gradio's own server for it.

What Gradio would fetch from an address, keep outside our folder, or pass on from the caller's request is replaced here.
"""

import asyncio
import importlib.util
import json
import logging
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flux_demo.errors import InvalidPicture, InvalidRequest, shortened
from flux_demo.reading import parse_base64
from flux_demo.ui.files import new_file, path_in_address, received

CALLER = "x-flux-demo-caller"  # the header in which a tool's call to its endpoint, from this very machine, says who asked
SECRET = secrets.token_urlsafe(24)  # before the address, so that nobody else can say it
A_FILE = {"_type": "gradio.FileData"}  # how Gradio tells a file from other objects
HOW = "Give an address that a tool of this page returned, or a data: URI with the image in base64."


def available() -> bool:
    """Whether the package that Gradio needs for it is installed."""
    return importlib.util.find_spec("mcp") is not None


def log_nothing() -> None:
    """Keep what the package logs out of the log: it quotes what callers send, line by line. The callers get their errors as answers."""
    logging.getLogger("mcp").setLevel(logging.CRITICAL + 1)
    logging.getLogger().addFilter(_is_of_others)  # it logs there, too


def _is_of_others(record: logging.LogRecord) -> bool:
    import mcp

    return not Path(record.pathname).is_relative_to(Path(mcp.__file__).parent)


def adapt(server: Any, address_of: Callable[[Any], str]) -> None:
    """Make Gradio's server take files our way, and call our endpoints without the caller's headers, which name another host.

    Of the caller only the network address goes along.
    """
    prepare, input_schema = server._prepare_tool_call_args, server.get_input_schema
    content_of, progress = server.postprocess_output_data, server._format_progress_message

    def prepared(name: str, arguments: dict[str, Any]) -> tuple[Any, ...]:
        if name not in server.tool_to_endpoint:
            raise InvalidRequest(f"There is no tool {shortened(name)}. Call one of {', '.join(server.tool_to_endpoint)}.")
        try:
            endpoint, values, _, fn = prepare(name, arguments)
        except TypeError as error:
            raise InvalidRequest(f"The arguments are not those of the tool {name}. Give what its inputSchema names.") from error
        return endpoint, values, {CALLER: f"{SECRET} {address_of(server.mcp_server.request_context.request)}"}, fn

    async def outputs_of(job: Any) -> list[Any]:
        result = await asyncio.to_thread(job.result)
        outputs = result if isinstance(result, tuple | list) else [result]
        # Gradio's own gives several outputs as one text, and an object as Python would print it.
        said = [json.dumps(each) if isinstance(each, dict) and each.get("meta") != A_FILE else each for each in outputs]
        return said + _notes_of(job)

    def content_with_notes(outputs: list[Any], address: str) -> list[Any]:
        notes = [server.types.TextContent(type="text", text=each) for each in outputs if isinstance(each, Note)]
        content = content_of([each for each in outputs if not isinstance(each, Note)], address)
        return [*content[:1], *notes, *content[1:]]  # an image stays the first, and what names it or its recipe the last

    def schema_of(name: str, *given: Any) -> tuple[dict[str, Any], list[list[str | int]]]:
        schema, files = input_schema(name, *given)
        for parameter in server.api_info["named_endpoints"][server.tool_to_endpoint[name]]["parameters"]:
            field = schema["properties"][parameter["parameter_name"]]
            if parameter["parameter_has_default"] and parameter["parameter_default"] is not None:
                field["default"] = parameter["parameter_default"]  # Gradio leaves out 0 and false
            if [parameter["parameter_name"]] in files:
                field["format"] = "uri"
        return schema, files

    async def no_schema(name: str) -> None:
        """The endpoints check what arrives, and say what is wrong with it; the package's own check says it in words of JSON Schema."""

    server.mcp_server._get_cached_tool_definition = no_schema
    server._prepare_tool_call_args = prepared
    server.get_input_schema = schema_of
    server.__class__ = type("Tools", (type(server),), {"_file_data_tool_description": f" {HOW}"})
    server._execute_tool_without_progress = outputs_of
    server.postprocess_output_data = content_with_notes
    server._format_progress_message = lambda update: update.log[0] if update.log else progress(update)
    server.convert_strings_to_filedata = with_files


class Note(str):
    """A sentence beside the outputs."""


def _notes_of(job: Any) -> list[Note]:
    """What an endpoint said beside its result, which Gradio's own would drop."""
    updates = job.communicator.updates
    told = [updates.get_nowait() for _ in range(updates.qsize())]
    return [Note(update.log[0]) for update in told if update.type == "status" and update.log]


def address_of_caller(request: Any) -> str | None:
    """The address of whoever called a tool, where that tool sent the request."""
    secret, _, address = str(request.headers.get(CALLER, "")).partition(" ")
    return address if secrets.compare_digest(secret.encode(), SECRET.encode()) else None


def with_files(arguments: dict[str, Any], paths: list[list[str | int]]) -> dict[str, Any]:
    """The arguments with the files that they name. Nothing is fetched. Raises InvalidPicture."""
    files = {path[0] for path in paths if len(path) == 1}
    return {name: _file(value) if name in files else value for name, value in arguments.items()}


def _file(value: Any) -> dict[str, Any]:
    if isinstance(value, str) and value.startswith("data:"):
        path = _written(value)
    elif isinstance(value, str) and "/file=" in value:
        path = str(received(path_in_address(value)))
    else:
        raise InvalidPicture(f"This is not an image that can be opened here. {HOW}")
    return {"path": path, "meta": A_FILE}


def _written(uri: str) -> str:
    kind, _, data = uri.partition(",")
    if not kind.endswith(";base64"):
        raise InvalidPicture(f"The data: URI is not in base64. {HOW}")
    try:
        content = parse_base64(data)
    except ValueError as error:
        raise InvalidPicture(f"The data: URI is damaged: its base64 cannot be read. {HOW}") from error
    path = new_file("picture")
    path.write_bytes(content)
    return str(path)
