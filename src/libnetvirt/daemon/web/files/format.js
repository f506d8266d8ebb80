// Numbers, times and names as people read them.

const UNITS = ["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"];

/** 12500000 -> "12.5 Mbit/s" */
export function rate(bits) {
  let value = bits;
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${value >= 100 || unit === 0 ? Math.round(value) : Number(value.toFixed(1))} ${UNITS[unit]}`;
}

export const clock = (seconds) => new Date(seconds * 1000).toTimeString().slice(0, 8);

const collator = new Intl.Collator("en", { numeric: true });
/** Compares names so that 2 comes before 10. */
export const natural = (a, b) => collator.compare(a, b);

export const cut = (text, length) => (text.length > length ? `${text.slice(0, length - 1)}…` : text);

export const count = (number, one, many = `${one}s`) => `${number} ${number === 1 ? one : many}`;

/** The tag of an endpoint, in the words of the description. */
export function tag(endpoint) {
  if (endpoint.vlan !== undefined) return `vlan ${endpoint.vlan}${endpoint["inner-vlan"] ? " + inner" : ""}`;
  return endpoint.mpls === undefined ? "untagged" : `mpls ${endpoint.mpls}`;
}

const LIMITS = { "min-bandwidth": "at least", "max-bandwidth": "at most", "max-latency": "within", "max-hops": "hops" };

/** What a constraint demands. */
export const demands = (constraint) => Object.entries(LIMITS)
  .filter(([key]) => constraint[key] !== undefined)
  .map(([key, words]) => `${words} ${constraint[key]}`).join(", ");

/** The way of a path: its switches. */
export const way = (path) => (path.hops?.length ? path.hops.map((hop) => hop.switch).join(" → ") : "no path");
