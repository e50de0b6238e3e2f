"""Keys: components joined by `/`; inside one, `~` is `~0` and `/` is `~1`, as in RFC 6901.

Null is `-`; a component that is itself `-` is `~2`, one that is empty is `~3`.
"""


def join(*components: str | None) -> str:
    """`join("a/b", None)` is `a~1b/-`."""
    return "/".join(map(escape, components))


def escape(component: str | None) -> str:
    """One component as it stands in a key."""
    if component is None:
        return "-"
    if component == "-":
        return "~2"
    if component == "":
        return "~3"
    return component.replace("~", "~0").replace("/", "~1")
