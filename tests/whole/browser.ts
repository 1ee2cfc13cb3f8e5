/**
 * Headless Chromium, driven by the Chrome DevTools Protocol over its WebSocket: opens a page, evaluates
 * JavaScript in it, takes a screenshot. Its network is whatever the page needs of this machine.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface Page extends AsyncDisposable {
  /** Value of an expression, awaited if it is a promise; throws what it throws. */
  evaluate(expression: string): Promise<unknown>;
  /** PNG of the whole page. */
  screenshot(): Promise<Buffer>;
  /** Addresses that the page asked for so far. */
  readonly requests: readonly string[];
}

interface Reply {
  readonly id?: number;
  readonly method?: string;
  readonly params?: { readonly request?: { readonly url: string } };
  readonly result?: Record<string, unknown>;
  readonly error?: { readonly message: string };
}

/** Starts a browser, with these flags too, and opens `url`; resolves when the page has loaded. */
export async function openPage(url: string, flags: readonly string[] = []): Promise<Page> {
  const profile = mkdtempSync(join(tmpdir(), "p2pd-browser-"));
  const browser = Bun.spawn(
    [
      "chromium",
      "--headless",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--disable-dev-shm-usage",
      "--window-size=1280,1000",
      "--remote-debugging-port=0",
      `--user-data-dir=${profile}`,
      ...flags,
      "about:blank",
    ],
    { stdout: "ignore", stderr: "pipe" },
  );
  const control = await devToolsUrl(browser.stderr);
  const socket = new WebSocket(control);
  await new Promise((resolve, reject) => {
    socket.addEventListener("open", resolve);
    socket.addEventListener("error", () => reject(new Error(`no connection to ${control}`)));
  });
  const requests: string[] = [];
  const waiting = new Map<number, (reply: Reply) => void>();
  const loaded = Promise.withResolvers<void>();
  socket.addEventListener("message", ({ data }) => {
    const reply = JSON.parse(String(data)) as Reply;
    if (reply.id !== undefined) waiting.get(reply.id)?.(reply);
    else if (reply.method === "Page.loadEventFired") loaded.resolve();
    else if (reply.params?.request !== undefined) requests.push(reply.params.request.url);
  });
  let calls = 0;
  const attached: { sessionId?: unknown } = {};
  const call = async (method: string, params: object = {}): Promise<Record<string, unknown>> => {
    const id = ++calls;
    const answered = new Promise<Reply>((resolve) => waiting.set(id, resolve));
    socket.send(JSON.stringify({ id, method, params, ...attached }));
    const { result, error } = await answered;
    waiting.delete(id);
    if (result === undefined) throw new Error(`${method}: ${error?.message}`);
    return result;
  };
  const { targetId } = await call("Target.createTarget", { url: "about:blank" });
  attached.sessionId = (await call("Target.attachToTarget", { targetId, flatten: true }))["sessionId"];
  await call("Page.enable");
  await call("Network.enable");
  await call("Page.navigate", { url });
  await loaded.promise;
  return {
    requests,
    async evaluate(expression) {
      const { result, exceptionDetails } = await call("Runtime.evaluate", {
        expression,
        awaitPromise: true,
        returnByValue: true,
      });
      if (exceptionDetails !== undefined) throw new Error(JSON.stringify(exceptionDetails));
      return (result as { value?: unknown }).value;
    },
    async screenshot() {
      const { data } = await call("Page.captureScreenshot", { captureBeyondViewport: true });
      return Buffer.from(String(data), "base64");
    },
    async [Symbol.asyncDispose]() {
      socket.close();
      browser.kill();
      await browser.exited;
      rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

async function devToolsUrl(output: ReadableStream<Uint8Array>): Promise<string> {
  let text = "";
  for await (const piece of output) {
    text += Buffer.from(piece).toString();
    const match = /DevTools listening on (ws:\S+)/.exec(text);
    if (match !== null) return match[1] as string;
  }
  throw new Error(`chromium did not start: ${text}`);
}
