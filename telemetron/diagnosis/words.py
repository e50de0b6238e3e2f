"""Words of summaries: numbers with their nouns, and verbs that agree with them."""


def counted(count: float, noun: str) -> str:
    """Return the count and the noun, as `1 task` or `3 tasks`."""
    return f"{count:.0f} {noun}{'' if count == 1 else 's'}"


def wait(count: float, noun: str = "task") -> str:
    """Return how many wait, as `1 task waits` or `3 tasks wait`."""
    return f"{counted(count, noun)} {verb(count, 'wait')}"


def verb(count: float, one: str) -> str:
    """Return the verb's form for so many: `waits` or `wait`."""
    return f"{one}s" if count == 1 else one


def be(count: float) -> str:
    """Return `is` or `are`."""
    return "is" if count == 1 else "are"
