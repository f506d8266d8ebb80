// The drawing of switches and links, and its tables.

import { fill, h, svg } from "./dom.js";
import { count, cut, natural, rate } from "./format.js";
import { layout, spread } from "./layout.js";

// Beyond so many links, their numbers are in the tables and behind the pointer only.
const LABELLED = 40;

const end = (place, port) => `${place} ${port}`;
const byName = (a, b) => natural(`${a.source} ${a["source-port"]}`, `${b.source} ${b["source-port"]}`);

/** How busy a link is: 0 to 3, for its width and colour. */
export function busy(load, capacity) {
  if (!load || !capacity) return 0;
  const share = load / capacity;
  return share >= 0.8 ? 3 : share >= 0.5 ? 2 : share >= 0.02 ? 1 : 0;
}

export class Topology {
  constructor(drawing, links, switches) {
    Object.assign(this, { drawing, links, switches });
    this.known = new Map(); // links by their two ends, also those that are lost
    this.places = new Map();
    this.shape = "";
    this.shown = null;
    new ResizeObserver(() => this.shown && this.draw()).observe(drawing);
  }

  /** substrate: as of the interface. loads: bit/s by end, a Map. network, paths: what is drawn over it, or null. */
  show(shown) {
    this.shown = shown;
    this.remember(shown.substrate, shown.loads);
    const ids = shown.substrate.switches.map((one) => one.id);
    const edges = [...this.known.values()].map((link) => [link.a, link.b]);
    const shape = JSON.stringify([ids, edges]);
    if (shape !== this.shape) this.places = layout(ids, edges);
    this.shape = shape;
    this.draw();
    this.tables();
  }

  remember(substrate, loads) {
    const there = new Set(substrate.switches.map((one) => one.id));
    for (const link of this.known.values()) link.directions = [];
    for (const one of substrate.links) {
      const ends = [[one.source, one["source-port"]], [one.destination, one["destination-port"]]];
      ends.sort(([a, p], [b, q]) => natural(end(a, p), end(b, q)));
      const [[a, aPort], [b, bPort]] = ends;
      const key = `${end(a, aPort)}-${end(b, bPort)}`;
      if (!this.known.has(key)) {
        // A cable that was plugged in elsewhere is no longer where it was.
        for (const [old, link] of this.known) {
          const taken = (s, p) => ends.some(([t, q]) => s === t && p === q);
          if (!link.directions.length && (taken(link.a, link.aPort) || taken(link.b, link.bPort))) this.known.delete(old);
        }
        this.known.set(key, { key, a, aPort, b, bPort, directions: [], capacity: 0 });
      }
      const link = this.known.get(key);
      link.capacity = one.capacity || link.capacity;
      link.directions.push({ ...one, load: loads.get(end(one.source, one["source-port"])) });
    }
    for (const [key, link] of this.known) if (!there.has(link.a) || !there.has(link.b)) this.known.delete(key);
  }

  draw() {
    const { substrate, network, paths } = this.shown;
    const width = Math.max(300, Math.min(this.drawing.clientWidth || 600, 1400));
    const many = substrate.switches.length;
    const height = Math.round(Math.max(240, Math.min(width * (many > 12 ? 0.8 : 0.62), 160 + 120 * Math.sqrt(many))));
    const at = this.placed(width, height);
    const used = new Set((paths ?? []).flatMap((path) => (path.hops ?? []).map((hop) => end(hop.switch, hop["out-port"]))));
    const lines = this.lines(at);
    const under = [];
    const over = [];
    for (const { link, from, to, side } of lines) {
      const onPath = used.has(end(link.a, link.aPort)) || used.has(end(link.b, link.bPort));
      const [x1, y1, x2, y2] = [...from, ...to];
      if (onPath) {
        under.push(svg("line", { class: "path", x1, y1, x2, y2, "data-link": link.key }));
      }
      under.push(this.line(link, x1, y1, x2, y2));
      const reserved = Math.max(0, ...link.directions.map((one) => one.reserved));
      if (reserved) {
        const [ox, oy] = [side[0] * 5, side[1] * 5];
        under.push(svg("line", { class: "reserved", x1: x1 + ox, y1: y1 + oy, x2: x2 + ox, y2: y2 + oy }));
      }
      if (lines.length <= LABELLED) over.push(label(link, from, to, side, [width / 2, height / 2 - 2], reserved));
    }
    const endpoints = new Map();
    for (const one of network?.endpoints ?? []) endpoints.set(one.switch, (endpoints.get(one.switch) ?? 0) + 1);
    const nodes = substrate.switches.map((one) => node(one, at(one.id), endpoints.get(one.id) ?? 0));
    const text = this.summary();
    this.drawing.replaceChildren(substrate.switches.length ? svg("svg", {
      role: "img", "aria-label": text, viewBox: `0 0 ${width} ${height}`, width, height,
    }, under, over, nodes) : h("p", {}, "No switch is connected."));
  }

  /** Where switches are drawn, none over another: a function of their id. */
  placed(width, height) {
    const key = `${width} ${height} ${this.shape}`;
    if (this.placedFor !== key) {
      const boxes = [...this.places].map(([id, [x, y]]) => ({
        id, x: 60 + x * (width - 120), y: 36 + y * (height - 84), width: boxWidth(id) + 12, height: 56,
      }));
      // The words below the lowest ones need room, too.
      spread(boxes, width, height - 4);
      this.at = new Map(boxes.map((box) => [box.id, [box.x, box.y]]));
      this.placedFor = key;
    }
    return (id) => this.at.get(id);
  }

  /** Where each link is drawn; parallel ones side by side. */
  lines(at) {
    const between = new Map();
    for (const link of this.known.values()) {
      const pair = `${link.a} ${link.b}`;
      between.set(pair, [...(between.get(pair) ?? []), link]);
    }
    return [...between.values()].flatMap((links) => links.map((link, i) => {
      const [[x1, y1], [x2, y2]] = [at(link.a), at(link.b)];
      const d = Math.hypot(x2 - x1, y2 - y1) || 1;
      const side = [-(y2 - y1) / d, (x2 - x1) / d];
      const by = (i - (links.length - 1) / 2) * 16;
      return { link, side, from: [x1 + side[0] * by, y1 + side[1] * by], to: [x2 + side[0] * by, y2 + side[1] * by] };
    }));
  }

  line(link, x1, y1, x2, y2) {
    const load = Math.max(0, ...link.directions.map((one) => one.load ?? 0));
    return svg("line", {
      class: `link ${state(link)} busy${busy(load, link.capacity)}`, x1, y1, x2, y2, "data-link": link.key,
    }, svg("title", {}, title(link)));
  }

  summary() {
    const links = [...this.known.values()];
    const down = links.filter((link) => state(link) === "down").length;
    const lost = this.shown.substrate.switches.filter((one) => !one.connected).length;
    return `Topology: ${count(this.shown.substrate.switches.length, "switch", "switches")}${lost ? `, ${lost} not connected` : ""}, `
      + `${count(links.length, "link")}${down ? `, ${down} down` : ""}. The tables below have the same.`;
  }

  tables() {
    const rows = [...this.known.values()].flatMap((link) => (link.directions.length ? link.directions : [lost(link)]));
    fill(this.links, "Links", ["From", "To", "State", "Load", "Reserved", "Capacity"], rows.sort(byName).map((one) => ({
      key: `${end(one.source, one["source-port"])} ${end(one.destination, one["destination-port"])}`,
      cells: [
        `switch ${one.source} port ${one["source-port"]}`, `switch ${one.destination} port ${one["destination-port"]}`,
        one.down ? { text: "down", state: "down" } : one.unconfirmed ? { text: "unconfirmed", state: "unconfirmed" }
          : { text: one.up ? "up" : "down", state: one.up ? "active" : "down" },
        one.load === undefined ? "–" : rate(one.load), one.reserved ? rate(one.reserved) : "–",
        one.capacity ? rate(one.capacity) : "–",
      ],
    })), "There are no links.");
    fill(this.switches, "Switches", ["Switch", "State", "Address", "Ports up", "Remarks"],
      [...this.shown.substrate.switches].sort((a, b) => natural(a.id, b.id)).map((one) => ({
        key: one.id,
        cells: [
          one.id, one.connected ? { text: "connected", state: "active" } : { text: "not connected", state: "down" },
          one.address || "–", `${one.ports.filter((port) => port.up).length} of ${one.ports.length}`,
          one.notes.join("; ") || "–",
        ],
      })), "No switch is connected.");
  }
}

function state(link) {
  if (!link.directions.length || link.directions.some((one) => !one.up && !one.unconfirmed)) return "down";
  return link.directions.some((one) => one.unconfirmed) ? "unconfirmed" : "up";
}

const lost = (link) => ({
  source: link.a, "source-port": link.aPort, destination: link.b, "destination-port": link.bPort, down: true,
  capacity: link.capacity,
});

function title(link) {
  const places = `switch ${link.a} port ${link.aPort} – switch ${link.b} port ${link.bPort}: ${state(link)}`;
  const more = link.directions.map((one) => `from ${one.source}: ${one.load === undefined ? "load not known" : rate(one.load)}`
    + `${one.reserved ? `, reserved ${rate(one.reserved)}` : ""}${one.capacity ? `, of ${rate(one.capacity)}` : ""}`);
  return [places, ...more].join("\n");
}

/** What is written beside a link, at its inner side. middle: that of the drawing. */
function label(link, from, to, side, middle, reserved) {
  const loads = link.directions.map((one) => one.load).filter((load) => load !== undefined);
  const texts = state(link) === "up" ? [] : [state(link)];
  if (loads.length && texts.length === 0) texts.push(rate(Math.max(...loads)));
  if (reserved) texts.push(`reserved ${rate(reserved)}`);
  const [mx, my] = [(from[0] + to[0]) / 2, (from[1] + to[1]) / 2];
  const inward = side[0] * (middle[0] - mx) + side[1] * (middle[1] - my) < 0 ? -1 : 1;
  const [nx, ny] = [side[0] * inward, side[1] * inward];
  const beside = Math.abs(nx) > 0.4;
  const anchor = !beside ? "middle" : nx > 0 ? "start" : "end";
  const lift = beside ? (texts.length - 1) / 2 : ny < 0 ? texts.length - 1 : 0;
  const [x, y] = [mx + nx * 13, my + ny * 17 + 4];
  return texts.map((text, i) => svg("text", {
    class: `figure ${state(link)}`, x, y: y + (i - lift) * 14, "text-anchor": anchor,
  }, text));
}

const shortName = (id) => cut(id.replace(/^(00:)+(?=[0-9a-f:]+$)/, ""), 18);
const boxWidth = (id) => Math.max(36, shortName(id).length * 8.5 + 16);

function node(one, [x, y], endpoints) {
  const name = shortName(one.id);
  const under = endpoints ? count(endpoints, "endpoint") : one.connected ? "" : "not connected";
  const width = boxWidth(one.id);
  return svg("g", { class: `switch${one.connected ? "" : " lost"}${endpoints ? " member" : ""}`, "data-switch": one.id },
    svg("title", {}, [`switch ${one.id}${one.connected ? "" : ", not connected"}`, one.description, ...one.notes].filter(Boolean).join("\n")),
    svg("rect", { x: x - width / 2, y: y - 15, width, height: 30, rx: 7 }),
    svg("text", { class: "name", x, y: y + 5 }, name),
    under && svg("text", { class: "under", x, y: y + 30 }, under));
}
