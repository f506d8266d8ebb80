// Creating, changing and removing networks. The server says what is wrong, and its messages stand beside the fields
// that they are about: the page has no rules of its own.

import { Refused } from "./api.js";
import { h } from "./dom.js";
import { count } from "./format.js";

const SIZE = 25;

const ENDPOINT = [
  ["uuid", "Id", "text"], ["switch", "Switch", "text"], ["port", "Port", "text"], ["vlan", "VLAN", "text"],
  ["mpls", "MPLS label", "text"], ["address", "Addresses (L3)", "list"], ["mac", "Hosts' MACs", "list"],
];
const CONSTRAINT = [
  ["source", "From", "text"], ["destination", "To", "text"], ["min-bandwidth", "At least", "text"],
  ["max-bandwidth", "At most", "text"], ["max-latency", "Latency", "text"], ["max-hops", "Hops", "text"],
];
const HINTS = { "min-bandwidth": "e.g. 10 Mbit/s", "max-bandwidth": "e.g. 20 Mbit/s", "max-latency": "e.g. 5 ms", address: "e.g. 10.0.1.1/24" };

/** What a person types, from what the description has, and the other way round. Fields that are not shown stay. */
const typed = (value) => (value === undefined ? "" : Array.isArray(value) ? value.join(", ") : String(value));

function described(draft, fields) {
  const found = { ...draft.original };
  for (const [key, , kind] of fields) {
    const text = draft[key].trim();
    if (text === "") delete found[key];
    else found[key] = kind === "list" ? text.split(/[\s,]+/).filter(Boolean) : text;
  }
  return found;
}

function draftOf(original, fields) {
  return { original, ...Object.fromEntries(fields.map(([key]) => [key, typed(original[key])])) };
}

/** The rows of endpoints or constraints: a page of them has inputs, all are kept. */
class Rows {
  constructor(what, fields, items, lists, filled) {
    Object.assign(this, { what, fields, lists, filled, first: 0 });
    this.drafts = items.map((item) => draftOf(item, fields));
    this.faults = new Map(); // "row key" -> id of the message
    this.element = h("div", {});
    this.draw();
  }

  draw() {
    const page = this.drafts.slice(this.first, this.first + SIZE);
    const rows = page.map((draft, i) => this.row(draft, this.first + i));
    const step = (by) => () => { this.first += by; this.draw(); };
    const pages = this.drafts.length > SIZE && h("div", { class: "pages" },
      h("button", { type: "button", disabled: this.first === 0, onclick: step(-SIZE), "aria-label": `Previous ${this.what}s` }, "Previous"),
      h("span", {}, `${this.first + 1} to ${this.first + page.length} of ${this.drafts.length}`),
      h("button", { type: "button", disabled: this.first + SIZE >= this.drafts.length, onclick: step(SIZE), "aria-label": `Next ${this.what}s` }, "Next"));
    this.element.replaceChildren(
      ...(rows.length ? [h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `${this.what}s` }, h("table", { class: "form" }, h("caption", { class: "unseen" }, `${this.what}s`),
        h("thead", {}, h("tr", {}, this.fields.map(([, title]) => h("th", { scope: "col" }, title)), h("td", {}))),
        h("tbody", {}, rows)))] : []),
      ...(pages ? [pages] : []),
      h("button", { type: "button", onclick: () => this.add() }, `Add ${this.what === "endpoint" ? "an endpoint" : "a constraint"}`));
  }

  row(draft, place) {
    const cells = this.fields.map(([key, title]) => {
      const fault = this.faults.get(`${place} ${key}`);
      const input = h("input", {
        id: this.id(place, key), value: draft[key], "aria-label": `${title}, ${this.what} ${place + 1}`, spellcheck: "false",
        autocomplete: "off", placeholder: HINTS[key], list: this.lists(key, draft), "aria-invalid": fault && "true", "aria-describedby": fault,
        oninput: () => {
          draft[key] = input.value;
          if (key === "switch") this.element.querySelector(`[id="${this.id(place, "port")}"]`)?.setAttribute("list", this.lists("port", draft) ?? "");
        },
      });
      return h("td", {}, input);
    });
    const remove = () => {
      this.drafts.splice(place, 1);
      this.faults.clear();
      this.first = Math.min(this.first, Math.max(0, Math.floor((this.drafts.length - 1) / SIZE) * SIZE));
      this.draw();
      this.element.querySelector(":scope > button").focus();
    };
    return h("tr", {}, cells, h("td", {}, h("button", {
      type: "button", class: "plain", "aria-label": `Remove ${this.what} ${place + 1}`, onclick: remove,
    }, "Remove")));
  }

  add() {
    this.drafts.push(draftOf(this.filled(this.drafts), this.fields));
    this.first = Math.floor((this.drafts.length - 1) / SIZE) * SIZE;
    this.draw();
    this.focus(this.drafts.length - 1, this.fields[this.what === "endpoint" ? 1 : 0][0]);
  }

  id(place, key) { return `${this.what}-${place}-${key}`; }

  focus(place, key) {
    const page = Math.floor(place / SIZE) * SIZE;
    if (page !== this.first) {
      this.first = page;
      this.draw();
    }
    (document.getElementById(this.id(place, key)) ?? this.element.querySelector("button")).focus();
  }

  /** The places that a message is about: [3] in its path is a uuid, or a number where there is none. */
  named(key) {
    const found = this.drafts.flatMap((draft, place) => (draft.uuid !== undefined && draft.uuid.trim() === key ? [place] : []));
    const number = Number(key) - 1;
    return found.length ? found : number >= 0 && number < this.drafts.length ? [number] : [];
  }

  get items() { return this.drafts.map((draft) => described(draft, this.fields)); }
}

const PATH = /^(?:change\/)?(?:after\/)?(?:network\/)?(endpoint|constraint)\[([^\]]+)\](?:\/([\w-]+))?/;

/**
 * Opens the dialog for a network: null for a new one. substrate: for the proposals of switches and ports.
 * Resolves with the uuid after the change, with null if there is none.
 */
export function edit(api, network, substrate) {
  const before = network;
  const after = network ?? { uuid: crypto.randomUUID(), forwarding: "L2", endpoints: [], constraints: [] };
  const name = h("input", { id: "net-name", value: network?.name ?? "", autocomplete: "off", spellcheck: "false" });
  const forwarding = h("select", { id: "net-forwarding" }, ["L2", "L3"].map((one) => h("option", { value: one, selected: one === after.forwarding }, one === "L2" ? "L2: as one switch" : "L3: as one router")));
  const pending = h("input", { type: "checkbox", id: "net-pending" });
  const lists = (key, draft) => (key === "switch" ? "known-switches" : key === "port" ? `known-ports-${draft.switch}` : undefined);
  const next = (drafts) => ({ uuid: String(Math.max(0, ...drafts.map((draft) => Number(draft.uuid)).filter(Number.isSafeInteger)) + 1) });
  const endpoints = new Rows("endpoint", ENDPOINT, after.endpoints ?? [], lists, next);
  if (!network) for (let i = 0; i < 2; i += 1) endpoints.drafts.push(draftOf(next(endpoints.drafts), ENDPOINT));
  endpoints.draw();
  const constraints = new Rows("constraint", CONSTRAINT, after.constraints ?? [], () => undefined, () => ({}));
  const faults = h("div", { role: "alert", class: "faults", tabindex: "-1" });
  const proposals = (substrate?.switches ?? []).map((one) => h("datalist", { id: `known-ports-${one.id}` },
    one.ports.filter((port) => port.use !== "link").map((port) => h("option", { value: port.number || port.name }, port.name))));

  const change = () => {
    const description = { ...after, forwarding: forwarding.value, endpoints: endpoints.items, constraints: constraints.items };
    if (name.value.trim()) description.name = name.value;
    else delete description.name;
    return { ...(before ? { before } : {}), after: description, pending: pending.checked };
  };

  function show(error) {
    const told = error instanceof Refused && error.faults.length ? error.faults : [{ text: error.message, path: "" }];
    const distinct = [...new Map(told.map((fault) => [`${fault.path} ${fault.text}`, fault])).values()];
    for (const rows of [endpoints, constraints]) rows.faults.clear();
    name.removeAttribute("aria-invalid");
    const lines = distinct.map(({ path, text }, n) => {
      const id = `fault-${n}`;
      const place = PATH.exec(path ?? "");
      const words = String(path ?? "").replace(/^(change\/)?(after\/)?/, "");
      const said = words ? `${words}: ${text}` : text;
      let go = null;
      if (place) {
        const rows = place[1] === "endpoint" ? endpoints : constraints;
        const key = rows.fields.some(([one]) => one === place[3]) ? place[3] : rows.fields[0][0];
        const found = rows.named(place[2]);
        for (const one of found) rows.faults.set(`${one} ${key}`, id);
        if (found.length) go = () => rows.focus(found.at(-1), key);
      } else if (/\/name$/.test(path ?? "")) {
        name.setAttribute("aria-invalid", "true");
        name.setAttribute("aria-describedby", id);
        go = () => name.focus();
      }
      return h("li", { id }, go ? h("button", { type: "button", class: "plain", onclick: go }, said) : said);
    });
    endpoints.draw();
    constraints.draw();
    faults.replaceChildren(h("p", {}, `${before ? "Nothing was changed" : "Nothing was created"}:`), h("ul", {}, lines));
    faults.focus();
  }

  const check = async () => {
    await api.ask("checks", "POST", change());
    endpoints.faults.clear();
    constraints.faults.clear();
    endpoints.draw();
    constraints.draw();
    faults.replaceChildren(h("p", { class: "fine" }, "It would be accepted."));
  };
  const apply = async () => {
    const wanted = change();
    await api.ask("changes", "POST", wanted);
    return wanted.after.uuid;
  };
  return dialog(before ? `Change network ${before.name}` : "Create a network", [
    h("div", { class: "fields" },
      h("div", {}, h("label", { for: "net-name" }, "Name"), name),
      h("div", {}, h("label", { for: "net-forwarding" }, "Forwarding"), forwarding)),
    h("h3", {}, "Endpoints"),
    h("p", { class: "hint" }, "Where the network ends: a port of a switch, untagged or with a VLAN or an MPLS label. No more fields are needed in L2 networks."),
    endpoints.element,
    h("h3", {}, "Constraints"),
    h("p", { class: "hint" }, "What is guaranteed or limited from one endpoint to another, by their ids."),
    constraints.element,
    h("p", {}, pending, " ", h("label", { for: "net-pending" }, "Also if a switch or port is not there yet: its endpoint waits for it")),
    h("datalist", { id: "known-switches" }, (substrate?.switches ?? []).map((one) => h("option", { value: one.id }))),
    proposals,
    faults,
  ], [
    { text: before ? "Change" : "Create", first: true, act: apply, fail: show },
    { text: "Check only", act: check, fail: show, stay: true },
  ]);
}

/** Asks, and removes a network. Resolves with its uuid, or null. */
export function remove(api, network) {
  const fault = h("div", { role: "alert", class: "faults", tabindex: "-1" });
  return dialog(`Remove network ${network.name}?`, [
    h("p", {}, `Its ${count(network.endpoints?.length ?? 0, "endpoint")} will no longer be connected. This cannot be undone.`), fault,
  ], [{
    text: "Remove", first: true, danger: true,
    act: async () => {
      await api.ask("changes", "POST", { before: network });
      return network.uuid;
    },
    fail: (error) => fault.replaceChildren(error.message),
  }]);
}

function dialog(title, content, actions) {
  return new Promise((resolve) => {
    let result = null;
    const buttons = actions.map((action) => h("button", { type: "button", class: action.danger ? "danger" : action.first ? "first" : null }, action.text));
    // Where nothing is to be filled in, the focus begins at what does no harm.
    const cancel = h("button", { type: "button", autofocus: actions[0].danger, onclick: () => box.close() }, "Cancel");
    const box = h("dialog", { "aria-labelledby": "dialog-title" }, h("h2", { id: "dialog-title" }, title), content, h("div", { class: "bar end" }, cancel, buttons));
    buttons.forEach((button, n) => button.addEventListener("click", async () => {
      const { act, fail, stay } = actions[n];
      // Not disabled: that would take the focus away.
      if (box.ariaBusy === "true") return;
      box.ariaBusy = "true";
      try {
        result = await act();
        if (!stay) box.close();
      } catch (error) {
        fail(error);
      } finally {
        box.ariaBusy = null;
      }
    }));
    box.addEventListener("close", () => {
      box.remove();
      resolve(result ?? null);
    });
    document.body.append(box);
    box.showModal();
  });
}
