"""The MCP server of `telemetron mcp`: five tools for AI agents, a client of the HTTP API.

The server of `telemetron serve` never imports it: the package `mcp` takes 0.7 s and 80 MB.
"""
