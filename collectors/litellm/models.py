"""`/model/info` and `/router/settings`: what is configured. Pure parsers."""

from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from collectors.litellm.metrics import finite
from telemetron.document import ModelDeployment

PAYMENT_TYPES = ("prepaid", "postpaid", "free")


class Params(Struct):
    """`litellm_params`, of which the proxy leaves out the secrets."""

    model: str | None = None
    custom_llm_provider: str | None = None
    tpm: Any = None
    rpm: Any = None
    cooldown_time: Any = None


class Info(Struct):
    """`model_info`: what the deployment says of itself, over what LiteLLM's cost map says."""

    id: str
    litellm_provider: str | None = None
    mode: str | None = None
    payment_type: Any = None
    cooldown_time: Any = None
    max_input_tokens: Any = None
    max_output_tokens: Any = None
    output_vector_size: Any = None
    input_cost_per_token: Any = None
    output_cost_per_token: Any = None
    supports_vision: Any = None
    supports_audio_input: Any = None
    supports_audio_output: Any = None
    supports_video_input: Any = None
    supports_pdf_input: Any = None
    supports_embedding_image_input: Any = None


class Row(Struct):
    """One deployment."""

    model_name: str
    model_info: Info
    litellm_params: Params = msgspec.field(default_factory=Params)


class ModelInfo(Struct):
    """The answer of `/model/info`."""

    data: list[Row]


class Values(Struct):
    """What the router runs with."""

    cooldown_time: Any = None
    provider_budget_config: Any = None


class RouterSettings(Struct):
    """The answer of `/router/settings`."""

    current_values: Values


class Listed(NamedTuple):
    """One deployment as configured; its own cooldown time wins over the router's."""

    part: ModelDeployment
    cooldown_seconds: float | None


_decode_models = msgspec.json.Decoder(ModelInfo).decode
_decode_router = msgspec.json.Decoder(RouterSettings).decode


def parse_models(body: bytes) -> dict[str, Listed]:
    """The deployments by id. Raises what msgspec raises."""
    return {row.model_info.id: _listed(row) for row in _decode_models(body).data}


def parse_router(body: bytes) -> Values:
    """The router's settings. Raises what msgspec raises."""
    return _decode_router(body).current_values


def _listed(row: Row) -> Listed:
    info, params = row.model_info, row.litellm_params
    provider = _provider(info, params)
    costs = finite(info.input_cost_per_token), finite(info.output_cost_per_token)
    part = ModelDeployment(
        id=info.id,
        model=row.model_name,
        upstream_model=params.model and params.model.removeprefix(f"{provider}/"),
        provider=provider,
        # model_info has rates too, but those are the cost map's, whatever is configured.
        tpm_max=_whole(params.tpm),
        rpm_max=_whole(params.rpm),
        payment_type=_payment_type(info.payment_type, costs),
        input_cost_per_token=costs[0],
        output_cost_per_token=costs[1],
        input_context=_whole(info.max_input_tokens),
        output_context=_whole(info.max_output_tokens),
        output_dim=_whole(info.output_vector_size),
        input_types=sorted(_input_types(info)),
        output_types=sorted(_output_types(info)),
    )
    own = finite(info.cooldown_time)
    return Listed(part, own if own is not None else finite(params.cooldown_time))


def _provider(info: Info, params: Params) -> str | None:
    """As LiteLLM finds it: what is said, what stands before the slash, what the cost map knows."""
    prefix, slash, _ = (params.model or "").partition("/")
    return params.custom_llm_provider or (prefix if slash else None) or info.litellm_provider


def _payment_type(said: object, costs: tuple[float | None, float | None]) -> str | None:
    if said in PAYMENT_TYPES:
        return str(said)
    return "free" if costs == (0.0, 0.0) else None


def _whole(value: object) -> int | None:
    number = finite(value)
    return int(number) if number is not None and number >= 0 else None


_INPUTS = {"audio_transcription": "audio"}
_OUTPUTS = {
    "chat": "text",
    "completion": "text",
    "responses": "text",
    "embedding": "embedding",
    "image_generation": "image",
    "image_edit": "image",
    "video_generation": "video",
    "audio_transcription": "text",
    "audio_speech": "audio",
    "realtime": "text",
    "ocr": "text",
    "rerank": "score",
    "moderation": "score",
}


def _input_types(info: Info) -> set[str]:
    """What it takes; empty where LiteLLM does not know its mode."""
    if info.mode is None:
        return set()
    more = {
        "image": info.supports_vision or info.supports_embedding_image_input,
        "audio": info.supports_audio_input,
        "video": info.supports_video_input,
        "pdf": info.supports_pdf_input,
    }
    return {_INPUTS.get(info.mode, "text"), *(name for name, takes in more.items() if takes)}


def _output_types(info: Info) -> set[str]:
    given = {_OUTPUTS[info.mode]} if info.mode in _OUTPUTS else set()
    return given | ({"audio"} if info.supports_audio_output else set())
