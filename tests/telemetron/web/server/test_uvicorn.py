"""What `connection.py` and `server.py` rely on in uvicorn, whose internals they subclass.

If one of these tests fails after an upgrade, read uvicorn's changes, adapt the subclass, and raise
the upper bound of uvicorn in pyproject.toml.
"""

import inspect
import re

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

SIGNATURES = {
    "HttpToolsProtocol.__init__": ["config", "server_state", "app_state", "_loop"],
    "HttpToolsProtocol.connection_made": ["transport"],
    "HttpToolsProtocol.connection_lost": ["exc"],
    "HttpToolsProtocol.data_received": ["data"],
    "HttpToolsProtocol.on_headers_complete": [],
    "HttpToolsProtocol.send_400_response": ["msg"],
    "HttpToolsProtocol.shutdown": [],
    "HttpToolsProtocol._unset_keepalive_if_required": [],
    "HttpToolsProtocol._start_asgi_task": ["cycle", "app"],
    "HttpToolsProtocol.on_response_complete": [],
    "HttpToolsProtocol.timeout_keep_alive_handler": [],
    "Server.startup": ["sockets"],
    "Server.shutdown": ["sockets"],
    "Server.on_tick": ["counter"],
    "Server.serve": ["sockets"],
    "Server.capture_signals": [],
}
CLASSES = {
    "Config": uvicorn.Config,
    "HttpToolsProtocol": HttpToolsProtocol,
    "RequestResponseCycle": RequestResponseCycle,
    "Server": uvicorn.Server,
    "ServerState": ServerState,
}
ATTRIBUTES = {
    "Config": ["is_ssl", "loaded_app"],
    "HttpToolsProtocol": [
        *("app_state", "connections", "cycle", "flow", "headers", "pipeline", "scheme", "scope"),
        *("timeout_keep_alive_task", "transport", "url"),
    ],
    "RequestResponseCycle": ["more_body", "response_complete", "scope"],
    "Server": ["config", "force_exit", "lifespan", "server_state", "servers", "should_exit"],
    "ServerState": ["connections", "tasks"],
}


def changed(what):
    return f"uvicorn {uvicorn.__version__} changed {what}; see the docstring of this module"


@pytest.mark.parametrize("name", SIGNATURES)
def test_overridden_method_has_the_expected_parameters(name):
    owner, _, method = name.partition(".")
    found = getattr(CLASSES[owner], method, None)
    assert found, changed(f"{name}: it is gone")
    parameters = [one for one in inspect.signature(found).parameters if one != "self"]
    assert parameters == SIGNATURES[name], changed(f"the parameters of {name}")


@pytest.mark.parametrize("owner", ATTRIBUTES)
def test_class_has_the_expected_attributes(owner):
    source = inspect.getsource(CLASSES[owner])
    for name in ATTRIBUTES[owner]:
        is_set = re.search(rf"\bself\.{name}\b", source) or hasattr(CLASSES[owner], name)
        assert is_set, changed(f"{owner}.{name}: it is gone")
