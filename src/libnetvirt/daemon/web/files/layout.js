// Where switches are drawn: by forces (Fruchterman and Reingold), from a circle in the order of their names. There
// is no chance in it: the same switches and links are drawn in the same way by every browser.

import { natural } from "./format.js";

/** Places in the unit square. ids: [text], edges: [[id, id]]. Returns a Map from id to [x, y]. */
export function layout(ids, edges) {
  const names = [...ids].sort(natural);
  const n = names.length;
  const index = new Map(names.map((name, i) => [name, i]));
  const x = names.map((_, i) => Math.cos((2 * Math.PI * i) / n - (3 * Math.PI) / 4));
  const y = names.map((_, i) => Math.sin((2 * Math.PI * i) / n - (3 * Math.PI) / 4));
  const pairs = edges.map(([a, b]) => [index.get(a), index.get(b)]).filter(([a, b]) => a !== b);
  const ideal = 1.6 / Math.sqrt(Math.max(n, 1));
  const rounds = n > 3 ? Math.max(20, Math.min(300, Math.round(6e6 / (n * n)))) : 0;
  for (let round = 0; round < rounds; round += 1) {
    const dx = new Float64Array(n);
    const dy = new Float64Array(n);
    for (let i = 0; i < n; i += 1) {
      for (let j = i + 1; j < n; j += 1) {
        const [ux, uy, d] = apart(x, y, i, j);
        const push = (ideal * ideal) / d;
        dx[i] += ux * push; dy[i] += uy * push;
        dx[j] -= ux * push; dy[j] -= uy * push;
      }
    }
    for (const [i, j] of pairs) {
      const [ux, uy, d] = apart(x, y, i, j);
      const pull = (d * d) / ideal;
      dx[i] -= ux * pull; dy[i] -= uy * pull;
      dx[j] += ux * pull; dy[j] += uy * pull;
    }
    const most = 0.2 * (1 - round / rounds);
    for (let i = 0; i < n; i += 1) {
      const d = Math.hypot(dx[i], dy[i]) || 1;
      x[i] += (dx[i] / d) * Math.min(d, most);
      y[i] += (dy[i] / d) * Math.min(d, most);
    }
  }
  const [fx, fy] = [fit(x), fit(y)];
  return new Map(names.map((name, i) => [name, [fx(x[i]), fy(y[i])]]));
}

function apart(x, y, i, j) {
  const dx = x[i] - x[j];
  const dy = y[i] - y[j];
  const d = Math.max(Math.hypot(dx, dy), 0.01);
  return [dx / d, dy / d, d];
}

function fit(values) {
  const low = Math.min(...values);
  const range = Math.max(...values) - low;
  return range < 0.05 ? () => 0.5 : (value) => (value - low) / range;
}

/**
 * Moves boxes apart that lie over each other, each as little as may be. boxes: [{x, y, width, height}], changed in
 * place, kept between 0 and the width and height of the drawing.
 */
export function spread(boxes, width, height) {
  const rounds = Math.min(400, Math.round(2e7 / boxes.length ** 2));
  for (let round = 0; round < rounds; round += 1) {
    let moved = false;
    for (let i = 0; i < boxes.length; i += 1) {
      for (let j = i + 1; j < boxes.length; j += 1) {
        const [a, b] = [boxes[i], boxes[j]];
        const dx = b.x - a.x;
        const dy = b.y - a.y;
        const overX = (a.width + b.width) / 2 - Math.abs(dx);
        const overY = (a.height + b.height) / 2 - Math.abs(dy);
        if (overX <= 0 || overY <= 0) continue;
        moved = true;
        if (overX < overY) {
          const by = (overX / 2 + 0.5) * (dx < 0 ? -1 : 1);
          a.x -= by; b.x += by;
        } else {
          const by = (overY / 2 + 0.5) * (dy < 0 ? -1 : 1);
          a.y -= by; b.y += by;
        }
      }
    }
    for (const box of boxes) {
      box.x = Math.min(Math.max(box.x, box.width / 2), width - box.width / 2);
      box.y = Math.min(Math.max(box.y, box.height / 2), height - box.height / 2);
    }
    if (!moved) return;
  }
}
