// The page: signing in, what is shown, and when it is read again. Events of the server tell when; only the loads of
// links are asked for regularly.

import { Api, Refused } from "./api.js";
import { Detail, MOST_WITH_PATHS } from "./detail.js";
import { byId, fill, h, paged, setText } from "./dom.js";
import { edit, remove } from "./editor.js";
import { clock, count, natural, rate } from "./format.js";
import { Topology } from "./topology.js";

const LOADS = 2500; // ms between two questions about the loads of links
const SETTLE = 150; // ms in which what follows an event is awaited
const EVENTS = 200; // events that are listed
const TOKEN = "netvirt-token";
const EVERYTHING = /^(switch|link|controller|events|drift|capacit|database|store|trust|control)/;

const view = {
  api: null, access: null, substrate: null, loads: new Map(), networks: [], states: new Map(), paths: null, selected: null,
  events: [], whole: true, measured: true, reading: null,
};

const topology = new Topology(byId("drawing"), byId("links"), byId("switches"));
const list = paged("Networks", ["Name", "Forwarding", "Endpoints", "State"], "There are no networks.");
byId("list").append(list.element);
const detail = new Detail(byId("detail"), {
  rate,
  edit: () => change(selected()),
  remove: () => take(selected()),
  show: () => { draw(); drawDetail(); },
  close: () => { choose(null); byId("networks").focus(); },
});

const selected = () => view.networks.find((one) => one.uuid === view.selected) ?? null;
const mayEdit = () => view.access && view.access.role !== "read";

// ---- colours -----------------------------------------------------------------------------------------------------

const system = matchMedia("(prefers-color-scheme: dark)");
const dark = () => (localStorage.getItem("netvirt-colours") ?? (system.matches ? "dark" : "light")) === "dark";

function colour() {
  document.documentElement.dataset.colours = dark() ? "dark" : "light";
  setText(byId("theme"), dark() ? "Light colours" : "Dark colours");
}
system.addEventListener("change", colour);
byId("theme").onclick = () => {
  localStorage.setItem("netvirt-colours", dark() ? "light" : "dark");
  colour();
};

// ---- signing in --------------------------------------------------------------------------------------------------

function signedOut(reason = "") {
  view.reading?.abort();
  Object.assign(view, { reading: null, api: null });
  sessionStorage.removeItem(TOKEN);
  for (const id of ["networks-and-topology", "where", "leave"]) byId(id).hidden = true;
  setText(byId("who"), "");
  for (const box of document.querySelectorAll("dialog")) box.close();
  byId("login").hidden = false;
  byId("token").value = "";
  setText(byId("login-fault"), reason);
  byId("token").setAttribute("aria-invalid", String(Boolean(reason)));
  byId("token").focus();
}

async function signIn(token) {
  const api = new Api(token);
  try {
    view.access = await api.own("access");
    const connections = await api.own("connections");
    if (!connections.length) throw new Error("this token is for no connection that the server has");
    sessionStorage.setItem(TOKEN, token);
    view.api = api;
    api.over = (error) => { if (view.api === api) signedOut(error.message); };
    const choice = byId("connection");
    choice.replaceChildren(...connections.map((one) => h("option", { value: one.name, disabled: !one.open }, one.open ? one.name : `${one.name} (not open)`)));
    api.connection = (connections.find((one) => one.open) ?? connections[0]).name;
    choice.value = api.connection;
  } catch (error) {
    signedOut(error.message);
    return;
  }
  byId("login").hidden = true;
  for (const id of ["networks-and-topology", "where", "leave"]) byId(id).hidden = false;
  setText(byId("who"), `${view.access.token || "everybody"} (${view.access.role})`);
  byId("create").hidden = !mayEdit();
  open();
}

byId("login-form").addEventListener("submit", (event) => {
  event.preventDefault();
  signIn(byId("token").value.trim());
});
byId("leave").onclick = () => signedOut();
byId("connection").onchange = () => {
  view.api.connection = byId("connection").value;
  open();
};

// ---- reading -----------------------------------------------------------------------------------------------------

/** Shows the connection that was chosen, from the start. */
function open() {
  view.reading?.abort();
  Object.assign(view, {
    substrate: null, loads: new Map(), networks: [], states: new Map(), paths: null, events: [], reading: new AbortController(),
    whole: !view.access.networks?.length, measured: true, selected: decodeURIComponent(location.hash.slice(1)) || null,
  });
  byId("topology").hidden = !view.whole;
  topology.known.clear();
  detail.hide();
  drawEvents();
  const { signal } = view.reading;
  view.api.events(signal, {
    event: (event) => happened(event),
    live: (on) => {
      setText(byId("live"), on ? "live" : "reconnecting");
      byId("live").className = on ? "live on" : "live";
      if (on) readAll();
    },
    refused: (error) => trouble(error),
  });
  measure(signal);
}

/** Runs a reading; one more, later, if it is asked for meanwhile. */
function once(read) {
  let running = false;
  let again = false;
  let timer = null;
  async function run() {
    timer = null;
    if (running) { again = true; return; }
    running = true;
    const { reading } = view;
    try {
      await read(() => view.reading === reading && reading !== null);
    } catch (error) {
      if (view.reading === reading) trouble(error);
    } finally {
      running = false;
      if (again) { again = false; start(); }
    }
  }
  function start() { timer ??= setTimeout(run, SETTLE); }
  return start;
}

const readSubstrate = once(async (current) => {
  if (!view.whole) return;
  const found = await view.api.ask("substrate");
  if (!current()) return;
  view.substrate = found;
  draw();
  calm();
});

const readNetworks = once(async (current) => {
  const found = await view.api.ask("networks");
  if (!current()) return;
  view.networks = found.map((one) => ({ ...one, endpoints: one.endpoints ?? [] })).sort((a, b) => natural(a.name, b.name));
  if (view.selected && !selected()) choose(null);
  drawList();
  drawDetail();
  draw();
  calm();
});

/** The states of the networks that are listed, and of the one that is shown with its paths. */
const readStates = once(async (current) => {
  const wanted = view.networks.filter((one) => (view.listed?.has(one.uuid) || one.uuid === view.selected) && !view.states.has(one.uuid));
  const chosen = selected();
  const work = wanted.map((one) => one.uuid);
  const workers = Array.from({ length: Math.min(4, work.length) }, async () => {
    while (work.length && current()) {
      const uuid = work.shift();
      const state = await gone(view.api.ask(`networks/${uuid}/state`));
      if (state && current()) view.states.set(uuid, state);
    }
  });
  await Promise.all(workers);
  if (chosen && current() && chosen.uuid === view.selected && view.paths === null) {
    const few = chosen.endpoints.length <= MOST_WITH_PATHS;
    view.paths = (few && await gone(view.api.ask(`networks/${chosen.uuid}/paths`))) || [];
  }
  if (!current()) return;
  drawList();
  drawDetail();
  draw();
});

/** null for a network that was removed meanwhile, and for what the driver does not offer. */
async function gone(request) {
  try {
    return await request;
  } catch (error) {
    if (error instanceof Refused && (error.status === 404 || error.status === 501)) return null;
    throw error;
  }
}

function readAll() {
  view.states.clear();
  view.paths = null;
  readSubstrate();
  readNetworks();
}

async function measure(signal) {
  while (!signal.aborted) {
    if (view.whole && view.measured && document.visibilityState === "visible") {
      try {
        const found = await view.api.ask("metrics");
        const loads = found.find((one) => one.name === "netvirt_link_load_bytes_per_second")?.values ?? [];
        if (signal.aborted) return;
        view.loads = new Map(loads.map(([labels, value]) => [`${labels[0]} ${labels[1]}`, value * 8]));
        draw();
      } catch (error) {
        if (error instanceof Refused && error.status !== 401) view.measured = error.status >= 500 && error.status !== 501;
      }
    }
    await new Promise((done) => setTimeout(done, LOADS));
  }
}

function happened(event) {
  view.events.unshift(event);
  view.events.length = Math.min(view.events.length, EVENTS);
  drawEvents();
  say(event.message);
  if (EVERYTHING.test(event.kind) || event.kind.includes("path")) {
    view.states.clear();
    view.paths = null;
    readSubstrate();
  } else if (event.network) {
    view.states.delete(event.network);
    if (event.network === view.selected) view.paths = null;
  }
  if (/^(network\.(created|changed|removed)|events)/.test(event.kind)) {
    readNetworks();
    readSubstrate();
  } else readStates();
}

// What happened is told to screen readers a second later, the last of many: a storm of events is no use to anybody.
let saying = null;
let toSay = "";
function say(text) {
  toSay = text;
  saying ??= setTimeout(() => {
    saying = null;
    setText(byId("announce"), toSay);
  }, 1000);
}

function trouble(error) {
  if (error instanceof Refused && error.status === 401) {
    signedOut(error.message);
    return;
  }
  byId("trouble").hidden = false;
  setText(byId("trouble"), error instanceof Refused ? error.message : "The server does not answer. It is asked again.");
}

function calm() { byId("trouble").hidden = true; }

// ---- showing -----------------------------------------------------------------------------------------------------

function draw() {
  if (!view.substrate) return;
  topology.show({ substrate: view.substrate, loads: view.loads, network: selected(), paths: detail.drawn(view.paths) });
  const notes = byId("notes");
  if (notes.children.length !== view.substrate.notes.length || [...notes.children].some((one, i) => one.textContent !== view.substrate.notes[i])) {
    notes.replaceChildren(...view.substrate.notes.map((text) => h("li", {}, text)));
  }
}

function drawList() {
  const wanted = byId("find").value.trim().toLowerCase();
  const found = view.networks.filter((one) => one.name.toLowerCase().includes(wanted) || one.uuid.includes(wanted));
  list.onShown((from, to) => {
    view.listed = new Set(found.slice(from, to).map((one) => one.uuid));
    if ([...view.listed].some((uuid) => !view.states.has(uuid))) readStates();
  });
  setText(byId("networks-heading"), `Networks (${view.networks.length})`);
  list.show(found.map((one) => () => {
    const state = view.states.get(one.uuid)?.state;
    return {
      key: one.uuid, current: one.uuid === view.selected,
      cells: [
        { text: one.name, press: () => choose(one.uuid), pressed: one.uuid === view.selected }, one.forwarding,
        one.endpoints.length, state ? { text: state, state } : "…",
      ],
    };
  }));
}

function drawDetail() {
  const network = selected();
  if (network) detail.show(network, view.states.get(network.uuid) ?? null, view.paths, mayEdit());
  else detail.hide();
}

/** Once in a frame, whatever the number of events. */
const drawEvents = inFrame(() => {
  fill(byId("log"), "Events", ["Time", "Kind", "What happened"], view.events.map((event) => ({
    key: event.id || `${event.time} ${event.kind} ${event.message}`, cells: [clock(event.time), event.kind, event.message],
  })), "Nothing has happened since this page was opened.");
});

function inFrame(show) {
  let due = false;
  return () => {
    if (due) return;
    due = true;
    requestAnimationFrame(() => {
      due = false;
      show();
    });
  };
}

function choose(uuid) {
  view.selected = uuid;
  view.paths = null;
  history.replaceState(null, "", uuid ? `#${encodeURIComponent(uuid)}` : location.pathname);
  drawList();
  drawDetail();
  draw();
  if (uuid) {
    readStates();
    byId("detail-heading")?.focus();
  }
}

async function change(network) {
  const uuid = await edit(view.api, network, view.substrate);
  if (!uuid) return;
  view.states.delete(uuid);
  view.selected = uuid;
  view.paths = null;
  history.replaceState(null, "", `#${encodeURIComponent(uuid)}`);
  say(network ? "The network was changed" : "The network was created");
  readNetworks();
  readStates();
}

async function take(network) {
  if (await remove(view.api, network) === null) return;
  choose(null);
  say(`Network ${network.name} was removed`);
  readNetworks();
  byId("networks").focus();
}

byId("find").oninput = drawList;
byId("create").onclick = () => change(null);

colour();
const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) {
  history.replaceState(null, "", location.pathname);
  sessionStorage.setItem(TOKEN, given);
}
const token = sessionStorage.getItem(TOKEN);
if (token) signIn(token);
else signedOut();
