// A browser, a running server and an invitation → what is wrong with the pages, as an error.
//
// node drive.mjs NODE_MODULES CHROMIUM BASE INVITATION OTLP

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { mkdirSync } from "node:fs";

const [modules, executablePath, base, invitation, otlp] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const { chromium } = require("playwright-core");
const axe = require("axe-core");

const PASSWORD = "a long password";
const WIDTHS = { wide: { width: 1200, height: 900 }, narrow: { width: 390, height: 844 } };
let state;
const pictures = process.env.SPOOR_PICTURES;

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
try {
  await people(await browser.newContext({ locale: "en-GB" }));
  await live();
  await pages();
  console.log("pages: all well");
} finally {
  await browser.close();
}

/// Everything a person does with forms: each needs the browser to say that the form is ours.
async function people(context) {
  const page = await watched(context);
  await page.goto(invitation);
  await page.fill("#password", PASSWORD);
  await page.fill("#again", "another password");
  await submit(page, "form.login");
  assert.match(await page.innerText("[role=alert]"), /differ/);
  await page.fill("#password", PASSWORD);
  await page.fill("#again", PASSWORD);
  await submit(page, "form.login");
  assert.equal(new URL(page.url()).pathname, "/", "an accepted invitation signs in");
  assert.equal(await page.innerText(".me span"), "anna");

  await page.fill("#q", "3");
  await submit(page, "form.search");
  assert.equal(new URL(page.url()).pathname, "/orders/3", "one hit is the order itself");
  const pin = page.locator("form[action$='/pin'] button");
  assert.equal(await pin.innerText(), "Pin");
  await Promise.all([page.waitForNavigation(), pin.click()]);
  assert.equal(await pin.innerText(), "Unpin");
  await Promise.all([page.waitForNavigation(), pin.click()]);
  assert.equal(await pin.innerText(), "Pin");

  await submit(page, "form[action='/logout']");
  assert.equal(new URL(page.url()).pathname, "/login");
  await page.goto(`${base}/orders/3`);
  assert.equal(new URL(page.url()).pathname, "/login", "signed out");
  await page.fill("#name", "anna");
  await page.fill("#password", "a wrong password");
  await submit(page, "form.login");
  assert.match(await page.innerText("[role=alert]"), /not right/);
  await page.fill("#name", "anna");
  await page.fill("#password", PASSWORD);
  await submit(page, "form.login");
  assert.equal(new URL(page.url()).pathname, "/orders/3", "back to where one wanted to be");

  // The same form with its place hidden, as another site's would be.
  const token = await page.getAttribute("input[name=token]", "value");
  const [answer] = await Promise.all([
    page.waitForResponse((answer) => answer.url().endsWith("/pin")),
    page.evaluate((token) => {
      document.head.append(Object.assign(document.createElement("meta"), { name: "referrer", content: "no-referrer" }));
      const form = Object.assign(document.createElement("form"), { method: "post", action: "/orders/3/pin" });
      for (const [name, value] of Object.entries({ token, pinned: "true" })) {
        form.append(Object.assign(document.createElement("input"), { type: "hidden", name, value }));
      }
      document.body.append(form);
      form.submit();
    }, token),
  ]);
  assert.equal(await answer.request().headerValue("origin"), "null");
  assert.equal(answer.status(), 403, "a form with a hidden origin is refused");
  await page.close();
  state = await context.storageState();
  await context.close();
}



/// An open page shows what happened since, keeps what was opened, and says that it is up to date.
async function live() {
  const context = await browser.newContext({ locale: "en-GB", storageState: state });
  const [order, now] = [await watched(context), await watched(context)];
  await order.goto(`${base}/orders/live-1`);
  await send("live-1", 1, "created");
  await order.goto(`${base}/orders/live-1`);
  await now.goto(base);
  await now.bringToFront();
  await now.waitForFunction(() => document.getElementById("live").textContent !== "");
  await order.bringToFront();
  await order.waitForFunction(() => document.getElementById("live").textContent !== "");
  await order.click("details summary");
  await send("live-1", 2, "submitted");
  await order.waitForFunction(() => document.getElementById("content").innerText.includes("submitted"), null, { timeout: 30000 });
  assert.ok(await order.locator("details").first().evaluate((details) => details.open), "what was open stays open");
  await now.bringToFront();
  await now.waitForFunction(() => document.getElementById("content").innerText.includes("live-1"), null, { timeout: 30000 });
  // While there is no stream, as when the server ends one or a network breaks, nobody says what happens.
  const cut = await context.newPage();
  let streams = 0;
  await cut.route("**/events", (route) => (++streams === 1 ? route.fulfill({ contentType: "text/event-stream", body: "retry: 2000\n\n" }) : route.continue()));
  await cut.goto(`${base}/orders/live-1`);
  await cut.waitForFunction(() => document.getElementById("live").textContent === "");
  await send("live-1", 3, "confirmed");
  await cut.waitForFunction(() => document.getElementById("content").innerText.includes("confirmed"), null, { timeout: 30000 });
  assert.ok(streams > 1);
  await context.close();
}

/// Sends one committed write of a status, as a tracer does.
async function send(order, n, status) {
  const text = (key, value) => ({ key, value: { stringValue: value } });
  const at = BigInt(Date.now()) * 1000000n;
  const span = {
    traceId: "0".repeat(31) + "1", spanId: "0".repeat(15) + n, name: "UPDATE orders", kind: 3,
    startTimeUnixNano: String(at), endTimeUnixNano: String(at + 1000000n),
    attributes: [text("order.id", order), text("order.status", status), text("db.system.name", "postgresql"), text("db.query.summary", "UPDATE orders")],
  };
  const resource = { attributes: [text("service.name", "shop")] };
  const body = JSON.stringify({ resourceSpans: [{ resource, scopeSpans: [{ spans: [span] }] }] });
  const answer = await fetch(`${otlp}/v1/traces`, { method: "POST", body, headers: { "content-type": "application/json" } });
  assert.equal(answer.status, 200);
}

/// Every page: nothing wider than the window and nothing refused by our own policy, in both sizes and languages; no violation of
/// accessibility, in each size, language and scheme of colours once.
async function pages() {
  const paths = ["/", "/orders", "/stuck", "/map", "/queues", "/services", "/coverage", "/alerts", "/alerts/1", "/rules", "/rules/order-failed", "/orders/1/compare?with=2", "/orders/1", "/orders/2", "/orders/5", "/orders/3/trace", "/orders/999", "/access", "/login"];
  const looks = Object.keys(WIDTHS).flatMap((size) => [[size, "en", "light"], [size, "ru", "dark"]]);
  await Promise.all(looks.map((one) => look(paths, ...one)));
  // Trials are made one at a time.
  for (const one of looks) await look(["/rules/order-failed/try"], ...one);
}

async function look(paths, size, language, colorScheme) {
  const context = await browser.newContext({ locale: language, viewport: WIDTHS[size], colorScheme, storageState: state });
  const page = await watched(context);
  for (const path of paths) {
    const answer = await page.goto(base + path);
    assert.ok([200, 404].includes(answer.status()), `${path}: ${answer.status()}`);
    assert.equal(await page.getAttribute("html", "lang"), language, path);
    const { scroll, window } = await page.evaluate(() => ({
      scroll: document.documentElement.scrollWidth,
      window: document.documentElement.clientWidth,
    }));
    assert.ok(scroll <= window, `${path} is ${scroll} pixels wide in a window of ${window} (${size})`);
    if ((size === "wide") === (language === "en")) {
      await page.evaluate(axe.source);
      const found = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ["violations"] }));
      const wrong = found.violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" ")}`);
      assert.deepEqual(wrong, [], `${path}, ${size}, ${language}, ${colorScheme}`);
    }
    if (pictures) {
      mkdirSync(pictures, { recursive: true });
      const name = `${path.replaceAll(/[^a-z0-9]/g, "-").replace(/^-/, "") || "now"}-${size}-${language}.png`;
      await page.screenshot({ path: `${pictures}/${name}`, fullPage: true });
    }
  }
  await context.close();
}

/// A page on which what the browser complains of is an error.
async function watched(context) {
  const page = await context.newPage();
  page.on("console", (said) => {
    if (said.type() === "error" && !/status of (4|5)\d\d/.test(said.text())) throw new Error(`${page.url()}: ${said.text()}`);
  });
  page.on("pageerror", (error) => {
    throw error;
  });
  return page;
}

async function submit(page, form) {
  await Promise.all([page.waitForNavigation(), page.locator(`${form} button`).click()]);
}
