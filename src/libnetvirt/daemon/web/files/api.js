// The interface /v1 of the server, with a token.

export class Refused extends Error {
  constructor(status, problem) {
    super(problem.message ?? problem.detail ?? problem.title ?? `the server answered ${status}`);
    this.status = status;
    this.code = problem.code ?? "";
    this.faults = problem.faults ?? [];
  }
}

export class Api {
  constructor(token) {
    this.token = token;
    this.connection = "";
    /** Called when the token does not hold, or no longer. */
    this.over = () => {};
  }

  /** A request about the server itself. Returns what the reply says, null if nothing. Throws Refused, TypeError. */
  async own(path, method = "GET", body = undefined) {
    const headers = { authorization: `Bearer ${this.token}`, accept: "application/json" };
    if (body !== undefined) headers["content-type"] = "application/json";
    const reply = await fetch(`/v1/${path}`, {
      method, headers, body: body === undefined ? undefined : JSON.stringify(body), cache: "no-store",
    });
    const text = await reply.text();
    let said = null;
    try {
      said = text ? JSON.parse(text) : null;
    } catch {
      said = { message: `the server answered ${reply.status} with something else than JSON` };
    }
    if (!reply.ok) {
      const refused = new Refused(reply.status, said ?? {});
      if (reply.status === 401) this.over(refused);
      throw refused;
    }
    return said;
  }

  /** A request about the connection that was chosen. */
  ask(path, method = "GET", body = undefined) {
    return this.own(this.path(path), method, body);
  }

  path(path) {
    return `connections/${encodeURIComponent(this.connection)}/${path}`;
  }

  /**
   * Reads events until the signal ends that, also after losses of the connection.
   *
   * live(true) is called whenever no event from then on is missed, live(false) when that is no longer so, and
   * refused(error) if the server refuses; then reading ends.
   */
  async events(signal, { event, live, refused }) {
    let after = "";
    let wait = 500;
    while (!signal.aborted) {
      const silence = new AbortController();
      const stop = () => silence.abort();
      signal.addEventListener("abort", stop);
      let timer = setTimeout(stop, SILENCE);
      try {
        const from = after ? `?after=${encodeURIComponent(after)}` : "";
        const reply = await fetch(`/v1/${this.path("events")}${from}`, {
          headers: { authorization: `Bearer ${this.token}`, accept: "application/x-ndjson" },
          signal: silence.signal, cache: "no-store",
        });
        if (!reply.ok) {
          const problem = await reply.json().catch(() => ({}));
          if (reply.status < 500) {
            refused(new Refused(reply.status, problem));
            return;
          }
          throw new Refused(reply.status, problem);
        }
        let first = true;
        for await (const line of lines(reply.body)) {
          clearTimeout(timer);
          timer = setTimeout(stop, SILENCE);
          if (first) live(true);
          first = false;
          wait = 500;
          if (!line) continue;
          const found = JSON.parse(line);
          if (found.id) after = found.id;
          if (found.fields?.resume) after = found.fields.resume;
          event(found);
        }
      } catch (error) {
        if (signal.aborted) return;
      } finally {
        clearTimeout(timer);
        signal.removeEventListener("abort", stop);
      }
      if (signal.aborted) return;
      live(false);
      await new Promise((done) => setTimeout(done, wait));
      wait = Math.min(wait * 2, 10000);
    }
  }
}

// The server sends an empty line every 5 s.
const SILENCE = 20000;

async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    yield* parts;
  }
}
