"""Who we are to the API server, and where it is: kubernetes-asyncio's configuration, as it stands.

Loading reads files and may run a credential plugin, so it is done in a thread.
"""

import asyncio
import os
from pathlib import Path
from typing import Any, Literal, NamedTuple

from kubernetes_asyncio.client import Configuration
from kubernetes_asyncio.config import ConfigException, load_kube_config
from kubernetes_asyncio.config.incluster_config import InClusterConfigLoader

from telemetron.poll import TroubleError

# Where Kubernetes mounts a pod's service account.
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
PLUGIN_SECONDS = 10.0


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
    return await asyncio.to_thread(lambda: asyncio.run(_kubeconfig(file, context)))


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
