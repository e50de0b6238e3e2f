"""Address and credentials of the API server, as kubernetes-asyncio loads them.

Loading reads files and may run a credential plugin, so it runs in a thread.
"""

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from kubernetes_asyncio.client import Configuration
from kubernetes_asyncio.config import ConfigException, load_kube_config
from kubernetes_asyncio.config.incluster_config import InClusterConfigLoader

from telemetron.poll import TroubleError

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""The folder where Kubernetes mounts a pod's service account."""
PLUGIN_SECONDS = 10.0
KILL_SECONDS = 2.0


class Credentials(NamedTuple):
    """The loaded configuration, and the namespace of the service account or the context."""

    configuration: Any
    namespace: str


async def load(
    config: Literal["in-cluster", "kubeconfig"],
    file: str | None,
    context: str | None,
    *,
    account: Path = SERVICE_ACCOUNT,
    plugin_seconds: float = PLUGIN_SECONDS,
) -> Credentials:
    """Load the current credentials; raises TroubleError."""
    if config == "in-cluster":
        return await asyncio.to_thread(_in_cluster, account)
    return await asyncio.to_thread(_in_loop, file, context, plugin_seconds)


def _in_cluster(account: Path) -> Credentials:
    configuration = Configuration()
    # The library would re-read the token in the event loop; the connection reloads it in a thread.
    loader = InClusterConfigLoader(
        token_filename=str(account / "token"),
        cert_filename=str(account / "ca.crt"),
        try_refresh_token=False,
    )
    try:
        loader.load_and_set(configuration)
        namespace = (account / "namespace").read_text().strip()
    except ConfigException as error:
        raise TroubleError("InvalidConfig", f"not in a cluster: {error}") from None
    except OSError as error:
        raise TroubleError(
            "InvalidConfig", f"cannot read the service account: {error.strerror}"
        ) from None
    return Credentials(_adapted(configuration), namespace)


class Loop(asyncio.SelectorEventLoop):
    """The event loop of one load; `kill` ends the plugins that it started."""

    def __init__(self) -> None:
        super().__init__()
        self._started: list[asyncio.SubprocessTransport] = []

    async def subprocess_exec(self, *args: Any, **kwargs: Any) -> Any:
        transport, protocol = await super().subprocess_exec(*args, **kwargs)
        self._started.append(transport)
        return transport, protocol

    async def kill(self) -> None:
        for transport in self._started:
            transport.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(KILL_SECONDS):
                while any(one.get_returncode() is None for one in self._started):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)


def _in_loop(file: str | None, context: str | None, plugin_seconds: float) -> Credentials:
    """Load a kubeconfig in an event loop of its own; kill a plugin that hangs."""
    with asyncio.Runner(loop_factory=Loop) as runner:
        try:
            return runner.run(_kubeconfig(file, context, plugin_seconds))
        finally:
            runner.run(cast(Loop, runner.get_loop()).kill())


def kubeconfig_path(file: str | None) -> str:
    """Return the configured kubeconfig file, else that of the environment, else the default."""
    return file or os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")


async def _kubeconfig(file: str | None, context: str | None, plugin_seconds: float) -> Credentials:
    configuration = Configuration()
    try:
        async with asyncio.timeout(plugin_seconds):
            loader = await load_kube_config(
                config_file=kubeconfig_path(file),
                context=context,
                client_configuration=configuration,
                persist_config=False,
            )
        namespace = (loader.current_context or {}).get("context", {}).get("namespace", "default")
    except TimeoutError:
        raise TroubleError("Timeout", "the kubeconfig's credential plugin timed out") from None
    except Exception as error:  # the library and the plugin may raise anything
        raise TroubleError("InvalidConfig", f"cannot load the kubeconfig: {_why(error)}") from None
    return Credentials(_adapted(configuration), namespace)


def _why(error: Exception) -> str:
    """Return the library's message on the file's form, else only the error's type.

    The message of any other error may hold a plugin's output, and so a secret.
    """
    text = str(error)
    is_form = isinstance(error, ConfigException) and text.startswith(
        ("Invalid kube-config", "File")
    )
    return text if is_form else type(error).__name__


def _adapted(configuration: Any) -> Any:
    # Other Kubernetes clients do the same: many clusters' CAs fail Python 3.13's strict checks.
    configuration.disable_strict_ssl_verification = True
    # No limit here: each watch holds a connection, and the configuration limits the watches.
    configuration.connection_pool_maxsize = 0
    return configuration
