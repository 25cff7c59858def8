"""What steps talk to: models, vector collections and tools of the region they run in."""

from orchestrator.backends.collections import Collection, Hit, Point
from orchestrator.backends.messages import (
    Completion,
    Message,
    Piece,
    ToolCall,
    ToolDescription,
    Usage,
)
from orchestrator.backends.openai import Model
from orchestrator.backends.openai_format import ChatOptions
from orchestrator.backends.region import Backends, collection, model, tool, using
from orchestrator.backends.tools import Tool, ToolResult

__all__ = [
    "Backends",
    "ChatOptions",
    "Collection",
    "Completion",
    "Hit",
    "Message",
    "Model",
    "Piece",
    "Point",
    "Tool",
    "ToolCall",
    "ToolDescription",
    "ToolResult",
    "Usage",
    "collection",
    "model",
    "tool",
    "using",
]
