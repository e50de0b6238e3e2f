"""Pure parsers of the proxy's configuration: `/model/info` and `/router/settings`."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct, structs

from telemetron.document import MAX_NAMES, ModelDeployment
from telemetron_collectors.litellm.metrics import finite

PAYMENT_TYPES = ("prepaid", "postpaid", "free")


class Params(Struct):
    """`litellm_params`; the proxy omits its secrets."""

    model: str | None = None
    custom_llm_provider: str | None = None
    tpm: Any = None
    rpm: Any = None
    cooldown_time: Any = None


class Info(Struct):
    """`model_info`: LiteLLM's cost map, overridden by the deployment's configuration."""

    id: str
    litellm_provider: str | None = None
    mode: str | None = None
    team_public_model_name: Any = None
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
    """One deployment under one of its names."""

    model_name: str
    model_info: Info
    litellm_params: Params = msgspec.field(default_factory=Params)


class ModelInfo(Struct):
    """The answer of `/model/info`; each row is parsed separately."""

    data: list[msgspec.Raw]


class Values(Struct):
    """The router's settings."""

    cooldown_time: Any = None
    provider_budget_config: Any = None
    model_group_alias: Any = None

    @property
    def aliases(self) -> dict[str, str]:
        """Return the model group of each alias, hidden aliases included."""
        given = self.model_group_alias if isinstance(self.model_group_alias, dict) else {}
        found = {
            alias: target.get("model") if isinstance(target, dict) else target
            for alias, target in given.items()
        }
        return {alias: group for alias, group in found.items() if isinstance(group, str)}


class RouterSettings(Struct):
    """The answer of `/router/settings`."""

    current_values: Values


class Listed(NamedTuple):
    """One configured deployment; its own cooldown time wins over the router's."""

    part: ModelDeployment
    cooldown_seconds: float | None


_decode_models = msgspec.json.Decoder(ModelInfo).decode
_decode_row = msgspec.json.Decoder(Row).decode
_decode_router = msgspec.json.Decoder(RouterSettings).decode


class Rows(NamedTuple):
    """The rows of an answer by deployment id, and the number of malformed rows."""

    by_id: dict[str, list[Row]]
    malformed: int


def parse_models(body: bytes) -> Rows:
    """Parse all rows; skip malformed ones. Raise msgspec's errors."""
    data = _decode_models(body).data
    rows: dict[str, list[Row]] = {}
    malformed = 0
    for raw in data:
        try:
            row = _decode_row(raw)
        except msgspec.ValidationError:
            malformed += 1
        else:
            rows.setdefault(row.model_info.id, []).append(row)
    if malformed and not rows:
        raise ValueError("every row is malformed")
    return Rows(rows, malformed)


def parse_router(body: bytes) -> Values:
    """Parse the router's settings. Raise msgspec's errors."""
    return _decode_router(body).current_values


def own_rows(rows: list[Row], aliases: Mapping[str, str]) -> list[Row]:
    """Return the rows that are not aliases; all rows if every one is an alias."""
    return [row for row in rows if row.model_name not in aliases] or rows


def is_ambiguous(rows: list[Row], aliases: Mapping[str, str]) -> bool:
    """Return whether the rows disagree on the deployment's name, as the rows of a wildcard do."""
    return len({row.model_name for row in own_rows(rows, aliases)}) > 1


def listed(rows: list[Row], aliases: Mapping[str, str], configured: Row | None = None) -> Listed:
    """Make one deployment of all its rows.

    LiteLLM lists a wildcard (`openai/*`) as one row for each model that it knows of the provider.
    Fields that differ between the rows are null. `configured` is the row of the wildcard, if known.
    """
    own = own_rows(rows, aliases)
    name = configured.model_name if configured else _common_name(own)
    parts = [_part(row) for row in own]
    part = structs.replace(_agreed(parts), model=name)
    if configured:
        part = structs.replace(part, upstream_model=_part(configured).upstream_model)
    others = {row.model_name for row in rows} if "*" not in name else set()
    others |= {alias for alias, group in aliases.items() if group == name}
    public = {row.model_info.team_public_model_name for row in rows}
    others |= {other for other in public if isinstance(other, str)}
    names = sorted(others - {name})
    if len(names) > MAX_NAMES:
        part = structs.replace(part, truncated={"aliases": len(names)})
    part = structs.replace(part, aliases=names[:MAX_NAMES])
    return Listed(part, _cooldown_seconds(own[0]))


class Names:
    """Finds the model group that serves a name."""

    def __init__(self, deployments: Iterable[ModelDeployment], aliases: Mapping[str, str]) -> None:
        self._groups: dict[str, str] = {}
        patterns: set[str] = set()
        models: set[str] = set()
        for one in deployments:
            self._groups |= dict.fromkeys((one.id, *one.aliases), one.model)
            (patterns if "*" in one.model else models).add(one.model)
        self._groups |= {model: model for model in models}
        # The router tries the longest pattern first.
        self._patterns = [
            (re.compile(re.escape(pattern).replace(r"\*", ".*"), re.DOTALL), pattern)
            for pattern in sorted(patterns, key=lambda one: (-len(one), one))
        ]
        self._aliases = aliases

    def group(self, name: str) -> str | None:
        """Return the model group that serves the name, or None if no deployment does."""
        name = self._aliases.get(name, name)
        if name in self._groups:
            return self._groups[name]
        return next((model for regex, model in self._patterns if regex.fullmatch(name)), None)


def _common_name(rows: list[Row]) -> str:
    """Return the name of all rows, or the wildcard that matches all their names."""
    names = sorted({row.model_name for row in rows})
    if len(names) == 1:
        return names[0]
    providers = {name.partition("/")[0] if "/" in name else None for name in names}
    provider = providers.pop() if len(providers) == 1 else None
    return f"{provider}/*" if provider else "*"


def _agreed(parts: list[ModelDeployment]) -> ModelDeployment:
    """Return the fields on which all agree; the others as if they were not known."""
    first, *others = parts
    blank = ModelDeployment(id=first.id, model=first.model)
    differing = {
        name: getattr(blank, name)
        for name in first.__struct_fields__
        if any(getattr(other, name) != getattr(first, name) for other in others)
    }
    return structs.replace(first, **differing)


def _cooldown_seconds(row: Row) -> float | None:
    own = finite(row.model_info.cooldown_time)
    return own if own is not None else finite(row.litellm_params.cooldown_time)


def _part(row: Row) -> ModelDeployment:
    info, params = row.model_info, row.litellm_params
    provider = _provider(info, params)
    costs = finite(info.input_cost_per_token), finite(info.output_cost_per_token)
    return ModelDeployment(
        id=info.id,
        model=row.model_name,
        upstream_model=params.model and params.model.removeprefix(f"{provider}/"),
        provider=provider,
        # The rates of model_info are those of the cost map, even if others are configured.
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


def _provider(info: Info, params: Params) -> str | None:
    """Return the provider as LiteLLM finds it: configured, before the slash, from the cost map."""
    prefix, slash, _ = (params.model or "").partition("/")
    return params.custom_llm_provider or (prefix if slash else None) or info.litellm_provider


def _payment_type(given: object, costs: tuple[float | None, float | None]) -> str | None:
    if given in PAYMENT_TYPES:
        return str(given)
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
    """Return the input types; none if LiteLLM does not know the mode."""
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
