"""Collector `litellm`: the model deployments of a LiteLLM proxy, their status, use and cost."""

from typing import Annotated

from loguru import logger
from msgspec import Meta

from telemetron.address import of_url
from telemetron.collector import Collector, Config, Output
from telemetron.secret import Secret
from telemetron_collectors.litellm.client import connect
from telemetron_collectors.litellm.key import ProxyKey
from telemetron_collectors.litellm.proxy import LIMITS, MODELS_EVERY, Proxy, ProxyLimits


class LitellmConfig(Config, frozen=True):
    """The keys of a `litellm` source."""

    url: Annotated[
        str,
        Meta(
            description="Base URL of the proxy, http or https, without credentials and query.",
            pattern=r"^https?://[^\s/@?#]+(/[^\s@?#]*)?$",
        ),
    ]
    key: Annotated[
        Secret | None, Meta(description="Key of a view-only user; null: the proxy needs no key.")
    ] = None
    key_file: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(description="File that holds the key; read again when it changes."),
    ] = None
    interval_seconds: Annotated[
        float,
        Meta(description="Time between two polls of the metrics; the other polls follow.", ge=0.1),
    ] = 10.0
    callers: Annotated[
        Annotated[str, Meta(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$")] | None,
        Meta(
            description="Label of the proxy's metrics that names callers, such as `api_key_alias`:"
            " show what each uses of each model."
        ),
    ] = None
    health_check_seconds: Annotated[
        Annotated[float, Meta(ge=60)] | None,
        Meta(description="Let the proxy call every model this often: each call costs money."),
    ] = None

    def __post_init__(self) -> None:
        if self.key and self.key_file:
            raise ValueError("key and key_file are both given; keep one")


def max_age(config: LitellmConfig) -> float:
    """Return the time that the slowest required poll may take to fail once and to succeed."""
    return MODELS_EVERY * config.interval_seconds + 30


async def run(config: LitellmConfig, output: Output, limits: ProxyLimits = LIMITS) -> None:
    """Observe the proxy until cancelled."""
    if config.health_check_seconds:
        logger.warning(
            "source {}: health_check_seconds is set: the proxy calls every model every {:g} s,"
            " and each call costs money",
            output.source,
            config.health_check_seconds,
        )
    key = ProxyKey(config.key.value if config.key else None, config.key_file)
    async with connect(config.url, key, limits.http) as client:
        proxy = Proxy(
            client, output, config.interval_seconds, max_age(config), config.callers, limits
        )
        try:
            await proxy.observe(config.health_check_seconds)
        finally:
            proxy.close()


collector = Collector(
    name="litellm",
    description="Model deployments of a LiteLLM proxy: whether they answer, limits, use and cost.",
    config=LitellmConfig,
    sections=("litellm",),
    max_age_seconds=max_age,
    address=lambda config: of_url(config.url),
    run=run,
)
