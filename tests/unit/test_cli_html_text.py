"""HTML as text for a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_blocking.cli.html_text import html_text

FRAME = """
<div>
<style scoped>
    .dataframe tbody tr th { vertical-align: top; }
</style>
<table border="1" class="dataframe">
  <thead>
    <tr style="text-align: right;"><th></th><th>name</th><th>speed</th></tr>
  </thead>
  <tbody>
    <tr><th>0</th><td>Ada &amp; Co</td><td>4</td></tr>
    <tr><th>1</th><td>B</td><td>12</td></tr>
  </tbody>
</table>
<p>2 rows</p>
</div>"""


@pytest.mark.parametrize(
    ("html", "text"),
    [
        (FRAME, "   name      speed\n0  Ada & Co  4\n1  B         12\n2 rows"),
        ("plain", "plain"),
        ("", ""),
        ("a<br>b<p>c</p>d", "a\nb\nc\nd"),
        ("<b>bold</b> and\n <i>more</i>", "bold and more"),
        ("<ul><li>a<li>b</ul>", "- a\n- b"),
        ("<script>alert(1)</script><title>t</title>x", "x"),
        ("<table><tr><td>a", "a"),
        ("<table><td>no row", ""),
        ("<table><tr><td>a</td></tr><tr><td>b</td><td>c</td></tr></table>", "a\nb  c"),
        ("&lt;b&gt; &#x1f600;", "<b> \U0001f600"),
    ],
)
def test_html_as_text(html: str, text: str) -> None:
    """Tables keep their columns; a page that is not valid keeps what can be read."""
    assert html_text(html) == text


@given(st.text("<>/&;abtrdh \n='\"!-", max_size=60))
def test_any_text_is_read(html: str) -> None:
    """A kernel may send anything."""
    assert isinstance(html_text(html), str)
