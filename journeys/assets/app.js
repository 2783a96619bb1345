// Keeps a page as it is now: the server says that something changed, the page is fetched again and its content replaced.
// Without this script every page works and shows what was so when it was loaded.
"use strict";

const content = document.getElementById("content");
const state = document.getElementById("live");
// Milliseconds between two fetches of one page.
const PAUSE = 2000;
// And until a stream that was refused is asked for again.
const LATER = 30000;
let source = null;
let timer = null;
let later = null;
// What happens while there is no stream nobody tells: the next one begins with a fetch.
let missed = false;

function begin() {
  if (source || document.hidden) return;
  clearTimeout(later);
  source = new EventSource(content.dataset.live);
  source.addEventListener("open", () => {
    say(state.dataset.on);
    if (missed) soon();
    missed = false;
  });
  source.addEventListener("changed", soon);
  // The browser comes again by itself, unless it was refused: no place is free, or a proxy says that the server is away.
  source.addEventListener("error", () => {
    say("");
    missed = true;
    if (source?.readyState !== EventSource.CLOSED) return;
    source = null;
    later = setTimeout(begin, LATER);
  });
}

function end() {
  clearTimeout(later);
  source?.close();
  source = null;
  missed = true;
  say("");
}

function soon() {
  timer ??= setTimeout(refresh, PAUSE);
}

async function refresh() {
  timer = null;
  // Whoever marks or types something is not disturbed.
  const chosen = document.getSelection();
  const busy = (chosen && !chosen.isCollapsed && content.contains(chosen.anchorNode)) || content.contains(document.activeElement?.closest("input, textarea, select"));
  if (document.hidden || busy) return soon();
  const answer = await fetch(location.href, { headers: { "spoor-live": "1" }, cache: "no-store" }).catch(() => null);
  // Signed out: the person sees it when they go on.
  if (answer?.redirected) return end();
  // The server is away, or has no answer now: what is shown is not up to date until it has.
  if (!answer || answer.status >= 500) {
    timer ??= setTimeout(refresh, LATER);
    return;
  }
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  const now = fresh.getElementById("content");
  if (!now || now.innerHTML === content.innerHTML) return;
  const open = [...content.querySelectorAll("details")].map((details) => details.open);
  const focused = document.activeElement?.closest("#content a[href], #content summary, #content button");
  const place = focused && [...content.querySelectorAll(focused.localName)].indexOf(focused);
  content.replaceChildren(...now.childNodes);
  content.querySelectorAll("details").forEach((details, at) => {
    details.open = open[at] ?? details.open;
  });
  if (focused) content.querySelectorAll(focused.localName)[place]?.focus({ preventScroll: true });
  if (document.title !== fresh.title) {
    document.title = fresh.title;
    // For those who do not see it.
    say(`${state.dataset.on}: ${fresh.title}`);
  }
}

function say(text) {
  state.textContent = text ?? "";
}

if (content.dataset.live) {
  begin();
  document.addEventListener("visibilitychange", () => (document.hidden ? end() : begin()));
  addEventListener("pagehide", end);
  addEventListener("pageshow", begin);
}
