"""The reasons of problems: every `reason` in the document stands in this table, and only here."""

REASONS = {
    "Crashed": "The collector failed with an error of its own; it is started again.",
    "DuplicateKey": "Two groups of parts claim one key; the entity of one of them is not shown.",
    "ImportFailed": "The collector's code could not be imported.",
    "InvalidAnnotation": "An annotation that configures Telemetron cannot be understood.",
    "InvalidConfig": "The source's configuration is not valid.",
    "NotInstalled": "No installed package brings the collector.",
    "Refused": "Parts that the collector put do not fit the document; they are not shown.",
    "Unconfirmed": "Nothing confirmed this scope within the source's `max_age_seconds`.",
    "Unreachable": "The observed system could not be reached.",
    "Timeout": "The observed system did not answer in time.",
    "Unauthorized": "The observed system did not accept the credentials.",
    "Forbidden": "The observed system does not permit this observation.",
    "BadAnswer": "The observed system answered something that cannot be understood.",
    "MetricsUnavailable": "The observed system offers no usage figures; they are null.",
    "LimitReached": "There is more than the source's limits let it show.",
    "NoCommit": "The consumer group has committed no offset, so that what waits is not known.",
    "NotFound": "What the configuration names does not exist.",
    "OffsetOutOfRange": "The committed offset is none of the log: truncated, or made anew.",
    "OffsetsDeleted": "The log begins behind the group's commit; whether records were lost is not"
    " known.",
    "OpenTransaction": "An open transaction of a producer holds back the records behind it.",
    "RecordsLost": "Records were deleted before the consumer group had consumed them.",
    "Unreadable": "A task's record does not hold what a task is made of.",
    "RateLimited": "The observed system asks to be asked less often.",
    "HistoryUnavailable": "The file of the history cannot be used; the history is in memory alone.",
}
