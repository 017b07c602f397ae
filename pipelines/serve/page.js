"use strict";
const at = (id) => document.getElementById(id);
const percent = (share) => (100 * share).toFixed(1) + " %";
const thresholds = JSON.parse(at("thresholds").textContent);

async function health() {
  const mark = at("health");
  let ready = false;
  try {
    ready = (await fetch("v2/health/ready", { cache: "no-store" })).ok;
  } catch { /* not reached: not ready */ }
  mark.textContent = ready ? "ready" : "not ready";
  mark.className = "health " + (ready ? "ready" : "down");
}

function say(text, bad) {
  at("said").textContent = text;
  at("said").className = bad ? "said bad" : "said";
}

function cell(row, content, name) {
  const made = row.insertCell();
  made.append(content);
  if (name) made.className = name;
}

function show(answer) {
  const body = at("answers");
  body.replaceChildren();
  for (const found of answer.predictions) {
    const row = body.insertRow();
    const bound = (thresholds[found.outcome] || {})[found.horizon_days];
    const learnt = !answer.not_learnt.includes(found.outcome);
    if (learnt && bound !== undefined && found.probability >= bound) row.className = "over";
    const bar = document.createElement("meter");
    bar.value = learnt ? found.probability : 0;
    cell(row, found.outcome.replaceAll("_", " "));
    cell(row, String(found.horizon_days), "n");
    cell(row, learnt ? percent(found.probability) : "not learnt", "n");
    cell(row, bound === undefined ? "" : percent(bound), "n");
    cell(row, bar);
  }
  at("result").hidden = false;
  const lost = answer.rejected.length ? `, ${answer.rejected.length} rows left out` : "";
  say(`As of ${answer.prediction_time.slice(0, 16).replace("T", " ")} UTC: ${answer.codes.read} coded events, ` +
    `${answer.codes.unknown} of them unknown${lost}.`, false);
}

async function score(event) {
  event.preventDefault();
  const button = at("send");
  const headers = { "Content-Type": "application/json" };
  if (at("token").value) headers.Authorization = "Bearer " + at("token").value;
  const time = at("at").value.trim();
  at("result").hidden = true;
  button.disabled = true;
  say("Scoring …", false);
  try {
    const where = "score" + (time ? "?at=" + encodeURIComponent(time) : "");
    const response = await fetch(where, { method: "POST", headers, body: at("bundle").value });
    const answer = await response.json();
    if (response.ok) show(answer);
    else say(answer.error, true);
  } catch {
    say("The server could not be reached.", true);
  }
  button.disabled = false;
}

at("form").addEventListener("submit", score);
health();
setInterval(health, 15000);
