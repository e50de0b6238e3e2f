"""Keys: components joined by `/`; in a component `~` is `~0` and `/` is `~1`, as in RFC 6901.

Null is `-`; the component `-` itself is `~2`, an empty component is `~3`.
"""


def join(*components: str | None) -> str:
    """Return the key of these components: `join("a/b", None)` is `a~1b/-`."""
    return "/".join(map(escape, components))


def escape(component: str | None) -> str:
    """Return one component as a key contains it."""
    if component is None:
        return "-"
    if component == "-":
        return "~2"
    if component == "":
        return "~3"
    if "~" in component:
        component = component.replace("~", "~0")
    return component.replace("/", "~1")


def unescape(component: str) -> str:
    """Return the text of one component of a key; it is not null."""
    if component in ("~2", "~3"):
        return "-" if component == "~2" else ""
    return component.replace("~1", "/").replace("~0", "~")
