/** The API as a page in a browser sees it: Swagger UI without the internet, and a WebSocket as a pipe. */
import { describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { startDaemon } from "../daemon-process.ts";
import { openPage } from "./browser.ts";

const isLab = process.env["P2PD_LAB"] === "1";

describe.skipIf(!isLab)("in headless Chromium", () => {
  test("Swagger UI lists every route, asks nobody else, and tries /version out with status 200", async () => {
    await using daemon = await startDaemon();
    await using page = await openPage(`http://127.0.0.1:${daemon.port}/`);
    await page.evaluate(until(".opblock-summary-path"));
    const description = (await daemon.get("/swagger/json")) as {
      paths: Record<string, Record<string, unknown>>;
    };
    const described = Object.entries(description.paths).flatMap(([path, verbs]) =>
      Object.keys(verbs).map((verb) => `${verb.toUpperCase()} ${path}`),
    );
    const shown = await page.evaluate(
      `[...document.querySelectorAll(".opblock-summary")].map((row) =>
         row.querySelector(".opblock-summary-method").textContent + " " +
         row.querySelector(".opblock-summary-path").dataset.path)`,
    );
    expect((shown as string[]).sort()).toEqual(described.sort());

    const status = await page.evaluate(`(async () => {
      const block = [...document.querySelectorAll(".opblock")]
        .find((b) => b.querySelector(".opblock-summary-path").dataset.path === "/version");
      const wait = (selector) => new Promise((resolve) => {
        const look = () => block.querySelector(selector) ?? undefined;
        if (look()) return resolve(look());
        new MutationObserver((_, observer) => {
          if (look()) { observer.disconnect(); resolve(look()); }
        }).observe(block, { childList: true, subtree: true });
      });
      block.querySelector(".opblock-summary-control").click();
      const tryOut = await wait(".try-out__btn");
      if (!tryOut.classList.contains("cancel")) tryOut.click();
      (await wait(".execute")).click();
      return (await wait(".live-responses-table tbody .response-col_status")).textContent.trim();
    })()`);
    expect(String(status)).toStartWith("200");
    const picture = await page.screenshot();
    expect(picture.length).toBeGreaterThan(10_000);
    const { SCREENSHOT: file } = process.env;
    if (file !== undefined) writeFileSync(file, picture);
    const strangers = page.requests.filter(
      (url) => !url.startsWith(`http://127.0.0.1:${daemon.port}/`) && !/^(data|blob):/.test(url),
    );
    expect(strangers).toEqual([]);
  }, 60_000);

  test("64 MiB through a WebSocket to the echo service and back are the same octets", async () => {
    await using daemon = await startDaemon();
    await daemon.get("/p2p/open/web/self?service=echo");
    await using page = await openPage(`http://127.0.0.1:${daemon.port}/swagger`);
    const result = await page.evaluate(`(async () => {
      const total = 64 * 1024 * 1024, piece = 65536;
      const sent = new Uint8Array(total);
      for (let at = 0; at < total; at += piece) crypto.getRandomValues(sent.subarray(at, at + piece));
      const received = new Uint8Array(total);
      const socket = new WebSocket("ws://" + location.host + "/p2p/pipe/web");
      socket.binaryType = "arraybuffer";
      let length = 0;
      await new Promise((resolve, reject) => {
        socket.onopen = resolve;
        socket.onerror = () => reject(new Error("the WebSocket failed"));
      });
      const complete = new Promise((resolve, reject) => {
        socket.onmessage = ({ data }) => {
          received.set(new Uint8Array(data), length);
          length += data.byteLength;
          if (length === total) resolve();
        };
        socket.onclose = ({ code, reason }) => reject(new Error("closed with " + code + " " + reason));
      });
      for (let at = 0; at < total; at += piece) socket.send(sent.subarray(at, at + piece));
      await complete;
      const closed = new Promise((resolve) => { socket.onclose = ({ code }) => resolve(code); });
      socket.close(1000);
      const hash = async (bytes) => [...new Uint8Array(await crypto.subtle.digest("SHA-256", bytes))].join();
      return { equal: (await hash(sent)) === (await hash(received)), code: await closed };
    })()`);
    expect(result).toEqual({ equal: true, code: 1000 });
  }, 120_000);
});

/** JavaScript that waits until the page has an element. */
function until(selector: string): string {
  return `new Promise((resolve) => {
    const look = () => document.querySelector(${JSON.stringify(selector)}) !== null;
    if (look()) return resolve(true);
    new MutationObserver((_, observer) => { if (look()) { observer.disconnect(); resolve(true); } })
      .observe(document, { childList: true, subtree: true });
  })`;
}
