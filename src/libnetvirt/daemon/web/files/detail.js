// One network: its endpoints, hosts, constraints and paths.

import { h, paged, setText } from "./dom.js";
import { count, demands, tag, way } from "./format.js";

// A network has a path for each pair of endpoints.
export const MOST_WITH_PATHS = 40;

const told = (state) => (state ? { text: state.reason ? `${state.state}: ${state.reason}` : state.state, state: state.state } : "–");

export class Detail {
  /** act: {edit, remove, show(path), close}. */
  constructor(section, act) {
    Object.assign(this, { section, act, uuid: null, chosen: null });
  }

  build(network, mayEdit) {
    this.uuid = network.uuid;
    this.chosen = null;
    this.heading = h("h2", { id: "detail-heading", tabindex: "-1" });
    this.facts = h("p", { class: "facts" });
    this.state = h("span", {});
    this.drift = h("ul", { class: "notes", "aria-label": "Changes by others" });
    this.pathNote = h("p", { class: "hint" });
    this.tables = {
      endpoints: paged("Endpoints", ["Id", "Switch", "Port", "Tag", "Addresses", "State"], "There are none."),
      hosts: paged("Hosts", ["MAC", "Endpoint", "Addresses", "Known by"], "No host is known yet."),
      constraints: paged("Constraints", ["From", "To", "Requires", "Reserved", "State"], "There are none."),
      paths: paged("Paths", ["From", "To", "Switches", "Drawing"], "There are none."),
    };
    const part = (title, key, ...more) => [h("h3", {}, title), ...more, this.tables[key].element];
    this.section.replaceChildren(
      h("div", { class: "bar" }, this.heading,
        mayEdit && h("button", { type: "button", id: "change", onclick: this.act.edit }, "Change"),
        mayEdit && h("button", { type: "button", id: "remove", class: "danger", onclick: this.act.remove }, "Remove"),
        h("button", { type: "button", onclick: this.act.close, "aria-label": "Close the details" }, "Close")),
      this.facts, this.drift,
      ...part("Endpoints", "endpoints"), ...part("Paths", "paths", this.pathNote),
      ...part("Constraints", "constraints"), ...part("Hosts", "hosts"));
    this.section.setAttribute("aria-labelledby", "detail-heading");
    this.section.hidden = false;
  }

  /** state and paths: null while they are not known. */
  show(network, state, paths, mayEdit) {
    if (this.uuid !== network.uuid) this.build(network, mayEdit);
    setText(this.heading, network.name);
    const facts = [network.forwarding, count(network.endpoints.length, "endpoint"), `uuid ${network.uuid}`];
    if (state?.mtu) facts.push(`MTU ${state.mtu} bytes`);
    setText(this.facts, `${facts.join(" · ")} · `);
    setText(this.state, state?.state ?? "…");
    this.state.className = `state ${state?.state ?? ""}`;
    this.facts.append(this.state);
    this.drift.replaceChildren(...(state?.drift ?? []).map((line) => h("li", {}, line)));
    const states = new Map((state?.endpoints ?? []).map((one) => [one.uuid, one]));
    this.tables.endpoints.show(network.endpoints.map((one) => () => ({
      key: one.uuid,
      cells: [one.uuid, one.switch, one.port, tag(one), (one.address ?? []).join(", ") || "–", told(states.get(one.uuid))],
    })));
    this.tables.hosts.show((state?.hosts ?? []).map((one) => () => ({
      key: one.mac, cells: [one.mac, one.endpoint, (one.addresses ?? []).join(", ") || "–", one.source],
    })));
    const promised = new Map((state?.constraints ?? []).map((one) => [`${one.source} ${one.destination}`, one]));
    this.tables.constraints.show((network.constraints ?? []).map((one) => () => {
      const key = `${one.source} ${one.destination}`;
      const kept = promised.get(key);
      return { key, cells: [one.source, one.destination, demands(one), kept?.reserved ? this.act.rate(kept.reserved) : "–", told(kept)] };
    }));
    setText(this.pathNote, network.endpoints.length > MOST_WITH_PATHS
      ? `Not shown for more than ${MOST_WITH_PATHS} endpoints: ‘netvirt paths’ lists all of them.` : "");
    const all = paths ?? [];
    if (this.chosen && !all.some((path) => pathKey(path) === this.chosen)) this.chosen = null;
    this.tables.paths.show(all.map((path) => () => {
      const key = pathKey(path);
      const pressed = this.chosen === key;
      return {
        key,
        cells: [path.source, path.destination, way(path), {
          text: pressed ? "Show all" : "Show only", pressed, label: `Draw only the path from ${path.source} to ${path.destination}`,
          press: () => { this.chosen = pressed ? null : key; this.act.show(); },
        }],
      };
    }));
  }

  /** The paths that are drawn. */
  drawn(paths) {
    return (paths ?? []).filter((path) => !this.chosen || pathKey(path) === this.chosen);
  }

  hide() {
    this.uuid = null;
    this.section.hidden = true;
    this.section.removeAttribute("aria-labelledby");
    this.section.replaceChildren();
  }
}

const pathKey = (path) => `${path.source} ${path.destination}`;
