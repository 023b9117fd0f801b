// The page works without this. With it: nothing reloads, search as you type, Ctrl+Z, progress, a token.
"use strict";
(() => {
const $ = (what, of = document) => of.querySelector(what);
const $$ = (what, of = document) => [...of.querySelectorAll(what)];
const KEY = "registry-wsgi token";
let token = "";
try { token = sessionStorage.getItem(KEY) || ""; } catch { /* it is kept until the next load */ }
let looking = null;  // the search that is under way
let adding = null;  // the sum that is under way
let watching = 0;  // the timer of the next look at a removal that somebody else has begun
let still = 0;  // the timer for as long as nothing is taken that may be a click on what was there before
let undos = [];  // the deletes of this tab, the latest last: of each what the form sends to undo it
const sent = new WeakSet();  // the forms that wait for their answer

// Asking the server

function keep(value) {
  token = value;
  try { value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY); } catch { /* as above */ }
  $("#forget").hidden = !value;
}

function askToken() {
  const box = $("#ask"), back = document.activeElement;
  $("#ask-p").textContent = token ? "That token is not right." : "It is kept for as long as this tab is open.";
  $("#token").value = box.returnValue = "";
  box.showModal();
  return new Promise(done => box.addEventListener("close", () => {
    const given = $("#token").value.trim();
    $("#token").value = "";
    back?.focus?.();
    if (box.returnValue === "ok" && given) keep(given);
    done(box.returnValue === "ok" && given);
  }, { once: true }));
}

async function ask(url, options = {}) {
  for (;;) {
    const headers = { ...options.headers };
    if (token) headers.Authorization = "Bearer " + String.fromCharCode(...new TextEncoder().encode(token));
    const answer = await fetch(url, { ...options, headers, cache: "no-store" });
    if (answer.status !== 401 || !/bearer/i.test(answer.headers.get("WWW-Authenticate"))) return answer;
    if (!await askToken()) throw new Error("A token is needed.");
  }
}

async function read(answer) {
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  const error = $("#error", fresh);
  if (error) throw new Error(error.textContent);
  if (!$("#main", fresh)) location.reload();  // a login, say: the browser shall see it
  return fresh;
}

// Showing: the server has rendered all there is, and its parts are put in the place of the old ones.

function say(text) { const box = $("#say"); box.textContent = ""; setTimeout(() => { box.textContent = text; }, 60); }

function labelled(label) { return label && $$("[aria-label]").find(e => e.getAttribute("aria-label") === label && !e.disabled); }

function show(fresh, focus) {
  const at = document.activeElement, label = at?.getAttribute("aria-label"), id = at?.id;
  const picked = new Set(picks().map(box => box.value)), y = scrollY;
  $("#main").replaceChildren(...$("#main", fresh).childNodes);
  for (const box of $$("#t input")) box.checked = picked.has(box.value);
  document.title = $("h1").textContent = fresh.title;
  scrollTo(0, y);
  settle();
  dress();
  const to = focus ? labelled(focus) || (focus[0] === "#" && $(focus)) : labelled(label) || (id && $("#" + id));
  (to || $("#models") || $("#plan") || $("#main")).focus({ preventScroll: !focus });
}

function settle() {  // a second click of a double click would meet another model's button
  clearTimeout(still);
  $("#main").classList.add("still");
  still = setTimeout(() => $("#main").classList.remove("still"), 700);
}

function earlier(notice) {  // offer to undo the delete before, too
  const last = undos.at(-1), form = document.createElement("form"), button = document.createElement("button");
  if (!last) return;
  form.method = "post";
  form.action = "do";
  for (const [name, value] of [["view", $("#list [name=view]")?.value || ""], ...last.map(one => ["deleted", one])]) {
    const field = document.createElement("input");
    Object.assign(field, { type: "hidden", name, value });
    form.append(field);
  }
  button.name = "restore";
  button.textContent = "Undo the delete of " + (last.length > 1 ? last.length + " models" : last[0].slice(last[0].indexOf(" ") + 1));
  form.append(button);
  notice.append(form);
}

function dress() {
  const notice = $("#notice");
  if (notice) {
    const made = $$("[name=deleted]", notice).map(field => field.value);
    made.length ? undos.push(made) : earlier(notice);
    const away = document.createElement("button");
    away.type = "button";
    away.className = "link";
    away.textContent = "Dismiss";
    away.addEventListener("click", () => { undos = []; notice.remove(); $("#models")?.focus({ preventScroll: true }); });
    notice.append(away);
    say($("p", notice).textContent + ($("[name=restore]", notice) ? ` To undo${made.length ? "" : " the delete before"}, press Control and Z.` : ""));
  }
  count().catch(() => { /* the number that is selected stands there */ });
  watch().catch(() => { /* how far it was stands there */ });
}

async function watch() {  // how far a removal is that somebody else has begun
  clearTimeout(watching);
  if (!$("#work")) return;
  await new Promise(done => { watching = setTimeout(done, 2000); });
  if (!document.hidden) {
    const now = $("#work", await read(await ask("./?part=work")));
    if (!now) {
      say($("#work").innerText = "The removal has ended. Refresh the page to see what it did.");
      return;
    }
    $("#work")?.replaceWith(now);
  }
  watch().catch(() => { /* the page is refreshed by hand */ });
}

function tell(text) {
  $("#notice")?.remove();
  const box = document.createElement("div"), p = document.createElement("p");
  box.id = "notice";
  box.className = "notice warn";
  p.textContent = text;
  box.append(p);
  $("#main").prepend(box);
  dress();
}

async function load(url, options, focus) {
  $("#main").setAttribute("aria-busy", "true");
  try {
    const answer = await ask(url, options), body = options?.body;
    if (body?.has("restore")) {
      const back = [body.get("restore"), ...body.getAll("deleted")];
      undos = undos.map(made => made.filter(one => !back.includes(one))).filter(made => made.length);
    }
    show(await read(answer), focus);
  } finally { $("#main").removeAttribute("aria-busy"); }
}

function guard(promise) {
  promise.catch(error => { if (error.name !== "AbortError") tell(error instanceof TypeError ? "The server cannot be reached." : error.message); });
}

// Doing

async function find() {
  looking?.abort();
  const mine = looking = new AbortController();
  await new Promise(done => setTimeout(done, 120));  // a server of 10,000 models need not list them for each key
  if (mine !== looking) return;
  const query = new URLSearchParams(new FormData($("#find")));
  const fresh = await read(await ask("./?part=list&" + query, { signal: mine.signal }));
  for (const part of ["#count", "#list form[method=post]"]) $(part).replaceWith($(part, fresh));
  history.replaceState(null, "", "./?" + query);
  say($("#count").textContent + " models");
  settle();
  await count();
}

const picks = () => $$("#t input:checked");

async function count() {
  adding?.abort();
  const mine = adding = new AbortController();
  const names = picks().map(box => box.value), sum = $("#sum");
  if (!sum) return;
  $("#pick").classList.toggle("off", !names.length);
  sum.textContent = `${names.length} selected`;
  if (!names.length) return;
  await new Promise(done => setTimeout(done, 200));  // who ticks many boxes wants one sum
  if (mine !== adding || mine.signal.aborted) return;
  const body = new URLSearchParams(names.map(name => ["model", name]));
  body.append("sum", "");
  const text = $("#notice p", await read(await ask("do", { method: "POST", body, signal: mine.signal }))).textContent;
  if (picks().map(box => box.value).join() === names.join()) sum.textContent = text;
}

function view(before) {  // which models are shown, as the server has it
  return before + encodeURIComponent($("#list [name=view]")?.value || "");
}

async function prune(body) {
  const answer = await ask("do", { method: "POST", body, headers: { Accept: "application/x-ndjson, text/html" } });
  if (!/ndjson/.test(answer.headers.get("Content-Type"))) return show(await read(answer), "#prune-h");
  const box = $("#plan"), label = document.createElement("label"), bar = document.createElement("progress");
  const p = document.createElement("p");
  label.append(bar);
  p.textContent = "It goes on if you leave this page.";
  box.replaceChildren(label, p);
  box.focus();
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "", last = {}, step = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      last = JSON.parse(line);
      if (!("completed" in last)) continue;
      if (last.status !== step) { label.firstChild.data ? label.firstChild.data = last.status : label.prepend(last.status); say(step = last.status); }
      if (last.total) { bar.max = last.total; bar.value = last.completed; } else bar.removeAttribute("value");
    }
  }
  if (last.status !== "success") {
    await load("./", {}, "#prune-h");
    throw new Error(last.error || "The connection broke. The prune goes on; refresh to see what it did.");
  }
  const query = view("view=") + "&" + new URLSearchParams({ models: last.models, blobs: last.blobs, bytes: last.bytes, held: last.held_bytes, failed: last.failed });
  await load("./?" + query, {}, "#prune-h");
}

function next(button) {  // where the focus goes when the row of *button* is gone
  let row = button?.closest("tr")?.nextElementSibling;
  while (row && ($("input:checked", row) || !$("button", row))) row = row.nextElementSibling;
  return row && $("button", row).getAttribute("aria-label");
}

document.addEventListener("submit", event => {
  const form = event.target, from = event.submitter;
  if (form.method === "dialog") return;
  event.preventDefault();
  const body = new URLSearchParams(new FormData(form));
  if (from?.name) body.append(from.name, from.value);
  if (form.id === "find") return guard(find());
  if (form.method === "get") return guard(load("prune?" + body + view("&view="), {}, "#plan"));
  if (sent.has(form) || ($("#main.still") && !from?.closest("#notice"))) return;
  sent.add(form);
  adding?.abort();
  const free = () => sent.delete(form);
  if (body.has("prune")) return guard(prune(body).finally(free));
  const focus = body.has("delete") ? next(from) || "#models" : body.has("forget") ? "#prune-h" : undefined;
  guard(load("do", { method: "POST", body }, focus).finally(free));
});

document.addEventListener("click", event => {
  const to = event.target.closest("a")?.getAttribute("href") || "";
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  const plan = to.startsWith("prune?");
  if (!plan && !to.startsWith("./")) return;
  event.preventDefault();
  const [url, part] = to.split("#");
  guard(load(plan || url === "./" ? url + view(plan ? "&view=" : "?view=") : url, {}, plan ? "#plan" : part === "prune" ? "#look button" : part && "#" + part));
});

document.addEventListener("input", event => {
  if (event.target.closest("#find")) guard(find());
  if (event.target.closest("#t")) guard(count());
});

document.addEventListener("keydown", event => {
  const undo = $("#notice [name=restore]");
  if (undo && event.key === "z" && (event.ctrlKey || event.metaKey) && !event.shiftKey && !/^(text|search|password)$/.test(event.target.type)) {
    event.preventDefault();
    undo.click();
  }
});

$("#forget").addEventListener("click", () => { keep(""); location.reload(); });
$("#forget").hidden = !token;
document.documentElement.classList.add("on");
dress();
if ($("#locked")) guard(load("./" + location.search, {}, "#models"));
})();
