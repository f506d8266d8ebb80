// Builds elements. What comes from the server becomes text and attributes, never markup: there is no innerHTML
// on this page, and its Content-Security-Policy (Trusted Types) would refuse it.

const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes and children. A key "onclick" adds a listener; null, undefined and false are left out. */
export function h(tag, attributes, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for drawings. */
export function svg(tag, attributes, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) {
      element.setAttribute(key, value === true ? "" : String(value));
    }
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** Sets text only where it differs, so that readers and selections stay where they are. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Makes a table have these rows and no other; rows are kept by their key, with the focus that is in them.
 *
 * columns: [heading]. rows: [{key, cells}], where a cell is a text, or {text, state} for a state, or
 * {text, press, pressed} for a button.
 */
export function fill(table, caption, columns, rows, nothing) {
  if (!table.tHead) {
    table.append(
      h("caption", { class: "unseen" }, caption),
      h("thead", {}, h("tr", {}, columns.map((text) => h("th", { scope: "col" }, text)))),
      h("tbody", {}),
    );
  }
  const body = table.tBodies[0];
  const kept = new Map([...body.rows].map((row) => [row.dataset.key, row]));
  const wanted = rows.length ? rows : [{ key: "\0nothing", cells: [nothing], span: columns.length }];
  wanted.forEach(({ key, cells, span, current }, place) => {
    let row = kept.get(key);
    if (row) kept.delete(key);
    else {
      row = h("tr", {}, cells.map(() => h("td", { colspan: span })));
      row.dataset.key = key;
    }
    if (body.rows[place] !== row) body.insertBefore(row, body.rows[place] ?? null);
    row.classList.toggle("current", Boolean(current));
    cells.forEach((cell, n) => setCell(row.cells[n], cell));
  });
  for (const row of kept.values()) row.remove();
}

function setCell(cell, value) {
  if (typeof value !== "object") {
    setText(cell, String(value));
    return;
  }
  if (value.press) {
    const button = cell.firstElementChild ?? cell.appendChild(h("button", { type: "button", class: "plain" }));
    button.onclick = value.press;
    setText(button, value.text);
    if (value.label) button.setAttribute("aria-label", value.label);
    if (value.pressed !== undefined) button.setAttribute("aria-pressed", String(value.pressed));
    return;
  }
  setText(cell, value.text);
  cell.className = `state ${value.state}`;
}

/** A table of which one page is shown at a time. Returns {element, show(rows)}. */
export function paged(name, columns, nothing, size = 50) {
  const table = h("table", {});
  const where = h("span", {});
  const step = (by) => () => { first = Math.max(0, first + by * size); draw(); };
  const back = h("button", { type: "button", "aria-label": `Previous page of ${name}`, onclick: step(-1) }, "Previous");
  const on = h("button", { type: "button", "aria-label": `Next page of ${name}`, onclick: step(1) }, "Next");
  const bar = h("div", { class: "pages" }, back, where, on);
  let first = 0;
  let all = [];
  let shown = () => {};
  function draw() {
    if (first >= all.length) first = Math.max(0, Math.floor((all.length - 1) / size) * size);
    const rows = all.slice(first, first + size);
    fill(table, name, columns, rows.map((row) => row()), nothing);
    bar.hidden = all.length <= size;
    back.disabled = first === 0;
    on.disabled = first + size >= all.length;
    setText(where, `${first + 1} to ${first + rows.length} of ${all.length}`);
    shown(first, first + size);
  }
  const scroll = h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": name }, table);
  return {
    element: h("div", {}, scroll, bar),
    /** rows: functions that make a row, called for the page that is shown. */
    show(rows) { all = rows; draw(); },
    /** Called with the first and the last place that is shown, after each change. */
    onShown(tell) { shown = tell; },
  };
}
