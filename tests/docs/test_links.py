"""Every link in every page has a target: a file, an anchor, or a well-formed address."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
GENERATED = {"build", "dist", "htmlcov", "node_modules"}


def pages(root: Path) -> list[Path]:
    """Return all Markdown files below root, except those in hidden or generated folders."""

    def is_ours(page: Path) -> bool:
        folders = page.relative_to(root).parent.parts
        return not any(name.startswith(".") or name in GENERATED for name in folders)

    return sorted(filter(is_ours, root.rglob("*.md")))


def tokens(page: Path) -> Iterator[Token]:
    for token in MarkdownIt("commonmark").enable("table").parse(page.read_text("utf-8")):
        yield token
        yield from token.children or ()


def links(page: Path) -> Iterator[str]:
    for token in tokens(page):
        target = token.attrGet("href") or token.attrGet("src")
        if target is not None:
            yield str(target)


def anchors(page: Path) -> set[str]:
    """Return the ids that a page's headings and HTML get, by the rule code hosts share."""
    found: set[str] = set()
    counts: dict[str, int] = {}
    previous = None
    for token in tokens(page):
        if token.type == "inline" and previous is not None and previous.type == "heading_open":
            slug = slug_of(token)
            seen = counts.get(slug, 0)
            counts[slug] = seen + 1
            found.add(f"{slug}-{seen}" if seen else slug)
        elif token.type in {"html_block", "html_inline"}:
            found.update(re.findall(r'\b(?:id|name)="([^"]+)"', token.content))
        previous = token
    return found


def slug_of(heading: Token) -> str:
    text = "".join(t.content for t in heading.children or () if t.type in {"text", "code_inline"})
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")


def trouble(root: Path, page: Path, link: str) -> str | None:
    """Return what is wrong with a link of a page, or None."""
    url = urlsplit(link)
    if url.scheme in {"http", "https"}:
        return None if url.hostname else "an address without a host"
    if url.scheme:
        return None if url.scheme == "mailto" else f"scheme {url.scheme} is not known"
    if url.path.startswith("/"):
        return "a path from the root breaks wherever the page is shown"
    target = (page.parent / unquote(url.path)).resolve() if url.path else page
    if not target.is_relative_to(root):
        return "leads out of the repository"
    if not target.exists():
        return "nothing is there"
    if url.fragment and target.suffix == ".md" and unquote(url.fragment) not in anchors(target):
        return "no such heading"
    return None


def broken(root: Path, page: Path) -> list[str]:
    found = ((link, trouble(root, page, link)) for link in links(page))
    return [f"{link}: {why}" for link, why in found if why]


@pytest.mark.parametrize("page", pages(ROOT), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_has_a_target(page: Path) -> None:
    assert broken(ROOT, page) == []


GOOD = [
    "other.md",
    "other.md#a-heading-with-code-twice",
    "other.md#a-heading-with-code-twice-1",
    "other.md#by-hand",
    "#home",
    "sub",
    "with%20space.txt",
    "https://example.org/path#any",
    "mailto:someone@example.org",
]
BAD = [
    "missing.md",
    "other.md#missing",
    "other.md#a-heading-with-code-twice-2",
    "#missing",
    "../outside.md",
    "/other.md",
    "https:///path",
    "ftp://example.org/",
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / ".hidden").mkdir()
    (root / ".hidden" / "page.md").write_text("[x](missing.md)")
    (root / "with space.txt").touch()
    (tmp_path / "outside.md").touch()
    heading = "# A *heading* with `code`, twice!\n\n"
    (root / "other.md").write_text(heading * 2 + '<a id="by-hand"></a>\n')
    return root.resolve()


@pytest.mark.parametrize("link", GOOD)
@pytest.mark.parametrize("form", ["[text]({})", "![image]({})", "| a |\n|---|\n| [x]({}) |"])
def test_a_good_link_is_accepted(root: Path, link: str, form: str) -> None:
    page = root / "page.md"
    page.write_text("# Home\n\n" + form.format(link))
    assert list(links(page)) == [link]
    assert broken(root, page) == []


@pytest.mark.parametrize("link", BAD)
def test_a_broken_link_is_found(root: Path, link: str) -> None:
    page = root / "page.md"
    page.write_text(f"# Home\n\n`[code](missing.md)` and [text][1]\n\n[1]: {link}\n")
    assert [problem.rpartition(": ")[0] for problem in broken(root, page)] == [link]


def test_hidden_folders_are_skipped(root: Path) -> None:
    assert pages(root) == [root / "other.md"]
