"""A page as a reader and a browser meet it: its tags, its text, and what it would load."""

import base64
import re
from html.parser import HTMLParser


class Tags(HTMLParser):
    """Collects start tags and the text that is not style."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self._open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_endtag(self, tag):
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data):
        if "style" not in self._open:
            self.text.append(data)


def text_of(page):
    return re.sub(r"\s+", " ", "".join(Tags(page).text))


def loads_nothing(page):
    """Assert that a page runs no script, asks for nothing, has unique ids and no dead anchor; return its number of pictures."""
    tags = Tags(page).tags
    assert {tag for tag, _ in tags}.isdisjoint({"script", "link", "iframe", "object", "embed", "base", "form"})
    pictures = 0
    for _, attributes in tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "srcset", "data", "action"):
            if (value := attributes.get(name)) is not None:
                assert value.startswith(("data:image/svg+xml;base64,", "#"))
                pictures += value.startswith("data:")
                drawn = base64.b64decode(value.split(",")[1]).decode() if value.startswith("data:") else ""
                assert not re.search(r'(?:href|src)="(?!#)', drawn)
    assert "url(" not in page
    assert "@import" not in page
    assert ("meta", "default-src 'none'; style-src 'unsafe-inline'; img-src data:") in [
        (tag, attributes.get("content")) for tag, attributes in tags
    ]
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for tag, a in tags if tag == "a"} <= set(ids)
    return pictures
