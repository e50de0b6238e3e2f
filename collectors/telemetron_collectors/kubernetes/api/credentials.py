"""Who we are to the API server, and where it is: kubernetes-asyncio's configuration, as it stands.

Loading reads files and may run a credential plugin, so it is done in a thread.
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

# Where Kubernetes mounts a pod's service account.
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
PLUGIN_SECONDS = 10.0
KILL_SECONDS = 2.0


class Access(NamedTuple):
    """What was loaded."""

    configuration: Any
    namespace: str
    """That of the service account or of the context."""


async def load(
    config: Literal["in-cluster", "kubeconfig"], file: str | None, context: str | None
) -> Access:
    """Load it anew, rotated credentials included; TroubleError where that fails."""
    if config == "in-cluster":
        return await asyncio.to_thread(_in_cluster)
    return await asyncio.to_thread(_in_loop, file, context)


def _in_cluster() -> Access:
    configuration = Configuration()
    # The token is re-read by us, in a thread: not by the library, in the event loop.
    loader = InClusterConfigLoader(
        token_filename=str(SERVICE_ACCOUNT / "token"),
        cert_filename=str(SERVICE_ACCOUNT / "ca.crt"),
        try_refresh_token=False,
    )
    try:
        loader.load_and_set(configuration)
        namespace = (SERVICE_ACCOUNT / "namespace").read_text().strip()
    except ConfigException as error:
        raise TroubleError("InvalidConfig", f"not in a cluster: {error}") from None
    except OSError as error:
        raise TroubleError("InvalidConfig", f"no service account: {error.strerror}") from None
    return Access(_adapted(configuration), namespace)


class Loop(asyncio.SelectorEventLoop):
    """The event loop of one load; `kill` ends what it started."""

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


def _in_loop(file: str | None, context: str | None) -> Access:
    """No plugin outlives it, not even one that hangs."""
    with asyncio.Runner(loop_factory=Loop) as runner:
        try:
            return runner.run(_kubeconfig(file, context))
        finally:
            runner.run(cast(Loop, runner.get_loop()).kill())


async def _kubeconfig(file: str | None, context: str | None) -> Access:
    configuration = Configuration()
    file = file or os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    try:
        async with asyncio.timeout(PLUGIN_SECONDS):
            loader = await load_kube_config(
                config_file=file,
                context=context,
                client_configuration=configuration,
                persist_config=False,
            )
        namespace = (loader.current_context or {}).get("context", {}).get("namespace", "default")
    except TimeoutError:
        raise TroubleError("Timeout", "the kubeconfig's credential plugin did not answer") from None
    except Exception as error:  # whatever is in that file, and whatever its plugin does
        raise TroubleError(
            "InvalidConfig", f"the kubeconfig cannot be used: {_why(error)}"
        ) from None
    return Access(_adapted(configuration), namespace)


def _why(error: Exception) -> str:
    """What the library says of the file's form; of a plugin's failure nothing but that."""
    text = str(error)
    is_form = isinstance(error, ConfigException) and text.startswith(
        ("Invalid kube-config", "File")
    )
    return text if is_form else type(error).__name__


def _adapted(configuration: Any) -> Any:
    # As every other client of Kubernetes: clusters' CAs often lack what Python 3.13 asks for.
    configuration.disable_strict_ssl_verification = True
    # Each watch holds a connection; the configuration bounds how many there are.
    configuration.connection_pool_maxsize = 0
    return configuration
