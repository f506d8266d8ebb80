"""What every page owes to people who do not see it well, or use no mouse: checks in the browser itself.

They follow the Web Content Accessibility Guidelines 2.1 (AA), as far as a program can tell: names and roles
are those that Chromium gives to assistive technology, colours those that it has computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.support.browser import Page

_CONTROLS = frozenset(
    ("button", "link", "textbox", "searchbox", "combobox", "checkbox", "option", "listbox", "dialog", "table",
     "DisclosureTriangle", "image", "region", "alertdialog")
)  # fmt: skip

# 1.4.3 Contrast (Minimum): each text that is seen, against what is behind it.
_CONTRAST = """
(() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgb = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const found = rgb(getComputedStyle(one).backgroundColor);
      if (found[3] === 255) return found;
    }
    return rgb('white');
  };
  const found = [];
  let seen = 0;
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || !element.checkVisibility()) continue;
    if (element.closest('.unseen, :disabled, title, option, datalist')) continue;
    const modal = document.querySelector('dialog:modal');
    if (modal && !modal.contains(element)) continue;
    const style = getComputedStyle(element);
    const drawn = element instanceof SVGElement;
    const [a, b] = [rgb(drawn ? style.fill : style.color), behind(element)].map(light).sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    seen += 1;
    if (ratio < 4.5) found.push(`${ratio.toFixed(2)}: ${walk.currentNode.data.trim().slice(0, 40)}`);
  }
  return {seen, found};
})()
"""

# 1.3.1, 2.4.2, 2.4.6, 3.1.1: what a program can tell of the structure.
_STRUCTURE = """
(() => {
  const found = [];
  if (!document.documentElement.lang) found.push('no language');
  if (!document.title) found.push('no title');
  const ids = [...document.querySelectorAll('[id]')].map((one) => one.id);
  for (const id of new Set(ids.filter((id, n) => ids.indexOf(id) !== n))) found.push(`id ${id} twice`);
  for (const key of ['aria-labelledby', 'aria-describedby', 'for']) {
    for (const one of document.querySelectorAll(`[${key}]`)) {
      for (const id of one.getAttribute(key).split(' ')) {
        if (!document.getElementById(id)) found.push(`${key}=${id} leads nowhere`);
      }
    }
  }
  const shown = [...document.querySelectorAll('h1, h2, h3, h4')].filter((one) => one.checkVisibility());
  let before = 0;
  for (const one of shown) {
    const level = Number(one.tagName[1]);
    if (level > before + 1) found.push(`${one.tagName} ${one.textContent} after h${before}`);
    before = level;
  }
  for (const one of document.querySelectorAll('[tabindex]')) {
    if (one.tabIndex > 0) found.push(`tabindex ${one.tabIndex}`);
  }
  for (const one of document.querySelectorAll('table')) {
    if (!one.checkVisibility() || !one.tHead) continue;
    if (!one.querySelector('th[scope]')) found.push('a table without scopes');
  }
  return found;
})()
"""


def faults(page: Page) -> Iterator[str]:
    """What is wrong with what the page shows now."""
    yield from page.evaluate(_STRUCTURE)
    contrast = page.evaluate(_CONTRAST)
    assert contrast["seen"] > 5, "no text was looked at"
    yield from (f"contrast {text}" for text in contrast["found"])
    roles = set()
    for node in page.tree():
        role = node["role"]["value"]
        roles.add(role)
        if role in _CONTROLS and not node.get("name", {}).get("value", "").strip():
            yield f"a {role} has no name"
    for wanted in ("banner", "main", "heading"):
        if wanted not in roles and "dialog" not in roles:
            yield f"no {wanted}"


def tab_round(page: Page, most: int = 200) -> list[str]:
    """Press Tab until what had the focus first has it again; returns what had it, in this order. Each has to
    be visible, and to show that it has the focus."""
    order: list[str] = []
    seen: list[Any] = []
    for _ in range(most):
        page.press("Tab")
        state = page.evaluate(
            """(() => {
              const one = document.activeElement;
              if (!one || one === document.body) return null;
              const box = one.getBoundingClientRect();
              window.tabbed ??= new Map();
              if (!window.tabbed.has(one)) window.tabbed.set(one, window.tabbed.size);
              return {number: window.tabbed.get(one), shown: one.checkVisibility() && box.width > 0,
                marked: one.matches(':focus-visible') && getComputedStyle(one).outlineStyle !== 'none',
                what: `${one.tagName} ${one.id} ${one.textContent.slice(0, 30)}`};
            })()"""
        )
        if state is None:  # the browser's own controls
            continue
        if state["number"] in seen:
            page.evaluate("delete window.tabbed")
            return order
        seen.append(state["number"])
        assert state["shown"], f"the focus is at something that is not shown: {state['what']}"
        assert state["marked"], f"nothing shows that this has the focus: {state['what']}"
        order.append(page.focused())
    raise AssertionError(f"after {most} times Tab the focus was not back: {order}")
