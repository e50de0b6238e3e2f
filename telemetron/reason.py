"""The reasons of problems: the only values of `reason` in the document, and their meanings."""

REASONS = {
    "Crashed": "The collector failed because of a bug; the supervisor restarts it.",
    "DuplicateKey": "Two groups of parts have the same key; only one of their entities is shown.",
    "DuplicateInstance": "Several processes send heartbeats under one instance id; the newest"
    " is shown.",
    "ImportFailed": "The collector's code could not be imported.",
    "InvalidAnnotation": "An annotation for Telemetron is not valid.",
    "InvalidConfig": "The source's configuration is not valid.",
    "NotInstalled": "No installed package provides the collector.",
    "Refused": "Parts from the collector do not fit the document; they are not shown.",
    "Unconfirmed": "The collector did not confirm this scope within the source's"
    " `max_age_seconds`.",
    "Unreachable": "The observed system could not be reached.",
    "Timeout": "The observed system did not answer in time.",
    "Unauthorized": "The observed system did not accept the credentials.",
    "Forbidden": "The observed system does not permit this observation.",
    "BadAnswer": "The observed system sent an answer that the collector does not understand.",
    "MetricsUnavailable": "The observed system does not offer these figures; they are null.",
    "BudgetSpent": "The model's budget is spent; the proxy refuses its calls.",
    "CallsRefused": "The proxy refuses calls to the model, and none has succeeded since.",
    "UnknownModel": "Callers ask for models that no deployment serves.",
    "LimitReached": "There is more than the source's limits allow it to show.",
    "NotSelected": "The configured label selector excludes objects that this observation needs.",
    "NoCommit": "No offset is committed by the group, or by any group; the number of"
    " waiting tasks is not known.",
    "NotFound": "Something that the configuration names does not exist.",
    "OffsetOutOfRange": "The committed offset is outside the log: it was truncated, or the"
    " topic was recreated.",
    "OffsetsDeleted": "The log starts after the group's commit; whether records were lost is"
    " not known.",
    "OpenTransaction": "An open transaction of a producer holds back the records behind it.",
    "RecordsLost": "Records were deleted before the consumer group had consumed them.",
    "Unreadable": "The record is not a task that the collector can read.",
    "Alarm": "The broker is short of memory or disk, and blocks its publishers.",
    "NodeDown": "A node of the cluster does not run, or is cut off from the others.",
    "RateLimited": "The observed system asks for fewer requests.",
    "HistoryUnavailable": "The history file cannot be used; the history is kept in memory only.",
}
